"""Whitening: all of a sensor's values uncorrelated, and of unit variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core import Normalisation
from ..data.normalisation import scale_of
from ..errors import DataError
from ..registry import register

__all__ = ["Whitening", "decorrelation", "standardised", "symmetric_power"]

Array = NDArray[np.float64]

_MOST = 1024  # values of a window: the matrix has that many rows and columns
_LEAST = 1e-2  # of the mean eigenvalue: what is below is rounding, or too few windows

WAYS: Mapping[str, str] = {
    "session": "per subject and session (the target by its own windows)",
    "subject": "per subject (by all its visible windows)",
}
"""How results name whose windows are learned from."""


@register
class Whitening(Normalisation):
    r"""Values uncorrelated and of unit variance, session by session (as in CORAL).

    .. math:: \tilde x = \Sigma^{-1/2} z

    where :math:`z` are the z-scores of all channels and features of a window, and
    :math:`\Sigma` is their covariance, shrunk towards a multiple of the identity
    (Ledoit and Wolf, 2004). Where every domain is whitened, their second moments agree
    (Sun, Feng and Saenko, AAAI 2016; they whiten the source and then give it the
    target's covariance, which leaves the target as it is, and needs one target and one
    source). The square root is the symmetric one: each value stays closest to what it
    was.

    A missing value counts as the mean. Of few windows next to nothing is known of
    :math:`\Sigma`, so that what is left are the z-scores.

    Parameters
    ----------
    by : {"session", "subject"}
        Whose windows are whitened together.

    Raises
    ------
    DataError
        If a window of a sensor holds more than 1024 values.
    """

    by: Literal["session", "subject"]

    def __init__(self, *, by: Literal["session", "subject"] = "session") -> None:
        self.by = by
        self.words = f"whitened {WAYS[by]}"

    def fit(self, seen: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Return mean, deviation and the whitening matrix of the z-scores.

        Parameters
        ----------
        seen : ndarray of float, shape (windows, channels, features)
        """
        values = seen[0].size
        if values > _MOST:
            raise DataError(
                f"The normalisation 'whitening' met windows of {values} values; "
                f"expected {_MOST} at most, as it correlates each with every other. "
                f"Choose 'euclidean-alignment', which correlates channels."
            )
        scale = vars(scale_of(seen, np.arange(len(seen))))
        known = _known(standardised(seen, scale)).reshape(-1, values)
        return {**scale, "whitening": decorrelation(known)}

    def apply(
        self, values: NDArray[np.float32], learned: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[Any]:
        """Return whitened windows; what is missing stays so.

        Parameters
        ----------
        values : ndarray of float, shape (windows, channels, features)
        learned : mapping of str to ndarray
        """
        scores = standardised(values, learned)
        flat = np.nan_to_num(scores).reshape(len(scores), -1)
        found = (flat @ learned["whitening"].T).reshape(scores.shape)
        return np.where(np.isnan(scores), np.nan, found).astype(np.float32)


def standardised(
    values: NDArray[np.float32], scale: Mapping[str, NDArray[np.float32]]
) -> Array:
    """Return distances from the mean in deviations, in double precision.

    Parameters
    ----------
    values : ndarray of float, shape (windows, channels, features)
    scale : mapping of str to ndarray of shape (channels, features)
        ``mean`` and ``deviation``.
    """
    return (values.astype(np.float64) - scale["mean"]) / scale["deviation"]


def _known(scores: Array) -> Array:
    """Return the windows that are there, the mean in place of a missing value."""
    return np.nan_to_num(scores[np.isfinite(scores).any(axis=(1, 2))])


def decorrelation(rows: Array) -> Array:
    r"""Return :math:`\Sigma^{-1/2}` of z-scores, with their shrunk covariance.

    Eigenvalues below a hundredth of their mean count as that much. A value that is zero
    in all rows is left out of it.

    Parameters
    ----------
    rows : ndarray of float, shape (samples, values)
        Of mean zero.

    Returns
    -------
    ndarray of float, shape (values, values)
        Symmetric.
    """
    from sklearn.covariance import ledoit_wolf

    varying = rows.any(axis=0)
    found = np.eye(rows.shape[1])
    if len(rows) > 1 and varying.any():
        covariance, _ = ledoit_wolf(rows[:, varying], assume_centered=True)
        found[np.ix_(varying, varying)] = symmetric_power(covariance, -0.5, _LEAST)
    return found


def symmetric_power(matrices: Array, exponent: float, least: float = 0.0) -> Array:
    """Return a power of symmetric matrices, by their eigenvalues.

    Parameters
    ----------
    matrices : ndarray of float, shape (..., values, values)
    exponent : float
    least : float
        The share of their mean that eigenvalues have at least.
    """
    eigenvalues, vectors = np.linalg.eigh(matrices)
    lowest = least * eigenvalues.mean(axis=-1, keepdims=True)
    powers = np.maximum(eigenvalues, lowest) ** exponent
    return np.asarray((vectors * powers[..., None, :]) @ vectors.swapaxes(-1, -2))
