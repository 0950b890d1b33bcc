"""Values that were scaled before they came here, over more than one window."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .summaries import Summary, starts_of

__all__ = ["Level", "groups_of", "scaled_over"]

Level = Literal["trial", "session", "subject", "everybody"]

_LEVELS: tuple[Level, ...] = ("trial", "session", "subject", "everybody")
"""Over what values may have been scaled, the narrowest first."""

_COLUMNS: dict[Level, list[str]] = {
    "trial": ["subject", "session", "trial"],
    "session": ["subject", "session"],
    "subject": ["subject"],
    "everybody": [],
}
_FEWEST_WINDOWS = 8
_MOST = 0.95  # of the features; a few may have been clipped, or added later
_OFF = 1e-3  # what rounding, or n - 1 in place of n, leaves of the mean and of 1
_EXACT = 1e-6


def groups_of(windows: pd.DataFrame, level: Level) -> NDArray[np.intp]:
    """Return which trial, session or subject each window is of, counted from 0."""
    columns = _COLUMNS[level]
    if not columns:
        return np.zeros(len(windows), dtype=np.intp)
    codes = windows.groupby(columns, sort=False).ngroup()
    return np.asarray(codes.to_numpy(), dtype=np.intp)


def scaled_over(windows: pd.DataFrame, summary: Summary) -> Level | None:
    """Return over what a modality was z-scored or scaled to a range; None for neither.

    Means of 0 and deviations of 1 in every trial, session or subject do not come about
    by themselves, nor do the same bounds in all features.

    Parameters
    ----------
    windows : DataFrame
        Each trial in one stretch.
    summary : Summary
        Of the modality's trials.
    """
    firsts = starts_of(windows, _COLUMNS["trial"])
    for level in _LEVELS:
        found = summary.over(groups_of(windows.iloc[firsts], level))
        told = (found.count >= _FEWEST_WINDOWS) & (found.high > found.low)
        if told.sum() < _FEWEST_WINDOWS or told.any(axis=1).mean() < _MOST:
            continue
        shares = (each[told].mean() for each in (_z_scored(found), _bounded(found)))
        if max(shares) >= _MOST:
            return level
    return None


def _z_scored(found: Summary) -> NDArray[np.bool_]:
    count = np.maximum(found.count, 2)
    mean = found.total / count
    squares = found.squares - count * mean**2
    unit = np.zeros(mean.shape, dtype=bool)
    for divisor in (count, count - 1):
        spread = np.sqrt(np.maximum(squares, 0) / divisor)
        unit |= np.abs(spread - 1) < _OFF
    return np.asarray(unit & (np.abs(mean) < _OFF))


def _bounded(found: Summary) -> NDArray[np.bool_]:
    """Return where the smallest value is 0 or -1, and the largest is 1."""
    low = (np.abs(found.low) < _EXACT) | (np.abs(found.low + 1) < _EXACT)
    return np.asarray(low & (np.abs(found.high - 1) < _EXACT))
