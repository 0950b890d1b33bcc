"""Values as they were recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import Normalisation
from ..registry import register

__all__ = ["NoNormalisation"]


@register(name="none")
class NoNormalisation(Normalisation):
    """Leave the values as they are."""

    by = "nothing"
    words = "not normalised"

    def fit(self, seen: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Learn nothing."""
        return {}

    def apply(
        self, values: NDArray[np.float32], learned: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[Any]:
        """Return the same values."""
        return values
