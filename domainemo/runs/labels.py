"""Few labels: which trials of a fold's source have one."""

from __future__ import annotations

import numpy as np

from ..core import EmotionData, Fold, Rows
from ..training.seeds import derive_seed

__all__ = ["labelled_rows"]


def labelled_rows(data: EmotionData, fold: Fold, share: float, seed: int) -> Rows:
    """Return the windows of a fold's source whose labels may be used.

    Whole trials are drawn, of every class that share of its trials and at least one.
    Trials are drawn in one random order, so that a larger share holds the smaller
    one's trials. Nothing but the source's own labels is looked at.

    Parameters
    ----------
    data : EmotionData
    fold : Fold
    share : float
        Above 0, up to 1, which takes all.
    seed : int
    """
    if share == 1:
        return fold.source
    windows = data.inputs.windows.iloc[fold.source]
    trials = windows.groupby(["subject", "session", "trial"], sort=True).ngroup()
    labels = data.labels[fold.source]
    generator = np.random.default_rng(derive_seed(seed, fold.name, "labelled"))
    kept = np.zeros(len(fold.source), dtype=bool)
    for label in np.unique(labels):
        theirs = np.unique(trials.to_numpy()[labels == label])
        count = max(round(share * len(theirs)), 1)
        drawn = generator.permutation(theirs)[:count]
        kept |= np.isin(trials, drawn) & (labels == label)
    return fold.source[kept]
