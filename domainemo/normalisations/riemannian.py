"""Riemannian re-centring: the identity is the mean of each session's covariances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core import Normalisation
from ..data.normalisation import scale_of
from ..errors import DataError
from ..registry import register
from ..words import count
from .whitening import WAYS, standardised, symmetric_power

__all__ = ["Riemannian", "riemannian_mean"]

Array = NDArray[np.float64]

_ROUNDING = 1e-4  # share of a matrix's largest value by which it may be asymmetric
_TOLERANCE = 1e-8  # Frobenius norm of the mean logarithm, per row, at the mean
_STEPS = 200


@register
class Riemannian(Normalisation):
    r"""Covariances re-centred at the identity, session by session; z-scores of others.

    .. math:: \tilde C_i = M^{-1/2} C_i M^{-1/2}

    where :math:`M` is the mean of a session's covariances :math:`C_i` with regard to
    the affine-invariant distance (Zanini, Congedo, Jutten, Said and Berthoumieu, IEEE
    Transactions on Biomedical Engineering 65, 2018). What a session does to all its
    signals, such as other gains or a shifted cap, is so undone but for a rotation.

    A sensor's windows are covariances where they have as many features as channels and
    every complete one is symmetric; other sensors are z-scored. An entry that is
    missing counts as that of :math:`M`.

    Parameters
    ----------
    by : {"session", "subject"}
        Whose windows are re-centred together.

    Raises
    ------
    DataError
        If a symmetric matrix is not positive definite, or none of a session is
        complete.
    """

    by: Literal["session", "subject"]

    def __init__(self, *, by: Literal["session", "subject"] = "session") -> None:
        self.by = by
        self.words = (
            f"covariances by Riemannian re-centring, others z-scored, {WAYS[by]}"
        )

    def fit(self, seen: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Return the mean covariance and its inverse root; of others, the scale.

        Parameters
        ----------
        seen : ndarray of float, shape (windows, channels, features)
        """
        covariances = _covariances(seen)
        if not len(covariances):
            return vars(scale_of(seen, np.arange(len(seen))))
        mean = riemannian_mean(covariances)
        return {"centre": mean, "whitening": symmetric_power(mean, -0.5)}

    def apply(
        self, values: NDArray[np.float32], learned: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[Any]:
        """Return re-centred covariances, or z-scores; what is missing stays so.

        Parameters
        ----------
        values : ndarray of float, shape (windows, channels, features)
        learned : mapping of str to ndarray
        """
        if "centre" not in learned:
            return standardised(values, learned).astype(np.float32)
        missing = np.isnan(values)
        filled = np.where(missing, learned["centre"], values).astype(np.float64)
        root = learned["whitening"].astype(np.float64)
        return np.where(missing, np.nan, root @ filled @ root).astype(np.float32)


def _covariances(seen: NDArray[np.float32]) -> Array:
    """Return the complete windows if they are covariances, else none."""
    none: Array = np.empty((0, *seen.shape[1:]))
    complete = seen[np.isfinite(seen).all(axis=(1, 2))].astype(np.float64)
    if seen.shape[1] != seen.shape[2] or seen.shape[1] < 2:
        return none
    if not len(complete):
        _refuse_incomplete(seen)
        return none
    size = np.abs(complete).max(axis=(1, 2))
    apart = np.abs(complete - complete.swapaxes(1, 2)).max(axis=(1, 2))
    if (apart > _ROUNDING * size).any():
        return none
    covariances: Array = (complete + complete.swapaxes(1, 2)) / 2
    lowest = np.linalg.eigvalsh(covariances)[:, 0]
    wrong = int((lowest <= np.finfo(np.float32).eps * size).sum())
    if wrong:
        raise DataError(
            f"The normalisation 'riemannian' met {wrong} of "
            f"{count(len(complete), 'window')} that are symmetric, of {seen.shape[1]} "
            f"channels, but not positive definite; expected covariances of full rank. "
            f"Shrink them, leave channels out, or choose another normalisation, such "
            f"as 'session'."
        )
    return covariances


def _refuse_incomplete(seen: NDArray[np.float32]) -> None:
    """Raise :class:`DataError` where covariances lack channels in every window.

    As z-scores they would be of another size than those of other sessions.
    """
    there = seen[np.isfinite(seen).any(axis=(1, 2))].astype(np.float64)
    size = np.nan_to_num(np.abs(there)).max(axis=(1, 2), keepdims=True)
    other = there.swapaxes(1, 2)
    alike = np.isclose(there, other, rtol=0, atol=_ROUNDING * size, equal_nan=True)
    if len(there) and alike.all():
        raise DataError(
            f"The normalisation 'riemannian' met a session of "
            f"{count(len(there), 'window')} that are symmetric, of {seen.shape[1]} "
            f"channels, some of which are missing in each; expected complete "
            f"covariances among them. Interpolate the channels, leave them out "
            f"(--exclude), or choose another normalisation, such as 'session'."
        )


def riemannian_mean(covariances: Array) -> Array:
    r"""Return the mean with regard to the affine-invariant distance.

    The fixed point of

    .. math:: M \leftarrow M^{1/2} \exp\Big(\frac{\tau}{n} \sum_i
        \log(M^{-1/2} C_i M^{-1/2})\Big) M^{1/2}

    from the arithmetic mean, until the mean logarithm is zero to 1e-8 per row;
    :math:`\tau` is 1, and halved where that made it larger.

    Parameters
    ----------
    covariances : ndarray of float, shape (windows, channels, channels)
        Symmetric and positive definite.

    Returns
    -------
    ndarray of float, shape (channels, channels)

    Raises
    ------
    DataError
        If it is not found in 200 steps.
    """
    mean: Array = covariances.mean(axis=0)
    step, before = 1.0, float("inf")
    for _ in range(_STEPS):
        root, inverse = symmetric_power(mean, 0.5), symmetric_power(mean, -0.5)
        logarithm = _map(np.log, inverse @ covariances @ inverse).mean(axis=0)
        size = float(np.linalg.norm(logarithm)) / len(mean)
        if size < _TOLERANCE:
            return mean
        if size > before:
            step /= 2
        before = size
        mean = root @ _map(np.exp, step * logarithm) @ root
    raise DataError(
        f"The normalisation 'riemannian' found no mean of {len(covariances)} "
        f"covariances in {_STEPS} steps; expected matrices that are well conditioned. "
        f"Shrink them, or choose another normalisation, such as 'session'."
    )


def _map(function: np.ufunc, matrices: Array) -> Array:
    """Apply a function to the eigenvalues of symmetric matrices."""
    eigenvalues, vectors = np.linalg.eigh(matrices)
    scaled = vectors * function(eigenvalues)[..., None, :]
    return np.asarray(scaled @ vectors.swapaxes(-1, -2))
