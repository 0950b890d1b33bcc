"""What a table of subjects allows to be said: intervals and paired comparisons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Comparison", "bootstrap_interval", "compare"]

_RESAMPLES = 10_000
# Resampling fewer subjects says little more than their range.
_FEWEST = 5


def bootstrap_interval(
    values: NDArray[np.float64], *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean.

    Parameters
    ----------
    values : ndarray of float, shape (subjects,)
        One value per subject, the unit of analysis.
    level : float
        Coverage aimed at.
    seed : int
        Of the resampling.

    Returns
    -------
    low, high : float
        NaN with fewer than five subjects.
    """
    if len(values) < _FEWEST:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(values), size=(_RESAMPLES, len(values)))
    means = values[draws].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """A paired difference over subjects.

    Attributes
    ----------
    difference : float
        Mean of first minus second.
    low, high : float
        95 % bootstrap interval of the difference.
    p : float
        Two-sided Wilcoxon signed-rank test; 1 where all differences are zero, NaN
        with fewer than five subjects.
    subjects : int
    """

    difference: float
    low: float
    high: float
    p: float
    subjects: int


def compare(first: NDArray[np.float64], second: NDArray[np.float64]) -> Comparison:
    """Compare two methods on the same subjects.

    Parameters
    ----------
    first, second : ndarray of float, shape (subjects,)
    """
    from scipy.stats import wilcoxon

    gap = first - second
    low, high = bootstrap_interval(gap)
    if len(gap) < _FEWEST:
        p = float("nan")
    elif not gap.any():
        p = 1.0
    else:
        p = float(wilcoxon(first, second).pvalue)
    return Comparison(float(gap.mean()), low, high, p, len(gap))
