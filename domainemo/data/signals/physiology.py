"""Measures of the body and the eyes: skin, breath, pulse, gaze and pupil.

Everything here is a pure function of one continuous recording, cut into windows that
do not overlap; samples after the last full window are dropped. The filters have zero
phase and are not causal, as in :mod:`domainemo.data.signals.features`.

A breath, a pulse and a skin response are slow beside a window of a few seconds. They
are measured in a longer neighbourhood around each window, which is moved into the
recording at its ends; so neighbouring windows share much of what they measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigurationError, DataError
from .features import (
    _LEAST_COVERAGE,
    _band_pass,
    _beat_shapes,
    _check_band,
    _checked,
    _cut,
    _hop,
    _samples,
    _similarity,
    _variability,
    constant_windows,
)

__all__ = [
    "EYE_MEASURES",
    "PULSE_MEASURES",
    "RESPIRATION_MEASURES",
    "SIGNAL_STATISTICS",
    "SKIN_MEASURES",
    "eye_measures",
    "pulse_measures",
    "respiration_measures",
    "signal_statistics",
    "skin_measures",
]

Array = NDArray[np.float64]

SKIN_MEASURES = ("level", "slope", "phasic_deviation", "responses")
"""What :func:`skin_measures` returns, in order."""

RESPIRATION_MEASURES = ("breathing_rate", "ln_sd")
"""What :func:`respiration_measures` returns, in order."""

PULSE_MEASURES = ("heart_rate", "sdnn", "rmssd")
"""What :func:`pulse_measures` returns, in order."""

SIGNAL_STATISTICS = ("mean", "deviation", "slope")
"""What :func:`signal_statistics` returns, in order."""

EYE_MEASURES = (
    "pupil_mean",
    "pupil_std",
    "pupil_slope",
    "dispersion_x",
    "dispersion_y",
    "speed",
    "lost_share",
    "fixation_share",
)
"""What :func:`eye_measures` returns, in order."""

_PHASIC_BAND = (0.05, 1.0)
_RESPONSE_REACH = 10.0
_BREATHING_BAND = (0.1, 0.5)
_PULSE_BAND = (0.5, 4.0)
_BEAT_DISTANCE = 0.3
_PULSE_REACH = 0.5
_PULSE_SIMILARITY = 0.65
_NOISE_ENDS = 1.0


# ---------------------------------------------------------------------- statistics


def signal_statistics(
    recording: NDArray[Any],
    sampling_rate: float,
    window: float = 4.0,
    *,
    step: float | None = None,
) -> Array:
    """Return mean, standard deviation and slope of each channel, window by window.

    Parameters
    ----------
    recording : ndarray of shape (channels, samples)
        In any unit; NaN where a sample is lost.
    sampling_rate : float
        In Hz.
    window : float
        Length of a window in seconds.
    step : float, optional
        Seconds from one window to the next; by default they do not overlap.

    Returns
    -------
    ndarray of shape (windows, channels, 3)
        The last axis is :data:`SIGNAL_STATISTICS`: mean and standard deviation in the
        signal's unit, and the slope of the line of least squares in units per second;
        NaN where fewer than two samples are left, or fewer than half.

    Raises
    ------
    DataError
        If the recording is not two-dimensional, holds infinity, or is shorter than one
        window.
    ConfigurationError
        If the window is shorter than two samples.
    """
    samples = _samples(window, sampling_rate)
    hop = _hop(step, sampling_rate, samples)
    recording = _checked_with_gaps(recording, samples)
    windows = _cut(recording, samples, hop).swapaxes(0, 1)
    return _statistics(windows, sampling_rate)


def _statistics(windows: Array, sampling_rate: float) -> Array:
    """Return the statistics along the last axis, which they replace."""
    seen = ~np.isnan(windows)
    count = seen.sum(axis=-1)
    enough = (count >= 2) & (count >= _LEAST_COVERAGE * windows.shape[-1])
    count = np.maximum(count, 1)
    mean = np.where(seen, windows, 0.0).sum(axis=-1) / count
    deviation = np.where(seen, windows - mean[..., None], 0.0)
    time = np.where(seen, np.arange(windows.shape[-1]) / sampling_rate, 0.0)
    time -= np.where(seen, (time.sum(axis=-1) / count)[..., None], 0.0)
    spread = np.square(time).sum(axis=-1)
    slope = (time * deviation).sum(axis=-1) / np.where(spread > 0, spread, 1.0)
    variance = np.square(deviation).sum(axis=-1) / count
    statistics = np.stack([mean, np.sqrt(variance), slope], axis=-1)
    return np.where(enough[..., None], statistics, np.nan)


# ---------------------------------------------------------------------------- skin


def skin_measures(
    signal: NDArray[Any],
    sampling_rate: float,
    window: float = 4.0,
    *,
    neighbourhood: float = 16.0,
    least_rise: float | None = None,
) -> Array:
    """Return level, slope and responses of the skin's conductance.

    - level: mean over the window, in the signal's unit;
    - slope: of the line of least squares through the window, in units per second;
    - phasic deviation: standard deviation over the window of the signal's 0.05-1 Hz
      band, which leaves the slow trend and the sensor's noise out;
    - responses (per minute): peaks in the neighbourhood of the signal below 1 Hz that
      rise by at least `least_rise` above what lies within 10 s before and after them.

    Parameters
    ----------
    signal : ndarray of shape (samples,)
        One continuous recording of conductance. Turn resistance into conductance
        first (its inverse), as a response is a rise.
    sampling_rate : float
        In Hz, more than 2.
    window : float
        Length of a window in seconds.
    neighbourhood : float
        Seconds around the window's centre over which responses are counted.
    least_rise : float, optional
        The smallest response in the signal's own unit, often 0.01 to 0.05 microsiemens.
        Without it, a tenth of what lies between the 1st and the 99th percentile of the
        recording's 0.05-1 Hz band. That needs no unit, but where the skin never
        responds it counts noise.

    Returns
    -------
    ndarray of shape (windows, 4)
        The columns are :data:`SKIN_MEASURES`; NaN where the signal held one value
        throughout the neighbourhood, as a sensor does that is off.

    Raises
    ------
    DataError
        If the recording is not one-dimensional, holds NaN or infinity, or is shorter
        than one window.
    ConfigurationError
        If the window is shorter than two samples, the neighbourhood is shorter than the
        window, the sampling rate is too low or `least_rise` is not above 0.
    """
    samples = _samples(window, sampling_rate)
    if least_rise is not None and not least_rise > 0:
        raise ConfigurationError(
            f"Skin measures: found least_rise={least_rise!r}; expected a number above "
            f"0, in the signal's own unit."
        )
    _check_neighbourhood("Skin", neighbourhood, window)
    recording = _one_signal(signal, samples, "Skin")
    phasic = _band_pass(recording, sampling_rate, "skin response", _PHASIC_BAND, 2)[0]
    if least_rise is None:
        low, high = np.percentile(phasic, [1, 99])
        least_rise = max(0.1 * float(high - low), np.finfo(np.float64).tiny)
    peaks = _find_responses(recording[0], sampling_rate, least_rise)
    statistics = _statistics(_cut(recording, samples)[0], sampling_rate)
    deviation = _cut(phasic[None], samples)[0].std(axis=-1)
    measures = np.column_stack([statistics[:, [0, 2]], deviation, deviation])
    around = _neighbourhoods(len(phasic), samples, neighbourhood * sampling_rate)
    for row, part in zip(measures, around, strict=True):
        begin, end = np.searchsorted(peaks, [part.start, part.stop])
        row[3] = (end - begin) * 60 * sampling_rate / (part.stop - part.start)
        if np.ptp(recording[0, part]) == 0:
            row[:] = np.nan
    return measures


def _find_responses(
    conductance: Array, sampling_rate: float, least_rise: float
) -> NDArray[np.intp]:
    from scipy import signal as signals

    # The trend stays: a high-pass filter of zero phase dips before each response, and
    # the end of the dip looks like another one.
    sections = signals.butter(2, _PHASIC_BAND[1], fs=sampling_rate, output="sos")
    padding = min(round(3 * sampling_rate), len(conductance) - 1)
    smooth = signals.sosfiltfilt(sections, conductance, padlen=padding)
    reach = round(2 * _RESPONSE_REACH * sampling_rate)
    found, _ = signals.find_peaks(smooth, prominence=least_rise, wlen=reach)
    peaks: NDArray[np.intp] = found
    return peaks


# -------------------------------------------------------------------------- breath


def respiration_measures(
    signal: NDArray[Any],
    sampling_rate: float,
    window: float = 4.0,
    *,
    neighbourhood: float = 20.0,
) -> Array:
    """Return the rate and the depth of breathing around each window.

    - breathing rate (per minute): where the spectrum of the neighbourhood peaks within
      0.1-0.5 Hz (6 to 30 breaths a minute; of a breath nearer to 6 than 6.3, the
      peak may lie just below, and then the rate is NaN);
    - ln sd: natural logarithm of the standard deviation of the 0.1-0.5 Hz signal in
      the neighbourhood, in the signal's own unit.

    Nothing is guessed: the rate is NaN unless the neighbourhood holds two breaths of
    that rate, and two thirds of the power in 0.05-1 Hz lie within one resolvable
    frequency of the peak. A steady oscillation that is no breath passes, and noise
    does now and then: never white noise, 1 % of the windows of pink noise, and 5 to 8 %
    of brown noise, which wanders as slowly as breath.

    Parameters
    ----------
    signal : ndarray of shape (samples,)
        One continuous recording of a belt around the chest, in any unit.
    sampling_rate : float
        In Hz, more than 2.
    window : float
        Length of a window in seconds.
    neighbourhood : float
        Seconds around the window's centre that are measured; 20 s hold two of the
        slowest breaths.

    Returns
    -------
    ndarray of shape (windows, 2)
        The columns are :data:`RESPIRATION_MEASURES`; both NaN where the signal held
        one value throughout the neighbourhood.

    Raises
    ------
    DataError
        If the recording is not one-dimensional, holds NaN or infinity, or is shorter
        than one window.
    ConfigurationError
        If the window is shorter than two samples, the neighbourhood is shorter than the
        window, or the sampling rate is too low.
    """
    samples = _samples(window, sampling_rate)
    _check_neighbourhood("Respiration", neighbourhood, window)
    recording = _one_signal(signal, samples, "Respiration")
    _check_band("breathing", (_BREATHING_BAND[0], _NOISE_ENDS), sampling_rate)
    filtered = _band_pass(recording, sampling_rate, "breathing", _BREATHING_BAND, 2)[0]
    measures = np.full((len(filtered) // samples, len(RESPIRATION_MEASURES)), np.nan)
    around = _neighbourhoods(len(filtered), samples, neighbourhood * sampling_rate)
    for row, part in zip(measures, around, strict=True):
        if np.ptp(recording[0, part]) > 0:
            row[0] = 60 * _breathing_frequency(recording[0, part], sampling_rate)
            row[1] = np.log(filtered[part].std())
    return measures


def _breathing_frequency(breath: Array, sampling_rate: float) -> float:
    """Return the frequency in Hz at which the spectrum peaks, NaN if none stands out.

    The spectrum is that of the stretch under a Hann window, padded eightfold so that
    the peak is found between the frequencies that the stretch resolves.
    """
    from scipy import signal as signals

    tapered = signals.detrend(breath) * signals.windows.hann(len(breath), sym=False)
    padded = 8 * len(breath)
    power = np.abs(np.fft.rfft(tapered, padded)) ** 2
    frequencies = np.fft.rfftfreq(padded, 1 / sampling_rate)
    low, high = np.searchsorted(frequencies, _BREATHING_BAND)
    peak = low + int(power[low : high + 1].argmax())
    duration = len(breath) / sampling_rate
    rising = power[peak - 1] <= power[peak] >= power[peak + 1]
    if not rising or frequencies[peak] * duration < 2:
        return np.nan
    near = power[np.abs(frequencies - frequencies[peak]) <= 1 / duration].sum()
    all_around = (frequencies >= 0.05) & (frequencies <= _NOISE_ENDS)
    if near < 2 / 3 * power[all_around].sum():
        return np.nan
    return float(frequencies[peak])


# --------------------------------------------------------------------------- pulse


def pulse_measures(
    signal: NDArray[Any],
    sampling_rate: float,
    window: float = 4.0,
    *,
    neighbourhood: float = 16.0,
) -> Array:
    """Return heart rate and its variability from the pulse of the blood.

    Beats are the peaks of the plethysmograph's 0.5-4 Hz band, at least 0.3 s apart,
    that stand out by 0.3 of the recording's usual range: the median over 2-s blocks of
    the blocks' ranges. Their times are refined between samples by a parabola. Rate,
    SDNN and RMSSD then follow as in
    :func:`domainemo.data.signals.features.heart_measures`.
    The pulse arrives less evenly than the heart beats, so SDNN and RMSSD are a little
    larger than an electrocardiogram's.

    Nothing is guessed: a window is NaN unless normal intervals cover at least half of
    the neighbourhood, the rate lies in 30-200 bpm and the beats resemble each other
    (mean correlation of 1-s stretches around the peaks at least 0.65). White noise
    reaches 0.41, pink noise 0.45 and brown noise 0.64; made-up pulses whose intervals
    vary by an eighth have 0.88.

    Parameters
    ----------
    signal : ndarray of shape (samples,)
        One continuous recording of blood volume, in any unit.
    sampling_rate : float
        In Hz, more than 8.
    window : float
        Length of a window in seconds.
    neighbourhood : float
        Seconds around the window's centre that are measured.

    Returns
    -------
    ndarray of shape (windows, 3)
        The columns are :data:`PULSE_MEASURES`: beats per minute, and milliseconds.

    Raises
    ------
    DataError
        If the recording is not one-dimensional, holds NaN or infinity, or is shorter
        than one window or 1 s.
    ConfigurationError
        If the window is shorter than two samples, the neighbourhood is shorter than the
        window, or the sampling rate is too low.
    """
    samples = _samples(window, sampling_rate)
    _check_neighbourhood("Pulse", neighbourhood, window)
    shortest = max(samples, _samples(1.0, sampling_rate))
    recording = _one_signal(signal, shortest, "Pulse")
    filtered = _band_pass(recording, sampling_rate, "pulse", _PULSE_BAND, 2)[0]
    peaks = _find_pulses(recording, filtered, sampling_rate)
    times = _refined(filtered, peaks) / sampling_rate
    shapes = _beat_shapes(filtered, peaks, sampling_rate, reach=_PULSE_REACH)
    measures = np.full((len(filtered) // samples, len(PULSE_MEASURES)), np.nan)
    around = _neighbourhoods(len(filtered), samples, neighbourhood * sampling_rate)
    for row, part in zip(measures, around, strict=True):
        begin, end = np.searchsorted(peaks, [part.start, part.stop])
        if _similarity(shapes[begin:end]) >= _PULSE_SIMILARITY:
            duration = (part.stop - part.start) / sampling_rate
            row[:] = _variability(np.diff(times[begin:end]), duration)
    return measures


def _find_pulses(
    recording: Array, filtered: Array, sampling_rate: float
) -> NDArray[np.intp]:
    from scipy import signal as signals

    block = min(_samples(2.0, sampling_rate), len(filtered))
    alive = ~constant_windows(recording, block)[:, 0]
    if not alive.any():
        return np.empty(0, dtype=np.intp)
    usual = np.median(np.ptp(_cut(filtered[None], block)[0, alive], axis=-1))
    distance = max(round(_BEAT_DISTANCE * sampling_rate), 1)
    found, _ = signals.find_peaks(filtered, distance=distance, prominence=0.3 * usual)
    peaks: NDArray[np.intp] = found
    return peaks


def _refined(filtered: Array, peaks: NDArray[np.intp]) -> Array:
    """Return where parabolas through the peaks and their neighbours are highest."""
    before, at, after = (filtered[peaks + shift] for shift in (-1, 0, 1))
    curvature = before - 2 * at + after
    # A plateau has no curvature: its middle is as good as any other point.
    curvature = np.where(curvature < 0, curvature, -np.inf)
    refined: Array = peaks + 0.5 * (before - after) / curvature
    return refined


# ---------------------------------------------------------------------------- eyes


def eye_measures(
    gaze: NDArray[Any],
    pupil: NDArray[Any],
    sampling_rate: float,
    window: float = 4.0,
    *,
    fixation_speed: float = 30.0,
) -> Array:
    """Return measures of pupil and gaze, window by window.

    - pupil mean, std (standard deviation) and slope (per second), in the pupil's unit;
    - dispersion x, y: standard deviation of the gaze, in its unit;
    - speed: mean distance between successive samples, per second;
    - lost share: the part of the samples that is lost, as in blinks;
    - fixation share: the part of the speeds below `fixation_speed`, which is the
      velocity threshold of Salvucci & Goldberg (2000, doi 10.1145/355017.355028).

    A sample is lost where a coordinate or the pupil is NaN, or the pupil is not above
    0, as trackers write during blinks. Of two pupils the mean is taken, or the one that
    is there.

    Parameters
    ----------
    gaze : ndarray of shape (samples, 2)
        Horizontal and vertical, best in degrees of visual angle.
    pupil : ndarray of shape (samples,) or (samples, 2)
        Diameter of one pupil or of both.
    sampling_rate : float
        In Hz.
    window : float
        Length of a window in seconds.
    fixation_speed : float
        In the gaze's unit per second. The default suits degrees; pixels need another
        one. Speeds between single samples grow with the tracker's noise times its
        sampling rate: smooth the gaze first, or raise the threshold, above 100 Hz.

    Returns
    -------
    ndarray of shape (windows, 8)
        The columns are :data:`EYE_MEASURES`; all but the lost share are NaN where more
        than half of the samples are lost.

    Raises
    ------
    DataError
        If shapes do not fit, values are infinite, or the recording is shorter than one
        window.
    ConfigurationError
        If the window is shorter than two samples, or the threshold is not above 0.
    """
    samples = _samples(window, sampling_rate)
    if not fixation_speed > 0:
        raise ConfigurationError(
            f"Eye measures: found fixation_speed={fixation_speed!r}; expected a number "
            f"above 0, in the gaze's unit per second."
        )
    trace = _eye_trace(gaze, pupil, samples)
    # A speed belongs to the later of its two samples; the first one has none.
    steps = np.diff(trace[:2], axis=1, prepend=np.nan)
    speed = np.hypot(*steps) * sampling_rate
    below = np.where(np.isnan(speed), np.nan, speed < fixation_speed)
    windows = _cut(np.concatenate([trace, speed[None], below[None]]), samples)
    lost = np.isnan(windows[2]).mean(axis=-1)
    enough = lost <= 1 - _LEAST_COVERAGE
    x, y, width = _statistics(windows[:3], sampling_rate)
    measures = np.column_stack(
        [
            width,
            x[:, 1],
            y[:, 1],
            _mean_of_seen(windows[3]),
            lost,
            _mean_of_seen(windows[4]),
        ]
    )
    measures[~enough] = np.nan
    measures[:, EYE_MEASURES.index("lost_share")] = lost
    return measures


def _eye_trace(gaze: NDArray[Any], pupil: NDArray[Any], samples: int) -> Array:
    """Return x, y and pupil, of shape (3, samples); all NaN where a sample is lost."""
    gaze = np.asarray(gaze, dtype=np.float64)
    pupil = np.asarray(pupil, dtype=np.float64)
    pupils = pupil[:, None] if pupil.ndim == 1 else pupil
    fits = gaze.ndim == 2 and pupils.ndim == 2 and len(gaze) == len(pupils)
    if not fits or gaze.shape[1] != 2 or pupils.shape[1] not in (1, 2):
        raise DataError(
            f"Eyes: found a gaze of shape {gaze.shape} and a pupil of shape "
            f"{pupil.shape}, expected (samples, 2) and (samples,) or (samples, 2) with "
            f"the same samples. Give x and y, and one or both pupils."
        )
    pupils = np.where(pupils <= 0, np.nan, pupils)
    trace = np.concatenate([gaze.T, _mean_of_seen(pupils)[None]])
    trace = _checked_with_gaps(trace, samples).copy()
    trace[:, np.isnan(trace).any(axis=0)] = np.nan
    return trace


def _mean_of_seen(values: Array) -> Array:
    """Return the mean over the last axis of what is not NaN; NaN where nothing is."""
    seen = ~np.isnan(values)
    total = np.where(seen, values, 0.0).sum(axis=-1)
    count = seen.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


# ------------------------------------------------------------------- shared checks


def _neighbourhoods(length: int, samples: int, width: float) -> Iterator[slice]:
    """Yield what lies around each window, moved into the recording at its ends."""
    around = min(round(width), length)
    for start in range(0, length - samples + 1, samples):
        first = start + (samples - around) // 2
        first = min(max(first, 0), length - around)
        yield slice(first, first + around)


def _check_neighbourhood(what: str, neighbourhood: float, window: float) -> None:
    if not neighbourhood >= window:
        raise ConfigurationError(
            f"{what} measures over a neighbourhood of {neighbourhood:g} s around "
            f"windows of {window:g} s: expected a neighbourhood at least as long as a "
            f"window."
        )


def _one_signal(signal: NDArray[Any], samples: int, what: str) -> Array:
    if np.ndim(signal) != 1:
        raise DataError(
            f"{what}: found an array of shape {np.shape(signal)}, expected "
            f"(samples,). Give one channel."
        )
    return _checked(np.asarray(signal)[None], samples)


def _checked_with_gaps(recording: NDArray[Any], samples: int) -> Array:
    """Check a recording in which NaN stands for lost samples."""
    array = np.asarray(recording, dtype=np.float64)
    _checked(np.where(np.isnan(array), 0.0, array), samples)
    return array
