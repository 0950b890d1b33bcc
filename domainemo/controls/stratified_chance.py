"""Guesses in the proportions of the source's classes."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, Control, Rows
from ..registry import register
from ..values import SEEDS

__all__ = ["StratifiedChance"]


@register
class StratifiedChance(Control):
    """A class drawn for each trial, as often as it is among the source's windows.

    It draws, and does not say how likely each class is: of such probabilities the
    first class would always win, as for `majority-class`. One draw serves all windows
    of a trial, as one label does, so that the scores spread as chance does with so few
    trials.

    Parameters
    ----------
    seed : int
        Of the draws; a trial's is the same in every fold.
    """

    words = "a class drawn for each trial by the source's class shares"

    def __init__(self, *, seed: Annotated[int, SEEDS] = 0) -> None:
        self.seed = seed

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
        trials = windows.groupby(TRIAL, sort=True).ngroup().to_numpy()
        draws = np.random.default_rng(self.seed).random(trials.max() + 1)
        up_to = np.cumsum(np.bincount(labels)) / len(labels)
        # The first class whose share, with all before it, is above the draw.
        return np.asarray(np.searchsorted(up_to, draws[trials[test]], side="right"))
