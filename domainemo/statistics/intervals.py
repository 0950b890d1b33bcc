"""Bootstrap intervals of a mean over subjects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST", "bootstrap_interval"]

FEWEST = 5
"""Subjects from which an interval or a test is given: of fewer there is no more to
say than their range."""

_RESAMPLES = 10_000


def bootstrap_interval(
    values: NDArray[np.float64], *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the bootstrap interval of the mean.

    Bias-corrected and accelerated (BCa; Efron, 1987), by :func:`scipy.stats.bootstrap`,
    and expanded for few subjects (Hesterberg, 2015, section 3.3): resamples of n values
    spread too little, by the square root of (n - 1) / n, and by a normal rather than by
    Student's t distribution, so that their outermost shares are taken smaller in turn.

    Parameters
    ----------
    values : ndarray of float, shape (subjects,)
        One value per subject, the unit of analysis.
    level : float
        Coverage aimed at. How often it is reached: ``docs/comparing.md``.
    seed : int
        Of the resampling.

    Returns
    -------
    low, high : float
        NaN with fewer than five subjects, or where a value is NaN; the value itself
        where all are equal.
    """
    from scipy.stats import bootstrap

    values = np.asarray(values, dtype=float)
    if len(values) < FEWEST or np.isnan(values).any():
        return float("nan"), float("nan")
    # Equal but for rounding: the resamples have no spread to correct with.
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return float(values.mean()), float(values.mean())
    # A power of two changes no digit, and keeps cubes of tiny or huge values in range.
    _, exponent = np.frexp(np.ptp(values))
    found = bootstrap(
        (np.ldexp(values, -exponent),),
        np.mean,
        confidence_level=_expanded(level, len(values)),
        n_resamples=_RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    low, high = np.ldexp([found.low, found.high], exponent)
    return float(low), float(high)


def _expanded(level: float, subjects: int) -> float:
    """Return the level of a bootstrap interval that covers as Student's t does."""
    from scipy.stats import norm, t

    reach = np.sqrt(subjects / (subjects - 1)) * t.isf((1 - level) / 2, subjects - 1)
    return float(1 - 2 * norm.sf(reach))
