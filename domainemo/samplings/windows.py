"""Single windows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from ..core import Rows, Sampling
from ..registry import register

__all__ = ["Windows"]


@register
class Windows(Sampling):
    """Every window is a sample of its own."""

    level: ClassVar[str] = "window"

    def rows(self, windows: pd.DataFrame) -> Rows:
        """Return each window's number; shape (windows, 1)."""
        return np.arange(len(windows), dtype=np.int64)[:, None]
