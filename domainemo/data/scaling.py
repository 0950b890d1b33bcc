"""Values that were scaled before they came here, over more than one window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL
from .summaries import Summary, starts_of

__all__ = ["Level", "Looks", "groups_of", "look_at", "scaled_over"]

Level = Literal["trial", "session", "subject", "everybody"]

_LEVELS: tuple[Level, ...] = ("trial", "session", "subject", "everybody")
"""Over what values may have been scaled, the narrowest first."""

_COLUMNS: dict[Level, list[str]] = {
    "trial": TRIAL,
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


Looks = Mapping[Level, tuple[NDArray[np.bool_], NDArray[np.intp]]]
"""For each level: in which groups something can be told, and of how many columns of
groups, how many are z-scored, and how many scaled to a range."""


def look_at(windows: pd.DataFrame, summary: Summary) -> Looks:
    """Return of how many columns it can be told that they were scaled, and which are.

    Parameters
    ----------
    windows : DataFrame
        Each trial in one stretch.
    summary : Summary
        Of the modality's trials, or of some of its channels.
    """
    firsts = starts_of(windows, _COLUMNS["trial"])
    looks = {}
    for level in _LEVELS:
        found = summary.over(groups_of(windows.iloc[firsts], level))
        told = (found.count >= _FEWEST_WINDOWS) & (found.high > found.low)
        kinds = told, told & _z_scored(found), told & _bounded(found)
        groups = np.asarray(told.any(axis=1), dtype=bool)
        looks[level] = groups, np.array([each.sum() for each in kinds])
    return looks


def scaled_over(looks: Sequence[Looks]) -> Level | None:
    """Return over what a modality was z-scored or scaled to a range; None for neither.

    Means of 0 and deviations of 1 in every trial, session or subject do not come about
    by themselves, nor do the same bounds in all features.

    Parameters
    ----------
    looks : sequence of Looks
        At all of its channels, some at a time.
    """
    for level in _LEVELS:
        groups = np.logical_or.reduce([each[level][0] for each in looks])
        told, *scaled = np.sum([each[level][1] for each in looks], axis=0)
        if told < _FEWEST_WINDOWS or groups.mean() < _MOST:
            continue
        if max(scaled) >= _MOST * told:
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
