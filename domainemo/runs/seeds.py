"""What the random numbers of a fold's training depend on: its source, and its name."""

from __future__ import annotations

import pandas as pd

from ..core import Fold
from ..training.seeds import derive_seed

__all__ = ["source_seed"]


def source_seed(seed: int, windows: pd.DataFrame, fold: Fold, *what: object) -> int:
    """Return a seed that depends on who the source is, and not on what is tested.

    So a person is predicted by the same bits under any name, and as a newcomer or as a
    fold of a data set alike.

    Parameters
    ----------
    seed : int
        Of the run.
    windows : DataFrame
        Provenance of the windows that the fold counts.
    fold : Fold
    what : object
        What is drawn, where it is not the training itself.
    """
    source = windows.iloc[fold.source][["subject", "session"]].drop_duplicates()
    names = sorted(map(repr, source.astype(str).itertuples(index=False, name=None)))
    return derive_seed(seed, *names, *what)
