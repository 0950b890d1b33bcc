"""The commonest class, whatever was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Control, Rows
from ..registry import register

__all__ = ["MajorityClass"]


@register
class MajorityClass(Control):
    """The source's commonest class, always."""

    words = "always the source's commonest class"

    def predict(
        self,
        windows: pd.DataFrame,
        source: Rows,
        labels: NDArray[np.int64],
        target: Rows,
        test: Rows,
        values: NDArray[np.float64],
    ) -> NDArray[Any]:
        """Return the same class for every window."""
        return np.full(len(test), np.bincount(labels).argmax())
