"""The class of source trials of the same number: what the order of clips gives away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Control, Rows
from ..registry import register
from .shared import commonest

__all__ = ["TrialIndexOnly"]


@register
class TrialIndexOnly(Control):
    """A trial's class from its number alone.

    It is the commonest class of the source's trials with that number in the same
    session; else in any session; else of the whole source.
    """

    words = "the class of the source trials of the same number in the session"

    def predict(
        self,
        windows: pd.DataFrame,
        source: Rows,
        labels: NDArray[np.int64],
        target: Rows,
        test: Rows,
        values: NDArray[np.float64],
    ) -> NDArray[Any]:
        """Return one class for all windows of a trial."""
        found = np.full(len(test), np.bincount(labels).argmax())
        # What is more alike overrides what is less.
        for alike in (["trial"], ["session", "trial"]):
            known = commonest(windows.iloc[source], labels, alike)
            asked = pd.MultiIndex.from_frame(windows.iloc[test][alike])
            places = pd.MultiIndex.from_frame(known[alike]).get_indexer(asked)
            there = places >= 0
            found[there] = known["label"].to_numpy()[places[there]]
        return found
