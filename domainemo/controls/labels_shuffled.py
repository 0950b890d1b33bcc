"""The run's own training on labels that mean nothing: what leaks is still there."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, Retraining
from ..registry import register

__all__ = ["LabelsShuffled"]


@register
class LabelsShuffled(Retraining):
    """The run's network and adapter, trained on each subject's labels shuffled.

    Whole trials exchange labels, with others of the same subject, so that each keeps
    its number of trials of every class. Nothing is left to learn: a mean over subjects
    that stays above chance says that the evaluation leaks. A single fold may lie far
    from chance on either side, as what look like two classes may be named the other
    way round.
    """

    words = "the run's own training, each subject's labels shuffled among its trials"

    def relabel(
        self,
        windows: pd.DataFrame,
        labels: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return the labels shuffled."""
        trials = windows.groupby(TRIAL, sort=True).ngroup().to_numpy()
        _, first = np.unique(trials, return_index=True)
        known, subjects = labels[first], windows["subject"].to_numpy()[first]
        for subject in dict.fromkeys(subjects):
            own = subjects == subject
            known[own] = generator.permutation(known[own])
        return known[trials]
