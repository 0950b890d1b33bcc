"""Effect sizes of paired differences, and how many subjects would show them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import FEWEST
from .ties import tied

__all__ = [
    "FEWEST_TO_SHOW",
    "LEVEL",
    "Effect",
    "rank_biserial",
    "standardised",
    "to_show",
]

LEVEL = 0.05
"""Of the tests: a difference of which p is below it shows."""

FEWEST_TO_SHOW = 6
"""Subjects from which a two-sided signed-rank test can go below that."""


@dataclass(frozen=True)
class Effect:
    """An effect size with its 95 % interval, NaN where there is none.

    Attributes
    ----------
    value : float
    low, high : float
    """

    value: float
    low: float
    high: float


def standardised(gap: NDArray[np.float64], *, level: float = 0.95) -> Effect:
    """Return the mean difference in standard deviations of the differences, d_z.

    Its interval holds for normal differences: the noncentralities under which the
    observed t is at either end (Steiger and Fouladi, 1997).

    Parameters
    ----------
    gap : ndarray of float, shape (subjects,)
        Differences between two methods on the same subjects.
    level : float

    Returns
    -------
    Effect
        0 where no subject differs, NaN where all differ by the same, within a
        thousandth.
    """
    nan = float("nan")
    if not gap.any():
        return Effect(0.0, 0.0, 0.0) if len(gap) >= FEWEST else Effect(0.0, nan, nan)
    # Squares of tiny differences would be zero; a power of two changes no digit.
    gap = np.ldexp(gap, -np.frexp(np.abs(gap).max())[1])
    mean = float(gap.mean())
    if len(gap) < 2 or gap.std(ddof=1) <= 1e-3 * abs(mean):
        return Effect(nan, nan, nan)
    value = mean / float(gap.std(ddof=1))
    if len(gap) < FEWEST:
        return Effect(value, nan, nan)
    root = math.sqrt(len(gap))
    low, high = _noncentralities(abs(value) * root, len(gap) - 1, level)
    if value < 0:
        low, high = -high, -low
    return Effect(value, low / root, high / root)


def _noncentralities(t: float, freedom: int, level: float) -> tuple[float, float]:
    """Return the noncentralities that leave a positive t at either end."""
    from scipy.optimize import brentq
    from scipy.stats import nct

    def beyond(shift: float, share: float) -> float:
        return float(nct.cdf(t, freedom, shift)) - share

    width = 8 * np.sqrt(1 + t**2 / (2 * freedom))
    outer, inner = (1 + level) / 2, (1 - level) / 2
    # Far from a large t the distribution cannot be computed on the other side of 0.
    start = 0.0 if beyond(0.0, outer) > 0 else t - width
    return (
        float(brentq(beyond, start, t, args=(outer,))),
        float(brentq(beyond, t, t + width, args=(inner,))),
    )


def rank_biserial(gap: NDArray[np.float64], *, level: float = 0.95) -> Effect:
    """Return the matched-pairs rank-biserial correlation (Kerby, 2014).

    Of the ranks of absolute differences, the share that is positive less the share
    that is negative; differences of zero are left out. The interval is Fisher's, with
    the deviation of the signed-rank sum where nothing differs.

    Parameters
    ----------
    gap : ndarray of float, shape (subjects,)
    level : float

    Returns
    -------
    Effect
        0 where no subject differs. Where all differ in one direction the value is 1
        or -1, and its interval NaN.
    """
    from scipy.stats import norm, rankdata

    nan, gap = float("nan"), tied(gap)
    moved = gap[gap != 0]
    if not len(moved):
        return Effect(0.0, nan, nan)
    ranks = rankdata(np.abs(moved))
    value = float((ranks * np.sign(moved)).sum() / ranks.sum())
    if len(gap) < FEWEST or abs(value) > 1 - 1e-12:
        return Effect(value, nan, nan)
    n = len(moved)
    deviation = np.sqrt((2 * n**3 + 3 * n**2 + n) / 6) / ((n**2 + n) / 2)
    reach = norm.ppf((1 + level) / 2) * deviation
    low, high = np.tanh(np.arctanh(value) + np.array([-reach, reach]))
    return Effect(value, float(low), float(high))


def to_show(
    gap: NDArray[np.float64], difference: float = 0.02, *, power: float = 0.8
) -> int | None:
    """Return how many subjects would show a difference, were others to vary as these.

    The fewest with which a two-sided paired t test at 0.05 finds it with that power,
    by the noncentral t distribution. At least six, as a signed-rank test needs.

    Parameters
    ----------
    gap : ndarray of float, shape (subjects,)
        Differences found, whose deviation is taken for the true one.
    difference : float
        The true mean difference to be found.
    power : float

    Returns
    -------
    int or None
        None with fewer than five subjects, whose deviation says too little.
    """
    if len(gap) < FEWEST or np.isnan(gap).any():
        return None
    deviation = float(gap.std(ddof=1))
    if deviation <= 1e-12:
        return FEWEST_TO_SHOW
    size = difference / deviation
    few, many = FEWEST_TO_SHOW - 1, FEWEST_TO_SHOW
    while _power(many, size) < power:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if _power(middle, size) >= power else (middle, many)
    return many


def _power(subjects: int, size: float) -> float:
    """Return the power of a two-sided paired t test at 0.05."""
    from scipy.stats import nct, t

    freedom, shift = subjects - 1, size * np.sqrt(subjects)
    edge = t.ppf(0.975, freedom)
    found = nct.sf(edge, freedom, shift) + nct.cdf(-edge, freedom, shift)
    return float(found)
