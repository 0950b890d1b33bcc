"""Features of raw signals: entropy and power of the EEG's bands, the heart.

Everything here is a pure function of one continuous recording. The filters run forward
and backward (zero phase), so they are not causal: a window's value depends a little on
the samples after it, though never on another recording. For use in real time, filter
forward only, and expect other values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ...errors import ConfigurationError, DataError

__all__ = [
    "BANDS",
    "HEART_MEASURES",
    "band_power",
    "baseline_removed",
    "constant_windows",
    "differential_entropy",
    "heart_measures",
]

Array = NDArray[np.float64]

BANDS: Mapping[str, tuple[float, float]] = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 14.0),
    "beta": (14.0, 31.0),
    "gamma": (31.0, 45.0),
}
"""Lower and upper edge of each EEG band in Hz."""

HEART_MEASURES = ("heart_rate", "sdnn", "rmssd", "ln_sd")
"""What :func:`heart_measures` returns, in order."""

_QRS_BAND = (5.0, 25.0)
_QRS_DURATION = 0.12
_REFRACTORY = 0.3
_LONGEST_INTERVAL = 2.0
_NORMAL_DEVIATION = 0.3
_LEAST_COVERAGE = 0.5
_LEAST_SIMILARITY = 0.5


def differential_entropy(
    recording: NDArray[Any],
    sampling_rate: float,
    bands: Mapping[str, tuple[float, float]] = BANDS,
    window: float = 4.0,
    *,
    order: int = 4,
    step: float | None = None,
) -> Array:
    """Return the differential entropy of each band, window by window.

    Each channel is band-passed over the whole recording by a Butterworth filter run
    forward and backward (zero phase, hence not causal), then cut into windows. Under a
    normal distribution a window's differential entropy is
    ``0.5 * ln(2 * pi * e * variance)`` (Shi, Jiao & Lu, 2013, doi
    10.1109/EMBC.2013.6611075). Samples after the last full window are dropped.

    The filter sees the whole recording, so a window may be shorter than a band's
    period: its entropy is then that of the part of a wave it holds, low and uneven.

    Parameters
    ----------
    recording : ndarray of shape (channels, samples)
        The continuous signal, for EEG in microvolts.
    sampling_rate : float
        In Hz.
    bands : mapping of str to (float, float)
        Band edges in Hz.
    window : float
        Length of a window in seconds.
    order : int
        Order of the Butterworth prototype; the two passes attenuate the band's edges
        by 6 dB.
    step : float, optional
        Seconds from one window to the next; by default they do not overlap.

    Returns
    -------
    ndarray of shape (windows, channels, bands)
        In nats, relative to the signal's own unit; NaN where a channel held one value
        throughout the window.

    Raises
    ------
    DataError
        If the recording is not two-dimensional, holds NaN or infinity, or is shorter
        than one window.
    ConfigurationError
        If a band does not lie between 0 and half the sampling rate, or the window is
        shorter than two samples.
    """
    samples = _samples(window, sampling_rate)
    hop = _hop(step, sampling_rate, samples)
    recording = _checked(recording, samples)
    count = (recording.shape[1] - samples) // hop + 1
    entropy = np.empty((count, len(recording), len(bands)))
    for index, (name, edges) in enumerate(bands.items()):
        filtered = _band_pass(recording, sampling_rate, name, edges, order)
        variance = _cut(filtered, samples, hop).var(axis=-1).T
        # A constant channel leaves no variance; it becomes NaN below, not -inf.
        variance = np.maximum(variance, np.finfo(np.float64).tiny)
        entropy[:, :, index] = 0.5 * np.log(2 * np.pi * np.e * variance)
    entropy[constant_windows(recording, samples, hop)] = np.nan
    return entropy


def band_power(
    recording: NDArray[Any],
    sampling_rate: float,
    bands: Mapping[str, tuple[float, float]] = BANDS,
    window: float = 4.0,
    *,
    step: float | None = None,
) -> Array:
    """Return the logarithm of the mean power spectral density of each band.

    Each window, less its mean, is tapered by a Hann window; its periodogram is averaged
    over the frequencies from a band's lower edge up to, not including, the upper one.
    That is ``scipy.signal.welch`` with one segment per window. Windows see no sample
    outside them; samples after the last full window are dropped. Beside the result,
    memory is taken for one channel at a time.

    Parameters
    ----------
    recording : ndarray of shape (channels, samples)
        The continuous signal, for EEG in microvolts.
    sampling_rate : float
        In Hz.
    bands : mapping of str to (float, float)
        Band edges in Hz.
    window : float
        Length of a window in seconds, at least one period of each band's lower edge
        and the inverse of each band's width: a shorter one cannot resolve the band.
    step : float, optional
        Seconds from one window to the next; by default they do not overlap.

    Returns
    -------
    ndarray of shape (windows, channels, bands)
        Natural logarithm of the density, for EEG of microvolts squared per Hz; NaN
        where a channel held one value throughout the window.

    Raises
    ------
    DataError
        If the recording is not two-dimensional, holds NaN or infinity, or is shorter
        than one window.
    ConfigurationError
        If a band does not lie between 0 and half the sampling rate, or the window is
        too short for it.
    """
    samples = _samples(window, sampling_rate)
    hop = _hop(step, sampling_rate, samples)
    bins = _band_bins(bands, sampling_rate, window)
    recording = _checked(recording, samples)
    from scipy import signal

    taper = signal.windows.hann(samples, sym=False)
    # Power at a negative frequency is that at the positive one, hence twice.
    scale = 2 / (sampling_rate * np.square(taper).sum())
    count = (recording.shape[1] - samples) // hop + 1
    power = np.empty((count, len(recording), len(bands)))
    for channel, windows in enumerate(_cut(recording, samples, hop)):
        tapered = taper * (windows - windows.mean(axis=1, keepdims=True))
        spectrum = np.fft.rfft(tapered, axis=1)
        density = scale * (spectrum.real**2 + spectrum.imag**2)
        for index, inside in enumerate(bins):
            power[:, channel, index] = density[:, inside].mean(axis=1)
    # A constant channel has no power; it becomes NaN below, not -inf.
    power = np.log(np.maximum(power, np.finfo(np.float64).tiny))
    power[constant_windows(recording, samples, hop)] = np.nan
    return power


def baseline_removed(features: NDArray[Any], baseline: NDArray[Any]) -> Array:
    """Return features less their mean over the windows of a baseline.

    Parameters
    ----------
    features : ndarray of shape (windows, ...)
        Of one trial.
    baseline : ndarray of shape (baseline windows, ...)
        The same features of what was recorded before the trial.

    Returns
    -------
    ndarray of shape (windows, ...)
        NaN where the features are, and in the features whose baseline is NaN
        throughout.

    Raises
    ------
    DataError
        If the axes after the first differ, or the baseline has no windows.
    """
    features = np.asarray(features, dtype=np.float64)
    baseline = np.asarray(baseline, dtype=np.float64)
    if baseline.ndim == 0 or len(baseline) == 0 or features.ndim == 0:
        raise DataError(
            f"Baseline: found features of shape {features.shape} and a baseline of "
            f"shape {baseline.shape}, expected some windows in both. Give at least one "
            f"baseline window per trial."
        )
    if features.shape[1:] != baseline.shape[1:]:
        raise DataError(
            f"Baseline: found windows of shape {baseline.shape[1:]}, expected "
            f"{features.shape[1:]} as in the features. Compute both alike."
        )
    seen = ~np.isnan(baseline)
    total = np.where(seen, baseline, 0.0).sum(axis=0)
    count = seen.sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    removed: Array = features - mean
    return removed


def constant_windows(
    recording: NDArray[Any], samples: int, hop: int | None = None
) -> NDArray[np.bool_]:
    """Return where a channel holds one value throughout a window: a sensor that is off.

    Parameters
    ----------
    recording : ndarray of shape (channels, samples)
    samples : int
        Samples in a window.
    hop : int, optional
        Samples from one window to the next; as many as in a window by default.

    Returns
    -------
    ndarray of bool, shape (windows, channels)
    """
    windows = _cut(recording, samples, hop)
    constant: NDArray[np.bool_] = np.ptp(windows, axis=-1).T == 0
    return constant


def heart_measures(
    ecg: NDArray[Any],
    sampling_rate: float,
    window: float = 4.0,
    *,
    neighbourhood: float = 16.0,
    step: float | None = None,
) -> Array:
    """Return heart rate and its variability around each window.

    The measures come from the `neighbourhood` seconds centred on the window, clipped
    to the recording, because a window of a few seconds holds too few beats; so
    neighbouring windows share most of their beats.

    - heart rate (bpm): 60 / median normal interval in seconds;
    - SDNN (ms): standard deviation (n - 1) of the normal intervals;
    - RMSSD (ms): root mean square of the differences between successive normal
      intervals;
    - ln sd: natural logarithm of the standard deviation of the 5-25 Hz signal, in the
      signal's own unit.

    An interval is normal within 30 % of the neighbourhood's median, which leaves
    missed, doubled and most ectopic beats out and deep respiratory arrhythmia in. A
    beat that an electrode's movement displaces by less still inflates SDNN and RMSSD;
    the rate, a median, stays.

    Nothing is guessed: the window is NaN in all measures unless normal intervals cover
    at least half of the neighbourhood, the rate lies in 30-200 bpm and the beats
    resemble each other (mean correlation of 0.4-s stretches around the peaks at least
    0.5). The last is the template test of Orphanidou et al. (2015, doi
    10.1109/JBHI.2014.2338351; their 0.66 with the mean beat is about 0.5 between
    beats). White noise reaches 0.32 and pink noise 0.36; every window of EEGMAT in
    which a heart beat is visible has 0.65 or more. A steady oscillation within 5-25 Hz
    resembles itself, and now and then passes.

    Parameters
    ----------
    ecg : ndarray of shape (samples,)
        One continuous recording, in millivolts for comparable `ln_sd`.
    sampling_rate : float
        In Hz, more than 50.
    window : float
        Length of a window in seconds.
    neighbourhood : float
        Length in seconds of what is measured around the window's centre.
    step : float, optional
        Seconds from one window to the next; by default they do not overlap.

    Returns
    -------
    ndarray of shape (windows, 4)
        The columns are :data:`HEART_MEASURES`.

    Raises
    ------
    DataError
        If the recording is not one-dimensional, holds NaN or infinity, or is shorter
        than one window or 1 s.
    ConfigurationError
        If the window is shorter than two samples, the neighbourhood is shorter than the
        window, or the sampling rate is too low for the band.
    """
    samples = _samples(window, sampling_rate)
    hop = _hop(step, sampling_rate, samples)
    if neighbourhood < window:
        raise ConfigurationError(
            f"Heart measures over a neighbourhood of {neighbourhood:g} s around "
            f"windows of {window:g} s: expected a neighbourhood at least as long as a "
            f"window."
        )
    recording = _one_channel(ecg, max(samples, _samples(1.0, sampling_rate)))
    filtered = _qrs_band(recording, sampling_rate)[0]
    peaks = _find_beats(recording[0], filtered, sampling_rate)
    shapes = _beat_shapes(filtered, peaks, sampling_rate)
    half = round(neighbourhood * sampling_rate / 2)
    centres = range(samples // 2, len(filtered) - samples + samples // 2 + 1, hop)
    measures = np.full((len(centres), len(HEART_MEASURES)), np.nan)
    for row, centre in zip(measures, centres, strict=True):
        first, last = max(centre - half, 0), min(centre + half, len(filtered))
        begin, end = np.searchsorted(peaks, np.array([first, last]))
        inside = slice(begin, end)
        intervals = np.diff(peaks[inside]) / sampling_rate
        duration = (last - first) / sampling_rate
        if _similarity(shapes[inside]) >= _LEAST_SIMILARITY:
            row[:3] = _variability(intervals, duration)
        if not np.isnan(row[0]):
            row[3] = np.log(filtered[first:last].std())
    return measures


def _variability(intervals: Array, duration: float) -> tuple[float, float, float]:
    """Return rate, SDNN and RMSSD of RR intervals (s), NaN where they are no rhythm."""
    nothing = (np.nan, np.nan, np.nan)
    if len(intervals) < 3:
        return nothing
    usual = np.median(intervals)
    normal = np.abs(intervals - usual) <= _NORMAL_DEVIATION * usual
    covered = intervals[normal].sum() >= _LEAST_COVERAGE * duration
    if not covered or normal.sum() < 3:
        return nothing
    if not _REFRACTORY <= usual <= _LONGEST_INTERVAL:
        return nothing
    successive = normal[1:] & normal[:-1]
    changes = np.diff(intervals)[successive]
    rmssd = 1e3 * np.sqrt(np.mean(changes**2)) if len(changes) else np.nan
    sdnn = 1e3 * intervals[normal].std(ddof=1)
    return 60 / float(np.median(intervals[normal])), float(sdnn), float(rmssd)


def _find_beats(ecg: Array, filtered: Array, sampling_rate: float) -> NDArray[np.int64]:
    """Return the sample numbers of the heart beats, ascending; noise has some too.

    The energy in 5-25 Hz, smoothed over 0.12 s as by Pan and Tompkins (1985, doi
    10.1109/TBME.1985.325532), is searched for peaks at least 0.3 s apart that exceed
    0.3 of the recording's usual peak: the median over 2-s blocks of the blocks' maxima,
    which movement artefacts do not shift. Each peak then moves to the extremum nearby,
    of the polarity that is the larger one in most beats of the recording; choosing it
    beat by beat would make the intervals jitter.

    On EEGMAT it stays with the beats through electrode movement where
    ``mne.preprocessing.ecg.qrs_detector``, whose threshold follows the largest
    artefact, misses up to 37 % of them.
    """
    from scipy import ndimage, signal

    energy = ndimage.uniform_filter1d(
        filtered**2, round(_QRS_DURATION * sampling_rate), mode="constant"
    )
    block = min(_samples(2.0, sampling_rate), len(ecg))
    alive = ~constant_windows(ecg[None], block)[:, 0]
    if not alive.any():
        return np.empty(0, dtype=np.int64)
    usual = np.median(_cut(energy[None], block)[0, alive].max(axis=-1))
    distance = max(round(_REFRACTORY * sampling_rate), 1)
    found, _ = signal.find_peaks(energy, height=0.3 * usual, distance=distance)
    if len(found) == 0:
        return np.empty(0, dtype=np.int64)
    reach = round(2 / 3 * _QRS_DURATION * sampling_rate)
    around = found[:, None] + np.arange(-reach, reach + 1)
    around = np.clip(around, 0, len(ecg) - 1)
    stretch = filtered[around]
    upright = np.median(stretch.max(axis=1)) >= np.median(-stretch.min(axis=1))
    extremum = (stretch if upright else -stretch).argmax(axis=1)
    return np.unique(around[np.arange(len(found)), extremum]).astype(np.int64)


def _beat_shapes(
    filtered: Array,
    peaks: NDArray[np.integer],
    sampling_rate: float,
    reach: float = 0.2,
) -> Array:
    """Return each beat's stretch, of mean 0 and norm 1; NaN at the recording's ends."""
    side = round(reach * sampling_rate)
    padded = np.pad(filtered, side, constant_values=np.nan)
    shapes = sliding_window_view(padded, 2 * side + 1)[peaks]
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    normalised: Array = shapes / np.linalg.norm(shapes, axis=1, keepdims=True)
    return normalised


def _similarity(shapes: Array) -> float:
    """Return the mean correlation between different beats, 0 where there are few."""
    shapes = shapes[~np.isnan(shapes).any(axis=1)]
    beats = len(shapes)
    if beats < 3:
        return 0.0
    # The squared norm of a sum of unit vectors is the sum of all their products.
    products = np.square(shapes.sum(axis=0)).sum() - beats
    return float(products / (beats * (beats - 1)))


def _band_bins(
    bands: Mapping[str, tuple[float, float]], sampling_rate: float, window: float
) -> list[slice]:
    """Return which frequencies of a window's spectrum are each band's."""
    resolution = sampling_rate / _samples(window, sampling_rate)
    bins = []
    for name, (low, high) in bands.items():
        _check_band(name, (low, high), sampling_rate)
        longest = max(1 / low, 1 / (high - low))
        # Where a window is no whole number of samples, frequencies are off by a little.
        first, last = (math.ceil(edge / resolution - 0.05) for edge in (low, high))
        if window < longest * (1 - 1e-9) or first == last:
            raise ConfigurationError(
                f"Band {name!r} of {low:g}-{high:g} Hz in windows of {window:g} s: "
                f"expected windows of at least {longest:g} s, which resolve it. Choose "
                f"longer windows, or leave the band out."
            )
        bins.append(slice(first, last))
    return bins


def _qrs_band(recording: Array, sampling_rate: float) -> Array:
    return _band_pass(recording, sampling_rate, "heart beat", _QRS_BAND, order=2)


def _band_pass(
    recording: Array,
    sampling_rate: float,
    name: str,
    edges: tuple[float, float],
    order: int,
) -> Array:
    _check_band(name, edges, sampling_rate)
    # Importing it takes a second, which mapped recordings should not wait for.
    from scipy import signal

    sections = signal.butter(order, edges, "bandpass", fs=sampling_rate, output="sos")
    # Mirrored ends as long as the slowest edge's period let its transient die out.
    padding = min(round(3 * sampling_rate / edges[0]), recording.shape[1] - 1)
    filtered: Array = signal.sosfiltfilt(sections, recording, padlen=padding)
    return filtered


def _check_band(name: str, edges: tuple[float, float], sampling_rate: float) -> None:
    low, high = edges
    if not 0 < low < high < sampling_rate / 2:
        raise ConfigurationError(
            f"Band {name!r} of {low:g}-{high:g} Hz at a sampling rate of "
            f"{sampling_rate:g} Hz: expected 0 < lower edge < upper edge < "
            f"{sampling_rate / 2:g} Hz, half the sampling rate. Change the band, or "
            f"use recordings sampled faster."
        )


def _cut(recording: NDArray[Any], samples: int, hop: int | None = None) -> NDArray[Any]:
    """Return a view of shape (channels, windows, samples), the remainder dropped."""
    if recording.shape[1] < samples:
        return recording[:, :0].reshape(len(recording), 0, samples)
    every = sliding_window_view(recording, samples, axis=1)
    return every[:, :: hop or samples]


def _hop(step: float | None, sampling_rate: float, samples: int) -> int:
    """Return the samples from one window to the next."""
    if step is None:
        return samples
    hop = round(step * sampling_rate)
    if hop < 1:
        raise ConfigurationError(
            f"A step of {step:g} s from window to window holds {hop} samples at "
            f"{sampling_rate:g} Hz; expected at least 1. Choose a longer step."
        )
    return hop


def _samples(window: float, sampling_rate: float) -> int:
    samples = round(window * sampling_rate)
    if samples < 2:
        raise ConfigurationError(
            f"A window of {window:g} s holds {samples} samples at {sampling_rate:g} "
            f"Hz; expected at least 2. Choose a longer window."
        )
    return samples


def _one_channel(ecg: NDArray[Any], samples: int) -> Array:
    if np.ndim(ecg) != 1:
        raise DataError(
            f"ECG: found an array of shape {np.shape(ecg)}, expected (samples,). Give "
            f"one channel."
        )
    return _checked(np.asarray(ecg)[None], samples)


def _checked(recording: NDArray[Any], samples: int) -> Array:
    if np.ndim(recording) != 2:
        raise DataError(
            f"Recording: found an array of shape {np.shape(recording)}, expected "
            f"(channels, samples). Give one continuous recording."
        )
    checked = np.asarray(recording, dtype=np.float64)
    lost = int((~np.isfinite(checked)).any(axis=0).sum())
    if lost:
        raise DataError(
            f"Recording: found NaN or infinity in {lost} of {checked.shape[1]} "
            f"samples, expected finite values, because a filter would spread them "
            f"over the whole recording. Fill the gaps, and set the windows to NaN "
            f"afterwards."
        )
    if checked.shape[1] < samples:
        raise DataError(
            f"Recording: found {checked.shape[1]} samples, expected at least "
            f"{samples}, one window. Choose a shorter window or drop the recording."
        )
    return checked
