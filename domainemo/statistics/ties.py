"""Scores that are equal, whatever rounding did to their last digits.

A score is a mean of shares, such as 7 of 10: in floating-point numbers .8 less .7 is
not .7 less .6, and a mean over seeds depends on their order. Ranks, zeros and signs
would be those of the last digit.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["gap_between", "reaches", "tied"]

_BITS = 30
"""Of the 53 that a number has; nine digits."""

Values = TypeVar("Values", NDArray[np.float64], "pd.Series[float]", pd.DataFrame)
Paired = TypeVar("Paired", NDArray[np.float64], "pd.Series[float]")


def tied(values: Values) -> Values:
    """Return values for ranking: those are the same that differ by rounding alone.

    Nine digits of the largest are kept. What is ranked is not to be added up: a third
    that is rounded is no third.

    Parameters
    ----------
    values : ndarray, Series or DataFrame
        Scores, or differences of scores. A NaN stays one.
    """
    sizes = np.abs(np.asarray(values, dtype=float))
    largest = float(np.max(sizes, initial=0.0, where=np.isfinite(sizes)))
    # By a power of two, so that the size of values changes nothing.
    step = np.ldexp(1.0, int(np.frexp(largest)[1]) - _BITS) if largest else 1.0
    kept: Values = (values / step).round() * step
    return kept


def gap_between(first: Paired, second: Paired) -> Paired:
    """Return the first less the second, zero where rounding is all that is left.

    Parameters
    ----------
    first, second : ndarray or Series
        Scores of the same subjects.
    """
    gap: Paired = first - second
    sizes = np.maximum(np.abs(first), np.abs(second))
    gap[np.abs(gap) < np.ldexp(sizes, -_BITS)] = 0.0
    return gap


def reaches(score: float, other: float) -> bool:
    """Return whether a score is as high as another, but for rounding."""
    rounding = math.ldexp(max(abs(score), abs(other)), -_BITS)
    return score >= other or other - score < rounding
