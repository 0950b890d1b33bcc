"""Two methods on the same subjects: tests, effect sizes and what they allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .bayesian import Chances, signed_rank
from .effects import Effect, rank_biserial, standardised, to_show
from .intervals import FEWEST, bootstrap_interval
from .ties import gap_between, tied

__all__ = ["Comparison", "compare", "sign_flip", "wilcoxon"]


# Subjects up to which every assignment of signs is gone through.
_EXACT = 13


@dataclass(frozen=True)
class Comparison:
    """A paired difference over subjects.

    What needs more subjects than there are is NaN; of five or more, nothing does.

    Attributes
    ----------
    difference : float
        Mean of first minus second.
    low, high : float
        95 % bootstrap interval of the difference.
    p : float
        Two-sided Wilcoxon signed-rank test; 1 where all differences are zero.
    permutation : float
        Two-sided sign-flip permutation test of the mean.
    standardised, rank_biserial : Effect
        See :mod:`domainemo.statistics.effects`.
    chances : Chances
        Of being worse, practically equal or better.
    needed : int or None
        Subjects that would show a difference of 0.02.
    subjects : int
    """

    difference: float
    low: float
    high: float
    p: float
    permutation: float
    standardised: Effect
    rank_biserial: Effect
    chances: Chances
    needed: int | None
    subjects: int


def compare(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    *,
    rope: float = 0.02,
    seed: int = 0,
) -> Comparison:
    """Compare two methods on the same subjects.

    Parameters
    ----------
    first, second : ndarray of float, shape (subjects,)
        One value per subject, averaged over seeds.
    rope : float
        Differences of up to this are practically none, for ``chances``.
    seed : int
        Of what is drawn at random.

    Raises
    ------
    ConfigurationError
        If a subject has no finite value by one of them.
    """
    gap = gap_between(np.asarray(first, dtype=float), np.asarray(second, dtype=float))
    if not np.isfinite(gap).all():
        missing = np.flatnonzero(~np.isfinite(gap))
        raise ConfigurationError(
            f"Two methods are compared on the same subjects: found no finite value for "
            f"{len(missing)} of {len(gap)}, the first at place {missing[0]}; expected "
            f"one by each method. Leave these subjects out."
        )
    low, high = bootstrap_interval(gap, seed=seed)
    return Comparison(
        difference=float(gap.mean()),
        low=low,
        high=high,
        p=wilcoxon(gap),
        permutation=sign_flip(gap, seed=seed),
        standardised=standardised(gap),
        rank_biserial=rank_biserial(gap),
        chances=signed_rank(gap, rope=rope, seed=seed),
        needed=to_show(gap),
        subjects=len(gap),
    )


def wilcoxon(gap: NDArray[np.float64]) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test.

    Parameters
    ----------
    gap : ndarray of float, shape (subjects,)
        Differences; 1 is returned where all are zero, NaN for fewer than five.
    """
    from scipy.stats import rankdata
    from scipy.stats import wilcoxon as signed_ranks

    if len(gap) < FEWEST:
        return float("nan")
    gap = tied(gap)
    if not gap.any():
        return 1.0
    sizes = np.abs(gap)
    if len(gap) <= _EXACT and (len(np.unique(sizes)) < len(gap) or not sizes.all()):
        # What SciPy does with ties and zeros, by a loop that takes seconds.
        ranks = rankdata(sizes) - (sizes == 0).sum()
        return _flipped(ranks * np.sign(gap), 0)
    return float(signed_ranks(gap).pvalue)


def sign_flip(gap: NDArray[np.float64], *, seed: int = 0) -> float:
    """Return the two-sided p of the permutation test that flips signs.

    By :func:`scipy.stats.permutation_test`: exact of up to 13 subjects, of more with
    9,999 random assignments of signs and the observed one.

    Parameters
    ----------
    gap : ndarray of float, shape (subjects,)
        Differences; 1 is returned where all are zero, NaN for fewer than five.
    seed : int
    """
    return float("nan") if len(gap) < FEWEST else _flipped(gap, seed)


def _flipped(values: NDArray[np.float64], seed: int) -> float:
    """Return the two-sided p of a sum among those of randomly signed values."""
    from scipy.stats import permutation_test

    step = float(np.abs(values).sum()) / 2**30  # sums that differ by less are equal

    def total(signed: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = (signed.sum(axis) / (step or 1.0)).round()
        return sums

    found = permutation_test(
        (values,),
        total,
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        rng=np.random.default_rng(seed),
    )
    return float(min(1.0, found.pvalue))
