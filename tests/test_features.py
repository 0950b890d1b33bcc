"""Signal features against closed forms, slow loops and known heart beats."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from domainemo.data.signals.eeg import mean_second_removed
from domainemo.data.signals.features import (
    BANDS,
    HEART_MEASURES,
    band_power,
    baseline_removed,
    constant_windows,
    differential_entropy,
    heart_measures,
)
from domainemo.errors import ConfigurationError, DataError

RATE = 500


# ------------------------------------------------------------ differential entropy


def power_gain(frequency, low, high, order):
    """Squared gain of a digital Butterworth band-pass, by its formula."""
    warp = [math.tan(math.pi * f / RATE) for f in (low, high)]
    s = np.tan(np.pi * frequency / RATE)
    ratio = (s**2 - warp[0] * warp[1]) / (s * (warp[1] - warp[0]))
    return 1 / (1 + ratio ** (2 * order))


@pytest.mark.parametrize("band", BANDS)
def test_entropy_of_white_noise_is_that_of_its_variance_in_the_band(band):
    noise = np.random.default_rng(1).normal(scale=3.0, size=(2, 240 * RATE))
    entropy = differential_entropy(noise, RATE, {band: BANDS[band]}, window=240)
    frequency = np.linspace(0, RATE / 2, 200_001)[1:-1]
    # Forward and backward: the power gain applies twice.
    share = np.mean(power_gain(frequency, *BANDS[band], order=4) ** 2)
    expected = 0.5 * math.log(2 * math.pi * math.e * 9.0 * share)
    np.testing.assert_allclose(entropy[0, :, 0], expected, atol=0.05)


@pytest.mark.parametrize(
    ("frequency", "band"), [(2, "delta"), (6, "theta"), (10, "alpha"), (20, "beta")]
)
def test_entropy_of_a_sine_is_that_of_half_its_squared_amplitude(frequency, band):
    time = np.arange(20 * RATE) / RATE
    amplitude = np.array([[1.0], [5.0]])
    sine = amplitude * np.sin(2 * np.pi * frequency * time)
    entropy = differential_entropy(sine, RATE)
    assert entropy.shape == (5, 2, 5)
    expected = 0.5 * np.log(2 * np.pi * np.e * amplitude[:, 0] ** 2 / 2)
    index = list(BANDS).index(band)
    middle = entropy[1:-1]
    np.testing.assert_allclose(middle[:, :, index], [expected] * 3, atol=1e-3)
    others = np.delete(middle, index, axis=2)
    assert (others < expected[:, None] - 2).all()


def test_entropy_equals_a_slow_loop():
    recording = np.random.default_rng(2).normal(size=(3, 4700)).cumsum(axis=1)
    bands = {"low": (2.0, 9.0), "high": (12.0, 40.0)}
    entropy = differential_entropy(recording, 250, bands, window=3.0, order=2)
    assert entropy.shape == (6, 3, 2)
    for b, (low, high) in enumerate(bands.values()):
        forward = signal.butter(2, (low, high), "bandpass", fs=250)
        for c, channel in enumerate(recording):
            padding = round(3 * 250 / low)
            filtered = signal.filtfilt(*forward, channel, padlen=padding)
            for w in range(6):
                values = filtered[w * 750 : (w + 1) * 750].tolist()
                variance = statistics.pvariance(values)
                expected = 0.5 * math.log(2 * math.pi * math.e * variance)
                assert entropy[w, c, b] == pytest.approx(expected, abs=1e-6)


def test_entropy_has_no_direction_of_time():
    recording = np.random.default_rng(3).normal(size=(2, 40 * RATE))
    forward = differential_entropy(recording, RATE)
    backward = differential_entropy(recording[:, ::-1], RATE)[::-1]
    np.testing.assert_allclose(forward[1:-1], backward[1:-1], atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-6, 1e6), st.sampled_from([1, -1]), st.integers(0, 9), st.booleans())
def test_scaling_the_signal_adds_the_logarithm(factor, sign, seed, single):
    recording = np.random.default_rng(seed).normal(size=(2, 8 * 100))
    scaled = (sign * factor * recording).astype(np.float32 if single else np.float64)
    tolerance = 1e-3 if single else 1e-7
    gain = differential_entropy(scaled, 100) - differential_entropy(recording, 100)
    np.testing.assert_allclose(gain, math.log(factor), atol=tolerance)
    gain = band_power(scaled, 100) - band_power(recording, 100)
    np.testing.assert_allclose(gain, 2 * math.log(factor), atol=tolerance)


def test_a_sensor_that_is_off_is_lost_and_not_minus_infinity():
    recording = np.random.default_rng(5).normal(size=(3, 12 * RATE))
    recording[1] = 7.0
    recording[2, 4 * RATE : 8 * RATE] = -1.0
    off = np.zeros((3, 3), dtype=bool)
    off[:, 1] = off[1, 2] = True
    np.testing.assert_array_equal(constant_windows(recording, 4 * RATE), off)
    entropy = differential_entropy(recording, RATE)
    np.testing.assert_array_equal(np.isnan(entropy), off[:, :, None] & np.ones(5, bool))
    assert np.isfinite(entropy[~off]).all()


def test_entropy_of_windows_shorter_than_a_wave_is_that_of_their_variance():
    time = np.arange(40 * RATE) / RATE
    sine = 3.0 * np.sin(2 * np.pi * 2 * time)
    entropy = differential_entropy(sine[None], RATE, {"delta": (1, 4)}, window=0.2)
    inside = [
        0.5 * math.log(2 * math.pi * math.e * sine[start:][:100].var())
        for start in range(0, len(sine), 100)
    ]
    np.testing.assert_allclose(entropy[20:-20, 0, 0], inside[20:-20], atol=1e-2)


@pytest.mark.parametrize(
    ("recording", "found"),
    [
        (np.ones(4000), r"\(4000,\)"),
        (np.ones((2, 1999)), "1999 samples, expected at least 2000"),
        (np.where(np.arange(4000) == 9, np.nan, 1.0)[None], "in 1 of 4000 samples"),
    ],
)
@pytest.mark.parametrize("extract", [differential_entropy, band_power])
def test_recordings_that_do_not_fit_are_named(extract, recording, found):
    with pytest.raises(DataError, match=found):
        extract(recording, RATE)


def test_options_that_do_not_fit_are_named():
    recording = np.ones((1, 4000))
    with pytest.raises(ConfigurationError, match=r"'gamma' of 31-45 Hz.*80 Hz"):
        differential_entropy(recording, 80)
    with pytest.raises(ConfigurationError, match="holds 0 samples"):
        differential_entropy(recording, RATE, window=0.0)
    with pytest.raises(ConfigurationError, match="neighbourhood of 2 s"):
        heart_measures(recording[0], RATE, neighbourhood=2.0)
    with pytest.raises(ConfigurationError, match="'heart beat'"):
        heart_measures(recording[0], 40)
    with pytest.raises(DataError, match=r"\(1, 4000\)"):
        heart_measures(recording, RATE)


# ---------------------------------------------------------------------- band power


def test_power_of_white_noise_is_its_variance_per_hertz():
    noise = np.random.default_rng(1).normal(scale=3.0, size=(2, 2000 * 100))
    power = band_power(noise, 100, window=4.0)
    assert power.shape == (500, 2, 5)
    # One-sided: the variance spreads over half the sampling rate.
    mean = np.log(np.exp(power).mean(axis=0))
    np.testing.assert_allclose(mean, math.log(9 / 50), atol=0.05)


@pytest.mark.parametrize(
    ("frequency", "band"), [(2, "delta"), (6, "theta"), (10, "alpha"), (20, "beta")]
)
@pytest.mark.parametrize("window", [2.0, 4.0])
def test_power_of_a_sine_is_half_its_squared_amplitude(frequency, band, window):
    time = np.arange(20 * RATE) / RATE
    amplitude = np.array([[1.0], [5.0]])
    sine = 100 + amplitude * np.sin(2 * np.pi * frequency * time + 0.3)
    power = band_power(sine, RATE, window=window)
    low, high = BANDS[band]
    expected = np.log(amplitude[:, 0] ** 2 / 2 / (high - low))
    found = power[:, :, list(BANDS).index(band)]
    np.testing.assert_allclose(found, np.tile(expected, (len(power), 1)), atol=1e-6)
    others = np.delete(power, list(BANDS).index(band), axis=2)
    assert (others < expected[:, None] - 10).all()


@pytest.mark.parametrize(
    ("rate", "window"), [(200, 1.0), (250, 3.0), (128, 2.5), (128.3, 1.0)]
)
def test_power_equals_a_slow_transform(rate, window):
    bands = {"low": (2.0, 9.0), "high": (12.0, 40.0)}
    samples = round(window * rate)
    recording = np.random.default_rng(2).normal(size=(2, 3 * samples + 7))
    recording = recording.cumsum(axis=1)
    power = band_power(recording, rate, bands, window)
    assert power.shape == (3, 2, 2)
    n = np.arange(samples)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / samples)
    for w, c in np.ndindex(3, 2):
        values = recording[c, w * samples : (w + 1) * samples]
        values = hann * (values - values.mean())
        for b, (low, high) in enumerate(bands.values()):
            # A bin is the band's where its nominal frequency, k / window, is.
            bins = [k for k in range(samples // 2) if low <= k / window < high]
            density = [
                2 * abs((values * np.exp(-2j * np.pi * k * n / samples)).sum()) ** 2
                for k in bins
            ]
            mean = np.mean(density) / (rate * (hann**2).sum())
            assert power[w, c, b] == pytest.approx(math.log(mean), abs=1e-9)


def test_power_is_that_of_welch():
    recording = np.random.default_rng(3).normal(size=(4, 1000))
    frequencies, density = signal.welch(recording, 200, nperseg=1000)
    inside = (frequencies >= 8) & (frequencies < 14)
    expected = np.log(density[:, inside].mean(axis=1))
    power = band_power(recording, 200, {"alpha": (8, 14)}, window=5.0)
    np.testing.assert_allclose(power[0, :, 0], expected, atol=1e-12)


def test_power_sees_no_other_window_and_no_other_channel():
    recording = np.random.default_rng(4).normal(size=(3, 12 * RATE))
    whole = band_power(recording, RATE)
    part = band_power(recording[1:2, 4 * RATE : 8 * RATE], RATE)
    np.testing.assert_array_equal(part[0, 0], whole[1, 1])


def test_power_of_a_sensor_that_is_off_is_lost():
    recording = np.random.default_rng(5).normal(size=(2, 12 * RATE))
    recording[1, 4 * RATE : 8 * RATE] = -1.0
    power = band_power(recording, RATE)
    assert np.isnan(power[1, 1]).all()
    assert np.isnan(power).sum() == 5


def test_windows_too_short_for_a_band_are_named():
    recording = np.random.default_rng(6).normal(size=(1, 4000))
    assert np.isfinite(band_power(recording, RATE, window=1.0)).all()
    with pytest.raises(ConfigurationError, match=r"'delta' of 1-4 Hz.*at least 1 s"):
        band_power(recording, RATE, window=0.5)
    with pytest.raises(ConfigurationError, match=r"'narrow'.*at least 4 s"):
        band_power(recording, RATE, {"narrow": (10, 10.25)}, window=2.0)
    with pytest.raises(ConfigurationError, match=r"'gamma' of 31-45 Hz.*80 Hz"):
        band_power(recording, 80)


def test_a_baseline_is_taken_off_feature_by_feature():
    features = np.array([[[1.0, 2.0], [3.0, np.nan]], [[5.0, 6.0], [7.0, 8.0]]])
    baseline = np.array([[[1.0, np.nan], [np.nan, 1.0]], [[2.0, 4.0], [np.nan, 3.0]]])
    expected = [[[-0.5, -2.0], [np.nan, np.nan]], [[3.5, 2.0], [np.nan, 6.0]]]
    np.testing.assert_array_equal(baseline_removed(features, baseline), expected)
    own = baseline_removed(features, features[1:])
    np.testing.assert_array_equal(own[1], np.zeros((2, 2)))


@pytest.mark.parametrize("extra", [0, 3])
def test_the_mean_of_a_baseline_s_seconds_is_taken_off_second_by_second(extra):
    """Of two seconds of four samples each; what follows them is not used."""
    baseline = np.array([[1.0, 2, 3, 4, 11, 12, 13, 14, 90, 91, 92][: 8 + extra]])
    recording = np.arange(6.0)[None]
    expected = [[0 - 6, 1 - 7, 2 - 8, 3 - 9, 4 - 6, 5 - 7]]
    assert mean_second_removed(recording, baseline, 4).tolist() == expected


@pytest.mark.parametrize(
    ("baseline", "found"),
    [
        (np.ones((3, 5)), r"windows of shape \(5,\), expected \(2,\)"),
        (np.ones((0, 2)), r"baseline of shape \(0, 2\)"),
        (np.float64(1), r"baseline of shape \(\)"),
    ],
)
def test_a_baseline_that_does_not_fit_is_named(baseline, found):
    with pytest.raises(DataError, match=found):
        baseline_removed(np.ones((4, 2)), baseline)


# ------------------------------------------------------------------------- heart


def heart_beats(seconds=60.0, mean=0.8, deviation=0.03, seed=0):
    """Times of beats with independent normal intervals, from 0.5 s on."""
    generator = np.random.default_rng(seed)
    intervals = generator.normal(mean, deviation, int(2 * seconds / mean))
    times = 0.5 + np.cumsum(intervals) - intervals[0]
    return times[times < seconds - 0.5]


def electrocardiogram(times, seconds=60.0, noise=0.02, seed=0):
    """P, R, S and T waves at each beat, in millivolts, on a wandering baseline."""
    grid = np.arange(round(seconds * RATE)) / RATE
    ecg = np.random.default_rng(seed).normal(scale=noise, size=len(grid))
    ecg += 0.3 * np.sin(2 * np.pi * 0.25 * grid)
    waves = [(0.1, -0.16, 0.03), (1, 0, 0.012), (-0.2, 0.03, 0.012), (0.3, 0.25, 0.05)]
    for height, delay, width in waves:
        distance = (grid[:, None] - times - delay) / width
        ecg += height * np.exp(-0.5 * distance**2).sum(axis=1)
    return ecg


def expected_measures(times, centre, half=8.0):
    """Rate, SDNN and RMSSD of known beats, in plain Python."""
    near = [time for time in times if centre - half <= time < centre + half]
    gaps = [b - a for a, b in itertools.pairwise(near)]
    changes = [b - a for a, b in itertools.pairwise(gaps)]
    rmssd = math.sqrt(statistics.fmean(change**2 for change in changes))
    return 60 / statistics.median(gaps), 1e3 * statistics.stdev(gaps), 1e3 * rmssd


@pytest.mark.parametrize("polarity", [1, -1])
@pytest.mark.parametrize(("mean", "deviation"), [(1.2, 0.06), (0.8, 0.03), (0.5, 0.01)])
def test_heart_measures_are_those_of_the_known_beats(mean, deviation, polarity):
    times = heart_beats(mean=mean, deviation=deviation)
    measures = heart_measures(polarity * electrocardiogram(times), RATE)
    assert measures.shape == (15, len(HEART_MEASURES))
    for window, (rate, sdnn, rmssd, _) in enumerate(measures):
        expected = expected_measures(times, centre=4 * window + 2)
        assert rate == pytest.approx(expected[0], abs=1.0)
        assert sdnn == pytest.approx(expected[1], abs=2.5)
        assert rmssd == pytest.approx(expected[2], abs=3.5)


def test_the_last_measure_is_the_logarithm_of_the_amplitude():
    ecg = electrocardiogram(heart_beats())
    sections = signal.butter(2, (5, 25), "bandpass", fs=RATE, output="sos")
    filtered = signal.sosfiltfilt(sections, ecg)
    measures = heart_measures(ecg, RATE)
    assert measures[5, 3] == pytest.approx(
        math.log(filtered[14 * RATE : 30 * RATE].std()), abs=1e-6
    )
    doubled = heart_measures(2 * ecg, RATE)
    np.testing.assert_allclose(doubled[:, :3], measures[:, :3])
    np.testing.assert_allclose(doubled[:, 3], measures[:, 3] + math.log(2))


def test_a_lost_beat_does_not_change_the_rhythm():
    times = heart_beats(deviation=0.01)
    whole = heart_measures(electrocardiogram(times), RATE)
    measures = heart_measures(electrocardiogram(np.delete(times, 30)), RATE)
    np.testing.assert_allclose(measures[:, 0], whole[:, 0], atol=0.5)
    np.testing.assert_allclose(measures[:, 1:3], whole[:, 1:3], atol=2.0)


def test_movement_twenty_times_the_heart_does_not_change_the_rate():
    ecg = electrocardiogram(heart_beats(deviation=0.01))
    whole = heart_measures(ecg, RATE)
    for start in (10.0, 25.0, 40.0):
        ecg[round(start * RATE) :][:200] += np.hanning(200) * 20
    measures = heart_measures(ecg, RATE)
    np.testing.assert_allclose(measures[:, 0], whole[:, 0], atol=1.0)


@pytest.mark.parametrize("seed", range(4))
def test_no_heart_rate_is_read_from_noise(seed):
    generator = np.random.default_rng(seed)
    white = generator.normal(size=60 * RATE)
    assert np.isnan(heart_measures(white, RATE)).all()
    brown = white.cumsum()
    assert np.isnan(heart_measures(brown, RATE)).all()


def test_no_heart_rate_is_read_from_a_sensor_that_is_off():
    assert np.isnan(heart_measures(np.full(5000, 0.2), RATE)).all()
    ecg = electrocardiogram(heart_beats(seconds=120), seconds=120)
    ecg[: 70 * RATE] = 0.0
    measures = heart_measures(ecg, RATE)
    assert np.isnan(measures[:17]).all()
    np.testing.assert_allclose(measures[20:, 0], 75, atol=3)


def test_a_short_recording_gives_no_measure_rather_than_a_guess():
    ecg = electrocardiogram(np.array([0.5, 1.3]), seconds=2.0)
    assert np.isnan(heart_measures(ecg, RATE, window=2.0)).all()
    with pytest.raises(DataError, match="at least 2000"):
        heart_measures(ecg, RATE)
