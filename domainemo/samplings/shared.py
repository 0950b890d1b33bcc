"""The trials of a windows table, and samples of unequal length as one array."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..core import TRIAL, Rows

__all__ = ["padded", "trials_of"]


def trials_of(windows: pd.DataFrame) -> Iterator[Rows]:
    """Yield the window numbers of each trial in order of time."""
    groups = windows.groupby(TRIAL, sort=True)
    start = windows["start"].to_numpy()
    codes = groups["start"].ngroup().to_numpy()  # of one column: twice as quick
    order = np.lexsort((start, codes))
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    yield from np.split(order.astype(np.int64), edges)


def padded(runs: list[Rows], length: int) -> Rows:
    """Return rows of `length` windows, -1 behind those of a shorter run."""
    rows = np.full((len(runs), length), -1, dtype=np.int64)
    for row, run in zip(rows, runs, strict=True):
        row[: len(run)] = run
    return rows
