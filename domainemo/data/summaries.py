"""What each trial's values are like, told once for all who look for leaks in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL

__all__ = ["Summary", "starts_of", "summarise"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Of each trial and column of one modality, the windows summed up.

    A column is a feature of a channel. NaN and 0 stand where no window has a value.

    Attributes
    ----------
    low, high : ndarray of float32, shape (trials, columns)
    count, total, squares : ndarray of float, shape (trials, columns)
        How many values there are, their sum and the sum of their squares.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    count: Float
    total: Float
    squares: Float

    def over(self, groups: NDArray[np.intp]) -> Summary:
        """Return the same of groups of trials.

        Parameters
        ----------
        groups : ndarray of int, shape (trials,)
            The group of each trial, counted from 0.
        """
        order = np.argsort(groups, kind="stable")
        firsts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        return Summary(
            np.fmin.reduceat(self.low[order], firsts),
            np.fmax.reduceat(self.high[order], firsts),
            np.add.reduceat(self.count[order], firsts),
            np.add.reduceat(self.total[order], firsts),
            np.add.reduceat(self.squares[order], firsts),
        )


def starts_of(windows: pd.DataFrame, columns: list[str]) -> NDArray[np.intp]:
    """Return the first row of each stretch in which these columns stay the same."""
    changes = np.zeros(len(windows), dtype=bool)
    changes[:1] = True
    for column in columns:  # to group by all takes far longer than to look at each
        codes, _ = pd.factorize(windows[column])
        changes[1:] |= codes[1:] != codes[:-1]
    return np.flatnonzero(changes)


def summarise(windows: pd.DataFrame, array: NDArray[np.float32]) -> Summary:
    """Sum up values of a modality, trial by trial.

    Parameters
    ----------
    windows : DataFrame
        Each trial in one stretch.
    array : ndarray of float32, shape (windows, channels, features)
    """
    starts = starts_of(windows, TRIAL)
    array = array.reshape(len(windows), -1)
    shape = len(starts), array.shape[1]
    low, high = (np.full(shape, np.nan, dtype=np.float32) for _ in range(2))
    count, total, squares = (np.zeros(shape) for _ in range(3))
    # One trial at a time: what is mapped from disk is not copied as a whole.
    for trial, values in enumerate(np.split(array, starts[1:])):
        known = ~np.isnan(values)
        np.fmin.reduce(values, out=low[trial])
        np.fmax.reduce(values, out=high[trial])
        plain = np.where(known, values, np.float64(0))
        count[trial] = known.sum(0)
        total[trial] = plain.sum(0)
        squares[trial] = np.square(plain, out=plain).sum(0)
    return Summary(low, high, count, total, squares)
