"""Euclidean alignment: the channels' mean covariance is the identity for everybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core import Normalisation
from ..data.normalisation import scale_of
from ..registry import register
from .whitening import WAYS, decorrelation, standardised

__all__ = ["EuclideanAlignment"]


@register(name="euclidean-alignment")
class EuclideanAlignment(Normalisation):
    r"""Channels whitened by their mean covariance over a session's windows (EA).

    .. math:: \tilde X_i = \bar R^{-1/2} X_i, \quad
        \bar R = \frac{1}{nF} \sum_{i=1}^n X_i X_i^\top

    for windows :math:`X_i` of shape (channels, :math:`F` features), so that the mean
    covariance of the channels is the identity in every session (He and Wu, IEEE
    Transactions on Biomedical Engineering 67, 2020).

    Ours: the columns are features, where the paper has a trial's samples. As features
    have means and units of their own, and so have other sensors' channels,
    :math:`X_i` are z-scores. :math:`\bar R` is shrunk towards a multiple of the
    identity (Ledoit and Wolf, 2004), and divided by :math:`F`, so that values keep the
    size of z-scores. A missing value counts as the mean. A sensor of single features
    per channel is whitened as by `Whitening`.

    Parameters
    ----------
    by : {"session", "subject"}
        Whose windows are aligned together.
    """

    by: Literal["session", "subject"]

    def __init__(self, *, by: Literal["session", "subject"] = "session") -> None:
        self.by = by
        self.words = f"by Euclidean alignment {WAYS[by]}"

    def fit(self, seen: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Return mean, deviation and the channels' whitening matrix.

        Parameters
        ----------
        seen : ndarray of float, shape (windows, channels, features)
        """
        scale = vars(scale_of(seen, np.arange(len(seen))))
        scores = standardised(seen, scale)
        there = np.isfinite(scores).any(axis=(1, 2))
        columns = np.nan_to_num(scores[there]).swapaxes(1, 2).reshape(-1, seen.shape[1])
        return {**scale, "whitening": decorrelation(columns)}

    def apply(
        self, values: NDArray[np.float32], learned: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[Any]:
        """Return aligned windows; what is missing stays so.

        Parameters
        ----------
        values : ndarray of float, shape (windows, channels, features)
        learned : mapping of str to ndarray
        """
        scores = standardised(values, learned)
        found = learned["whitening"] @ np.nan_to_num(scores)
        return np.where(np.isnan(scores), np.nan, found).astype(np.float32)
