"""EEG features of one trial as readers of raw recordings offer them.

A trial is filtered as a whole, with what was recorded before its first window as
run-in, and then cut; so the filter's onset falls where nothing is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigurationError
from .features import BANDS, band_power, differential_entropy

__all__ = ["EEGFeature", "EEGFeatures", "mean_second_removed"]

Array = NDArray[np.float64]

EEGFeature = Literal["de", "psd", "raw"]
"""Differential entropy, logarithm of the power spectral density, or the samples."""

_WORDS = {
    "de": "differential entropy, by zero-phase filters that are not causal",
    "psd": "logarithm of the power spectral density",
}
_UNITS = {"de": "nat", "psd": "ln(uV^2/Hz)", "raw": "uV"}


@dataclass(frozen=True)
class EEGFeatures:
    """Which features of the EEG, in which windows.

    Parameters
    ----------
    data_set : str
        Its registered name, for messages.
    sampling_rate : int
        In Hz.
    feature : {"de", "psd", "raw"}
    bands : tuple of str
        Names of :data:`~domainemo.data.signals.features.BANDS`; raw samples have none.
    window : float
        In seconds, 0.5 to 60 and at least a period of the slowest band. It is rounded
        to whole samples.
    known : tuple of str
        The bands that the recordings hold.

    Raises
    ------
    ConfigurationError
        If one of these does not fit.
    """

    data_set: str
    sampling_rate: int
    feature: EEGFeature
    bands: tuple[str, ...]
    window: float
    known: tuple[str, ...] = tuple(BANDS)

    def __post_init__(self) -> None:
        fits = set(self.bands) <= set(self.known)
        if not self.bands or not fits or len(set(self.bands)) < len(self.bands):
            raise ConfigurationError(
                f"{self.data_set}: found bands={self.bands!r}; expected some of "
                f"{', '.join(self.known)}, each once: the recordings hold no others."
            )
        slowest = min(BANDS[band][0] for band in self.bands)
        shortest = 0.5 if self.feature == "raw" else max(0.5, 1 / slowest)
        if not shortest <= self.window <= 60:
            raise ConfigurationError(
                f"{self.data_set}: found window={self.window!r}; expected {shortest:g} "
                f"to 60 s, the shortest clips being little longer than a minute and "
                f"a window no shorter than a period of its slowest band."
            )

    @property
    def samples(self) -> int:
        """Samples in a window."""
        return round(self.window * self.sampling_rate)

    @property
    def seconds(self) -> float:
        """Length of a window after rounding to whole samples."""
        return self.samples / self.sampling_rate

    @property
    def names(self) -> tuple[str, ...]:
        """Names along the axis of features: bands, or numbers of samples from 0."""
        if self.feature == "raw":
            return tuple(map(str, range(self.samples)))
        return self.bands

    @property
    def unit(self) -> str:
        """Unit of the features of a recording in microvolts."""
        return _UNITS[self.feature]

    def describe(self) -> str:
        """Say features and windows in words."""
        windows = f"windows of {self.seconds:g} s"
        if self.feature == "raw":
            return f"raw samples in {windows}"
        return f"{_WORDS[self.feature]}, of {', '.join(self.bands)} in {windows}"

    def of(self, recording: NDArray[Any], first: int = 0) -> Array:
        """Return the features of the windows from a sample on.

        Parameters
        ----------
        recording : ndarray of shape (channels, samples)
            In microvolts; finite, with at least one window after `first`.
        first : int
            The sample at which the first window begins; what precedes it is run-in
            for the filters.

        Returns
        -------
        ndarray of shape (windows, channels, features)
        """
        if self.feature == "raw":
            return self.cut(recording[:, first:])
        bands = {band: BANDS[band] for band in self.bands}
        rate, seconds = self.sampling_rate, self.seconds
        if self.feature == "psd":  # which sees no sample outside its window
            return band_power(recording[:, first:], rate, bands, seconds)
        # Windows are cut from the start on. A mirrored stretch before it, just as the
        # filter itself puts there, moves a window's start to the sample `first`.
        lead = -first % self.samples
        mirrored = np.pad(
            np.asarray(recording, dtype=np.float64),
            [(0, 0), (lead, 0)],
            mode="reflect",
            reflect_type="odd",
        )
        features = differential_entropy(mirrored, rate, bands, seconds)
        return features[(first + lead) // self.samples :]

    def cut(self, recording: NDArray[Any], per_sample: int = 1) -> NDArray[Any]:
        """Return raw windows of shape (windows, channels, samples), the rest dropped.

        Parameters
        ----------
        recording : ndarray of shape (channels, samples)
        per_sample : int
            How many of its samples there are to one of the EEG.
        """
        samples = self.samples * per_sample
        windows = recording.shape[1] // samples
        kept = recording[:, : windows * samples]
        return kept.reshape(len(recording), windows, samples).swapaxes(0, 1)


def mean_second_removed(
    recording: NDArray[Any], baseline: NDArray[Any], sampling_rate: int
) -> Array:
    """Return a signal less the mean of a baseline's seconds, second by second.

    Parameters
    ----------
    recording : ndarray of shape (channels, samples)
    baseline : ndarray of shape (channels, samples)
        At least one second; what follows its last whole second is not used.
    sampling_rate : int
        In Hz.

    Returns
    -------
    ndarray of shape (channels, samples)
    """
    channels, length = recording.shape
    seconds = baseline.shape[1] // sampling_rate
    whole = np.asarray(baseline[:, : seconds * sampling_rate], dtype=np.float64)
    second = whole.reshape(channels, seconds, sampling_rate).mean(axis=1)
    repeated = np.tile(second, -(-length // sampling_rate))[:, :length]
    removed: Array = recording - repeated
    return removed
