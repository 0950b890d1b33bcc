"""Z-scores: by each session's, each subject's or the source's mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import Normalisation
from ..data.normalisation import scale_of
from ..registry import register

__all__ = ["BySession", "BySource", "BySubject"]


class _ZScore(Normalisation):
    """Distance from the mean, in deviations."""

    def fit(self, seen: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Return mean and deviation; 0 and 1 of what is missing in all windows."""
        return vars(scale_of(seen, np.arange(len(seen))))

    def apply(
        self, values: NDArray[np.float32], learned: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[Any]:
        """Return distances from the mean, in deviations."""
        mean, deviation = learned["mean"], learned["deviation"]
        with np.errstate(over="ignore"):
            found = (values - mean) / deviation
            if np.isinf(found).any():  # a difference of huge values, not their quotient
                wide = values.astype(np.float64) - mean
                found = (wide / deviation).astype(np.float32)
        return np.asarray(found, dtype=np.float32)


@register(name="session")
class BySession(_ZScore):
    """Z-score per subject and session, the target by its own windows."""

    by = "session"
    words = "z-scored per subject and session (the target by its own windows)"


@register(name="subject")
class BySubject(_ZScore):
    """Z-score per subject, by all its windows that may be seen."""

    by = "subject"
    words = "z-scored per subject (by all its visible windows)"


@register(name="source")
class BySource(_ZScore):
    """Z-score by the source alone, whoever the window is of."""

    by = "source"
    words = "z-scored by the source alone"
