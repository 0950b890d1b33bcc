"""The Bayesian signed-rank test with a region of practical equivalence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import FEWEST

__all__ = ["Chances", "signed_rank"]

_DRAWS = 20_000
# Strength of the prior, one pseudo-subject without a difference.
_PRIOR = 0.5


@dataclass(frozen=True)
class Chances:
    """Posterior probabilities that a method is worse, practically equal, or better.

    Attributes
    ----------
    worse, equal, better : float
        They sum to 1; NaN with fewer than five subjects.
    """

    worse: float
    equal: float
    better: float


def signed_rank(
    gap: NDArray[np.float64], *, rope: float = 0.02, seed: int = 0
) -> Chances:
    """Return how probably a method is better by more than a region of equivalence.

    Benavoli, Corani, Demsar and Zaffalon (2017): the subjects' weights are drawn from
    their Dirichlet posterior; a draw goes to the region in which the means of two
    subjects' differences fall most often, and is split where regions tie.

    Parameters
    ----------
    gap : ndarray of float, shape (subjects,)
        First method minus second.
    rope : float
        Differences of up to this in either direction are practically none.
    seed : int
    """
    if len(gap) < FEWEST or np.isnan(gap).any():
        return Chances(*3 * [float("nan")])
    values = np.append(gap, 0.0)
    means = (values[:, None] + values) / 2
    # A difference of just the region's width is inside, whatever rounding did to it.
    reach = rope + 1e-9
    weights = np.random.default_rng(seed).dirichlet(
        np.append(np.ones(len(gap)), _PRIOR), size=_DRAWS
    )
    worse, better = (
        ((weights @ there.astype(float)) * weights).sum(1)
        for there in (means < -reach, means > reach)
    )
    shares = np.stack([worse, 1 - worse - better, better], axis=1)
    most = shares >= shares.max(1, keepdims=True) - 1e-12
    chances = (most / most.sum(1, keepdims=True)).mean(0)
    return Chances(*(float(value) for value in chances))
