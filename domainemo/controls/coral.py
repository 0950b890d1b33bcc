"""CORAL (Sun et al. 2016): the source in the colours of the target."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from ..registry import register
from ..values import Bounds
from .shared import Adapting, Features, by_blocks

__all__ = ["LinearCORAL", "recolouring"]


@register(name="linear-coral")
class LinearCORAL(Adapting):
    """CORAL: whiten the source, re-colour it as the target, then the linear model.

    ``x -> (x - m_s) (C_s + r I)^(-1/2) (C_t + r I)^(1/2) + m_t`` with the means `m` and
    covariances `C` of both (Sun, Feng & Saenko 2016, r = 1). The paper standardises
    each domain before; here the mean is moved in its place.

    The target's mean and covariance hold its class shares, too: where these differ from
    the source's, a difference that tells the class is taken away.

    Parameters
    ----------
    regularisation : float
        What is added to both covariances' diagonal; features have variance 1.
    """

    words = "CORAL: the source re-coloured as the target, then the linear model"

    def __init__(
        self, *, regularisation: Annotated[float, Bounds(above=0)] = 1.0
    ) -> None:
        self.regularisation = regularisation

    def adapt(
        self,
        source: Features,
        target: Features,
        tested: Features,
        labels: NDArray[np.int64],
        domains: NDArray[np.int64],
    ) -> tuple[Features, Features]:
        """Return the source re-coloured, and the tested windows as they are."""
        before, matrix, after = recolouring(source, target, self.regularisation)
        moved = by_blocks(source, lambda x: (x - before) @ matrix + after, out=source)
        return moved, tested


def recolouring(
    source: Features, target: Features, regularisation: float
) -> tuple[Features, Features, Features]:
    """Return the source's mean, the matrix that re-colours it, and the target's mean.

    Parameters
    ----------
    source, target : ndarray of float, shape (windows, features)
    regularisation : float
        Above 0, so that a single window has a covariance as well.

    Returns
    -------
    before : ndarray of float, shape (features,)
    matrix : ndarray of float, shape (features, features)
    after : ndarray of float, shape (features,)
    """
    (before, whiten), (after, colour) = (
        (part.mean(0), _power(part, regularisation, exponent))
        for part, exponent in ((source, -0.5), (target, 0.5))
    )
    return before, whiten @ colour, after


def _power(windows: Features, regularisation: float, exponent: float) -> Features:
    """Return a power of a regularised covariance."""
    centred = windows - windows.mean(0)
    covariance = centred.T @ centred / max(len(windows) - 1, 1)
    values, vectors = np.linalg.eigh(covariance)
    # Rounding makes some slightly negative.
    values = np.maximum(values, 0) + regularisation
    found: Features = (vectors * values**exponent) @ vectors.T
    return found
