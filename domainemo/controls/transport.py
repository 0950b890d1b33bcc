"""What controls by optimal transport compute alike."""

from __future__ import annotations

import numpy as np

from .shared import Features

__all__ = ["REMEDY", "barycentric", "cost_scale", "costs"]

REMEDY = "It is used as it was then; a larger option `regularisation` converges sooner."
"""What is told of a plan that has not converged."""


def costs(one: Features, other: Features) -> Features:
    """Return squared distances of all pairs, shape (len(one), len(other))."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(one, other, "sqeuclidean"))


def cost_scale(cost: Features) -> float:
    """Return the median cost; 1 where it is 0."""
    found = float(np.median(cost))
    return found if found > 0 else 1.0


def barycentric(
    windows: Features, target: Features, potential: Features, scale: float
) -> Features:
    """Return the mean of the target windows that each window's mass goes to.

    An entropic plan is ``exp(f_i + g_j - C_ij / scale)``, so that the shares of row i,
    also of one that was not there, are ``softmax_j(g_j - C_ij / scale)`` (Pooladian &
    Niles-Weed 2021).

    Parameters
    ----------
    windows : ndarray of float, shape (windows, features)
    target : ndarray of float, shape (target, features)
    potential : ndarray of float, shape (target,)
        The logarithm `g` of the plan's scaling of each target window.
    scale : float
        Regularisation times the scale of the cost.
    """
    from scipy.special import softmax

    shares = softmax(potential - costs(windows, target) / scale, axis=1)
    return np.asarray(shares @ target)
