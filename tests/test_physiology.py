"""Measures of skin, breath, pulse and eyes against signals made to have known ones."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from domainemo.data.signals.physiology import (
    EYE_MEASURES,
    PULSE_MEASURES,
    RESPIRATION_MEASURES,
    SIGNAL_STATISTICS,
    SKIN_MEASURES,
    eye_measures,
    pulse_measures,
    respiration_measures,
    signal_statistics,
    skin_measures,
)
from domainemo.errors import ConfigurationError, DataError

RATE = 128


def seconds(length, rate=RATE):
    return np.arange(round(length * rate)) / rate


def noise(colour, length=120, seed=0):
    """Noise whose power falls with the frequency's 0th, 1st or 2nd power."""
    values = np.random.default_rng(seed).normal(size=length * RATE)
    frequency = np.maximum(np.fft.rfftfreq(len(values)), 1 / len(values))
    power = {"white": 0, "pink": 0.5, "brown": 1}[colour]
    return np.fft.irfft(np.fft.rfft(values) / frequency**power, len(values))


# --------------------------------------------------------------------- statistics


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(8, 30)),
        elements=st.floats(-1e3, 1e3, width=32) | st.just(math.nan),
    )
)
def test_statistics_equal_those_of_plain_python(recording):
    found = signal_statistics(recording, 4.0, window=2.0)
    assert found.shape == (recording.shape[1] // 8, len(recording), 3)
    for window, channel in np.ndindex(found.shape[:2]):
        part = recording[channel, 8 * window :][:8].tolist()
        pairs = [(i / 4, v) for i, v in enumerate(part) if not math.isnan(v)]
        if len(pairs) < 4:
            assert np.isnan(found[window, channel]).all()
            continue
        time, values = zip(*pairs, strict=True)
        expected = [
            statistics.fmean(values),
            statistics.pstdev(values),
            statistics.linear_regression(time, values).slope,
        ]
        np.testing.assert_allclose(found[window, channel], expected, atol=1e-6)


def test_statistics_of_a_line():
    lines = np.array([[2.0], [-0.5]]) * seconds(12) + 100
    found = signal_statistics(lines, RATE)
    assert SIGNAL_STATISTICS == ("mean", "deviation", "slope")
    middle = np.array([2, 6, 10]) - 0.5 / RATE
    np.testing.assert_allclose(found[:, 0, 0], 100 + 2 * middle)
    np.testing.assert_allclose(found[:, :, 2], [[2, -0.5]] * 3)
    # A uniform distribution's deviation is its width over the root of 12.
    np.testing.assert_allclose(found[:, 0, 1], 8 / math.sqrt(12), rtol=1e-4)


# --------------------------------------------------------------------------- skin


def skin(times, length=120.0, height=1.0, level=5.0, slope=0.0):
    """Responses that rise within about a second and fall within about four."""
    time = seconds(length)
    conductance = level + slope * time
    for onset in times:
        since = np.maximum(time - onset, 0)
        conductance += 1.5 * height * (np.exp(-since / 4) - np.exp(-since / 0.7))
    return conductance


def test_level_and_slope_of_the_skin_are_those_of_a_line():
    measures = skin_measures(skin([], slope=0.01), RATE)
    assert measures.shape == (30, 4)
    assert SKIN_MEASURES == ("level", "slope", "phasic_deviation", "responses")
    middle = 4 * np.arange(30) + 2 - 0.5 / RATE
    np.testing.assert_allclose(measures[:, 0], 5 + 0.01 * middle)
    np.testing.assert_allclose(measures[:, 1], 0.01)
    assert (measures[5:-5, 2] < 1e-3).all()


@pytest.mark.parametrize("options", [{}, {"least_rise": 0.05}])
def test_responses_of_the_skin_are_counted(options):
    times = [8.0, 15.0, 31.0, 44.0, 52.0, 75.0, 82.0, 90.0, 97.0]
    conductance = skin(times, slope=-0.005)
    conductance += np.random.default_rng(0).normal(scale=0.005, size=len(conductance))
    measures = skin_measures(conductance, RATE, neighbourhood=120.0, **options)
    np.testing.assert_array_equal(measures[:, 3], len(times) / 2)


def test_responses_are_counted_where_they_are():
    times = np.array([10.0, 50.0, 57.0, 64.0])
    measures = skin_measures(skin(times), RATE, least_rise=0.05)
    for window, count in enumerate(measures[:, 3]):
        first = min(max(4 * window + 2 - 8, 0), 120 - 16)
        # The peak follows the onset by one to two seconds.
        sure = ((times + 2 >= first + 1) & (times + 1 < first + 15)).sum()
        possible = ((times + 3 >= first) & (times < first + 16)).sum()
        assert sure <= count * 16 / 60 <= possible


def test_slow_waves_are_no_responses():
    slow = 5 + 0.1 * np.sin(2 * np.pi * 0.01 * seconds(240))
    assert (skin_measures(slow, RATE, least_rise=0.05)[:, 3] == 0).all()


def test_small_waves_are_no_responses_where_the_least_rise_is_given():
    ripples = 5 + 0.01 * np.sin(2 * np.pi * 0.3 * seconds(120))
    assert (skin_measures(ripples, RATE, least_rise=0.05)[:, 3] == 0).all()


def test_the_phasic_deviation_is_that_of_the_band_above_the_trend():
    time = seconds(240)
    wave = 0.5 * np.sin(2 * np.pi * 0.25 * time)
    trend = 3 * np.sin(2 * np.pi * 0.005 * time) + 0.02 * time
    hum = 0.5 * np.sin(2 * np.pi * 20 * time)
    measures = skin_measures(wave + trend + hum, RATE)
    np.testing.assert_allclose(measures[8:-8, 2], 0.5 / math.sqrt(2), rtol=0.02)


def test_skin_measures_scale_with_the_unit():
    conductance = skin([8.0, 31.0, 60.0])
    one, thousand = (skin_measures(k * conductance, RATE) for k in (1, 1000))
    np.testing.assert_allclose(thousand[:, :3], 1000 * one[:, :3], atol=1e-6)
    np.testing.assert_array_equal(thousand[:, 3], one[:, 3])


# ------------------------------------------------------------------------- breath


@pytest.mark.parametrize("per_minute", [7.5, 9, 12, 15.5, 20, 26])
@pytest.mark.parametrize("drift", [0.0, 0.02])
def test_the_breathing_rate_is_that_of_the_wave(per_minute, drift):
    time = seconds(120)
    breath = 40 + 2 * np.sin(2 * np.pi * per_minute / 60 * time) + drift * time
    breath += np.random.default_rng(0).normal(scale=0.5, size=len(time))
    measures = respiration_measures(breath, RATE)
    assert measures.shape == (30, len(RESPIRATION_MEASURES))
    np.testing.assert_allclose(measures[:, 0], per_minute, atol=0.4)


def test_the_breathing_rate_follows_the_wave():
    time = seconds(120)
    frequency = np.where(time < 60, 0.2, 0.35)
    breath = np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
    measures = respiration_measures(breath, RATE)
    np.testing.assert_allclose(measures[:12, 0], 12, atol=0.3)
    np.testing.assert_allclose(measures[18:, 0], 21, atol=0.3)


def test_the_depth_of_breathing_is_the_logarithm_of_its_deviation():
    breath = 40 + 3 * np.sin(2 * np.pi * 0.25 * seconds(120))
    measures = respiration_measures(breath, RATE)
    expected = math.log(3 / math.sqrt(2))
    np.testing.assert_allclose(measures[3:-3, 1], expected, atol=0.03)
    deeper = respiration_measures(5 * breath, RATE)
    np.testing.assert_allclose(deeper[:, 1], measures[:, 1] + math.log(5))


@pytest.mark.parametrize(("colour", "most"), [("white", 0), ("pink", 3), ("brown", 24)])
def test_hardly_any_breath_is_read_from_noise(colour, most):
    rates = [
        respiration_measures(noise(colour, seed=seed), RATE)[:, 0] for seed in range(8)
    ]
    assert np.isfinite(rates).sum() <= most  # of 240 windows


def test_no_rate_is_read_from_less_than_two_breaths():
    breath = np.sin(2 * np.pi * 0.15 * seconds(12))
    assert np.isnan(respiration_measures(breath, RATE)[:, 0]).all()
    breath = np.sin(2 * np.pi * 0.3 * seconds(12))
    np.testing.assert_allclose(respiration_measures(breath, RATE)[:, 0], 18, atol=1)


# -------------------------------------------------------------------------- pulse


def beats(length=120.0, mean=0.8, deviation=0.03, seed=0):
    intervals = np.random.default_rng(seed).normal(mean, deviation, int(length))
    intervals = np.resize(intervals, int(2 * length / mean))
    times = 0.5 + np.cumsum(intervals)
    return times[times < length]


def blood_volume(times, length=120.0, scatter=0.02, seed=0):
    """A systolic and a dicrotic wave at each beat, on the tide of the breath."""
    time = seconds(length)
    volume = np.random.default_rng(seed).normal(scale=scatter, size=len(time))
    volume += 0.5 * np.sin(2 * np.pi * 0.25 * time)
    for beat in times:
        volume += np.exp(-0.5 * ((time - beat) / 0.09) ** 2)
        volume += 0.35 * np.exp(-0.5 * ((time - beat - 0.3) / 0.09) ** 2)
    return volume


def expected_measures(times, window, length=120.0, around=16.0):
    """Rate, SDNN and RMSSD of known beats, in plain Python."""
    first = min(max(4 * window + 2 - around / 2, 0), length - around)
    near = [time for time in times if first <= time < first + around]
    gaps = [b - a for a, b in itertools.pairwise(near)]
    changes = [b - a for a, b in itertools.pairwise(gaps)]
    rmssd = math.sqrt(statistics.fmean(change**2 for change in changes))
    return 60 / statistics.median(gaps), 1e3 * statistics.stdev(gaps), 1e3 * rmssd


@pytest.mark.parametrize("rate", [51.2, 55.0])
def test_no_heart_beats_faster_than_200_times_a_minute(rate):
    times = np.arange(0, 60, 1 / rate)
    for beats, told in ((3.2, True), (3.45, False)):
        found = pulse_measures(np.sin(2 * np.pi * beats * times), rate)[3, 0]
        assert np.isfinite(found) == told
        assert not told or found == pytest.approx(60 * beats, abs=2)


@pytest.mark.parametrize(("mean", "deviation"), [(1.2, 0.06), (0.8, 0.03), (0.6, 0.03)])
def test_pulse_measures_are_those_of_the_known_beats(mean, deviation):
    times = beats(mean=mean, deviation=deviation)
    measures = pulse_measures(blood_volume(times), RATE)
    assert measures.shape == (30, len(PULSE_MEASURES))
    expected = [expected_measures(times, window) for window in range(30)]
    np.testing.assert_allclose(measures[:, 0], np.array(expected)[:, 0], atol=1.5)
    np.testing.assert_allclose(measures[:, 1], np.array(expected)[:, 1], atol=7)
    np.testing.assert_allclose(measures[:, 2], np.array(expected)[:, 2], atol=12)


def test_beats_are_timed_more_finely_than_samples():
    time = seconds(60, rate=32)
    # 1.03 Hz against 32 Hz: a peak falls anywhere between two samples, 31 ms apart.
    measures = pulse_measures(np.sin(2 * np.pi * 1.03 * time), 32)
    np.testing.assert_allclose(measures[2:-2, 0], 61.8, atol=0.1)
    assert (measures[2:-2, 1:] < 2).all()


def test_a_missed_beat_does_not_change_the_rate():
    times = beats(deviation=0.01)
    whole = pulse_measures(blood_volume(times), RATE)
    measures = pulse_measures(blood_volume(np.delete(times, 60)), RATE)
    np.testing.assert_allclose(measures[:, 0], whole[:, 0], atol=1.0)


@pytest.mark.parametrize("colour", ["white", "pink", "brown"])
def test_no_pulse_is_read_from_noise(colour):
    for seed in range(5):
        assert np.isnan(pulse_measures(noise(colour, seed=seed), RATE)).all()


def test_no_pulse_is_read_where_the_sensor_is_off():
    volume = blood_volume(beats())
    volume[: 64 * RATE] = volume[64 * RATE]
    measures = pulse_measures(volume, RATE)
    assert np.isnan(measures[:13]).all()
    np.testing.assert_allclose(measures[20:, 0], 75, atol=3)


def test_a_few_beats_give_no_measure_rather_than_a_guess():
    assert np.isnan(pulse_measures(blood_volume(beats(2.0), 2.0), RATE, 2.0)).all()


# --------------------------------------------------------------------------- eyes

EYE_RATE = 60


def eyes(windows=3, seed=0):
    generator = np.random.default_rng(seed)
    gaze = generator.normal(size=(windows * 4 * EYE_RATE, 2)).cumsum(axis=0) / 10
    pupil = generator.normal(4, 0.2, size=len(gaze))
    return gaze, pupil


def test_eye_measures_equal_those_of_plain_python():
    gaze, pupil = eyes()
    gaze[100:130] = np.nan
    pupil[300:310] = 0.0
    measures = eye_measures(gaze, pupil, EYE_RATE, fixation_speed=8.0)
    assert measures.shape == (3, len(EYE_MEASURES))
    lost = {*range(100, 130), *range(300, 310)}
    for window, row in enumerate(measures):
        inside = range(240 * window, 240 * window + 240)
        kept = [i for i in inside if i not in lost]
        speeds = [
            60 * math.dist(gaze[i], gaze[i - 1])
            for i in kept
            if i > 0 and i - 1 not in lost
        ]
        widths = [float(pupil[i]) for i in kept]
        expected = {
            "pupil_mean": statistics.fmean(widths),
            "pupil_std": statistics.pstdev(widths),
            "pupil_slope": statistics.linear_regression(
                [i / 60 for i in kept], widths
            ).slope,
            "dispersion_x": statistics.pstdev(gaze[kept, 0].tolist()),
            "dispersion_y": statistics.pstdev(gaze[kept, 1].tolist()),
            "speed": statistics.fmean(speeds),
            "lost_share": 1 - len(kept) / 240,
            "fixation_share": sum(speed < 8 for speed in speeds) / len(speeds),
        }
        assert dict(zip(EYE_MEASURES, row, strict=True)) == pytest.approx(expected)


def test_fixations_are_told_from_saccades_by_their_speed():
    # A jump of 10 degrees every 15th sample, else rest.
    x = 10.0 * (np.arange(480) // 15 % 2)
    gaze = np.stack([x, np.zeros(480)], axis=1)
    measures = eye_measures(gaze, np.full(480, 4.0), EYE_RATE)
    fixation, speed = (EYE_MEASURES.index(n) for n in ("fixation_share", "speed"))
    np.testing.assert_allclose(measures[1, fixation], 1 - 16 / 240)
    np.testing.assert_allclose(measures[1, speed], 10 * 60 * 16 / 240)
    slow = eye_measures(gaze, np.full(480, 4.0), EYE_RATE, fixation_speed=601)
    assert (slow[:, fixation] == 1).all()


def test_of_two_pupils_the_one_that_is_there_is_taken():
    gaze, pupil = eyes()
    both = np.stack([pupil - 0.5, pupil + 0.5], axis=1)
    measures = eye_measures(gaze, pupil, EYE_RATE)
    np.testing.assert_allclose(eye_measures(gaze, both, EYE_RATE), measures)
    both[:] = pupil[:, None]
    both[50:90, 0], both[200:230, 1] = 0.0, np.nan
    np.testing.assert_allclose(eye_measures(gaze, both, EYE_RATE), measures)


def test_windows_of_closed_eyes_are_lost():
    gaze, pupil = eyes()
    pupil[240 : 240 + 121] = np.nan
    pupil[480 : 480 + 120] = np.nan
    measures = eye_measures(gaze, pupil, EYE_RATE)
    share = EYE_MEASURES.index("lost_share")
    np.testing.assert_allclose(measures[:, share], [0, 121 / 240, 0.5])
    others = np.delete(measures, share, axis=1)
    np.testing.assert_array_equal(
        np.isnan(others), [[False] * 7, [True] * 7, [False] * 7]
    )


# --------------------------------------------------------------------- everything

OF_ONE_SIGNAL = [skin_measures, respiration_measures, pulse_measures]


@pytest.mark.parametrize("measure", OF_ONE_SIGNAL)
class TestOneSignal:
    def test_a_sensor_that_is_off_is_lost(self, measure):
        assert np.isnan(measure(np.full(60 * RATE, 0.7), RATE)).all()

    def test_what_does_not_fit_is_named(self, measure):
        signal = noise("white")
        with pytest.raises(DataError, match=r"\(1, 15360\), expected \(samples,\)"):
            measure(signal[None], RATE)
        with pytest.raises(DataError, match="511 samples, expected at least 512"):
            measure(signal[:511], RATE)
        with pytest.raises(DataError, match="NaN or infinity in 1 of 15360"):
            measure(np.where(np.arange(len(signal)) == 9, np.nan, signal), RATE)

    def test_options_that_do_not_fit_are_named(self, measure):
        signal = noise("white")
        with pytest.raises(ConfigurationError, match="neighbourhood of 2 s"):
            measure(signal, RATE, neighbourhood=2.0)
        with pytest.raises(ConfigurationError, match="holds 0 samples"):
            measure(signal, RATE, window=0.0)
        with pytest.raises(ConfigurationError, match="half the sampling rate"):
            measure(signal, 1.5)

    def test_the_signal_is_not_changed_and_its_precision_hardly_matters(self, measure):
        signal = blood_volume(beats()) + skin([10.0, 40.0])
        before = signal.copy()
        measures = measure(signal, RATE)
        np.testing.assert_array_equal(signal, before)
        single = measure(signal.astype(np.float32), RATE)
        np.testing.assert_allclose(single, measures, rtol=1e-3, atol=1e-3)


def test_shapes_and_options_of_the_others_are_checked():
    gaze, pupil = eyes()
    with pytest.raises(DataError, match=r"gaze of shape \(720,\)"):
        eye_measures(gaze[:, 0], pupil, EYE_RATE)
    with pytest.raises(DataError, match=r"pupil of shape \(719,\)"):
        eye_measures(gaze, pupil[1:], EYE_RATE)
    with pytest.raises(DataError, match="239 samples, expected at least 240"):
        eye_measures(gaze[:239], pupil[:239], EYE_RATE)
    with pytest.raises(DataError, match="infinity in 1 of 720"):
        eye_measures(np.where(np.arange(720)[:, None] == 3, np.inf, gaze), pupil, 60)
    with pytest.raises(ConfigurationError, match="fixation_speed=0"):
        eye_measures(gaze, pupil, EYE_RATE, fixation_speed=0)
    with pytest.raises(ConfigurationError, match="least_rise=-1"):
        skin_measures(pupil, EYE_RATE, least_rise=-1)
    with pytest.raises(DataError, match=r"\(720,\), expected \(channels, samples\)"):
        signal_statistics(pupil, EYE_RATE)
