"""Z-scores of the electrodes among themselves, sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import Normalisation
from ..registry import register

__all__ = ["AcrossElectrodes"]


@register(name="across-electrodes")
class AcrossElectrodes(Normalisation):
    r"""EEG z-scored across its electrodes at each sample; other sensors as they are.

    .. math:: \tilde x_{c,t} = (x_{c,t} - m_t) / s_t

    with mean :math:`m_t` and standard deviation :math:`s_t` over the electrodes
    :math:`c` at sample, or feature, :math:`t` of a window: PhysioSync's input scaling
    (IEEE TCSS 2025, doi 10.1109/TCSS.2025.3602913; code MSA-LMC/PhysioSync), of raw
    signals there. It learns nothing from other windows, and so nothing of the target.

    Where all electrodes agree, or one alone is there, they are zero. The released code
    leaves samples that are exactly zero out of mean and deviation; here they count. On
    DREAMER it scales the two leads of the ECG as well, which makes each value 1 or -1.
    """

    by = "nothing"
    words = "EEG z-scored across electrodes at each sample, other sensors as they are"
    kinds = ("eeg",)

    def fit(self, seen: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Learn nothing."""
        return {}

    def apply(
        self, values: NDArray[np.float32], learned: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[Any]:
        """Return each sample's z-scores; what is missing stays so.

        Parameters
        ----------
        values : ndarray of float, shape (windows, channels, features)
        learned : mapping of str to ndarray
        """
        wide = values.astype(np.float64)
        there = np.isfinite(wide)
        count = np.maximum(there.sum(axis=1, keepdims=True), 1)
        mean = np.where(there, wide, 0).sum(axis=1, keepdims=True) / count
        apart = wide - mean
        squares = np.square(np.where(there, apart, 0)).sum(axis=1, keepdims=True)
        deviation = np.sqrt(squares / count)
        # What is left of values that agree is rounding.
        least = np.maximum(1e-6 * np.abs(mean), np.finfo(np.float32).tiny)
        alike = deviation <= least
        scaled = np.where(alike & there, 0, apart / np.where(alike, 1, deviation))
        return scaled.astype(np.float32)
