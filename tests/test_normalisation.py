"""Normalisation: against slow loops, and blind to what a fold may not see."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo import ConfigurationError, DataError, Inputs, Modality
from domainemo.data.normalisation import normalise
from domainemo.registry import entries, find

quick = settings(max_examples=25, deadline=None, database=None)
GROUPS = {"session": ["subject", "session"], "subject": ["subject"]}
METHODS = ("session", "subject", "source", "none")


def recordings(seed=0, lost=True):
    """Three subjects, two sessions, offsets of their own, rows shuffled, some NaN."""
    rng = np.random.default_rng(seed)
    windows = pd.DataFrame(
        [
            (subject, session, trial, trial, float(start))
            for subject in "abc"
            for session in (1, 2)
            for trial in (1, 2)
            for start in range(4)
        ],
        columns=["subject", "session", "trial", "stimulus", "start"],
    )
    windows = windows.sample(frac=1, random_state=seed).reset_index(drop=True)
    group = windows.groupby(["subject", "session"]).ngroup().to_numpy()
    signals = {}
    for name, channels, features in (("eeg", 3, 2), ("eye", 4, 1)):
        offset = rng.normal(0, 5, (6, channels, features))[group]
        gain = rng.uniform(0.2, 4, (6, channels, features))[group]
        array = rng.normal(size=(len(windows), channels, features)) * gain + offset
        if lost:
            array[rng.random(len(windows)) < 0.1] = np.nan
            array[rng.random(array.shape) < 0.05] = np.nan
        signals[name] = array.astype(np.float32)
    modalities = {
        name: Modality(
            tuple(f"c{i}" for i in range(array.shape[1])),
            tuple(f"f{i}" for i in range(array.shape[2])),
            "eye",
        )
        for name, array in signals.items()
    }
    return Inputs(signals, windows, modalities, "test")


def fold(inputs):
    """Subjects a and b are the source; of c, trial 1 is visible, trial 2 held out."""
    windows = inputs.windows
    source = np.flatnonzero(windows["subject"] != "c")
    target = np.flatnonzero((windows["subject"] == "c") & (windows["trial"] == 1))
    held = np.flatnonzero((windows["subject"] == "c") & (windows["trial"] == 2))
    return source, target, held


def moments(values):
    """Mean and deviation of the finite values, one by one, in float64."""
    finite = [float(value) for value in values if np.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    mean = sum(finite) / len(finite)
    deviation = (sum((value - mean) ** 2 for value in finite) / len(finite)) ** 0.5
    return mean, deviation if deviation > 1e-6 * abs(mean) else 1.0


def slowly(inputs, method, source, target):
    """Normalise value by value."""
    visible = {*source.tolist(), *target.tolist()}
    result = {}
    for name, array in inputs.signals.items():
        scaled = array.astype(np.float64)
        for channel in range(array.shape[1]):
            for feature in range(array.shape[2]):
                column = array[:, channel, feature]
                if method in GROUPS:
                    for _, part in inputs.windows.groupby(GROUPS[method]):
                        seen = [column[i] for i in part.index if i in visible]
                        mean, deviation = moments(seen)
                        for i in part.index:
                            scaled[i, channel, feature] = (column[i] - mean) / deviation
                mean, deviation = moments(scaled[source, channel, feature])
                if method == "source":
                    scaled[:, channel, feature] = (column - mean) / deviation
                    mean = 0.0
                for i in range(len(array)):
                    whole_window_lost = np.isnan(array[i]).all()
                    if np.isnan(array[i, channel, feature]) and not whole_window_lost:
                        scaled[i, channel, feature] = mean
        result[name] = scaled
    return result


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, 1])
def test_against_a_slow_loop(method, seed):
    inputs = recordings(seed)
    source, target, _ = fold(inputs)
    found, _ = normalise(inputs, method, source=source, target=target)
    expected = slowly(inputs, method, source, target)
    for name, values in found.signals.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4)
    pd.testing.assert_frame_equal(found.windows, inputs.windows)


@pytest.mark.parametrize("method", ["session", "subject"])
def test_each_group_comes_out_standardised(method):
    inputs = recordings(lost=False)
    everything = np.arange(len(inputs))
    found, _ = normalise(inputs, method, source=everything, target=everything)
    for values in found.signals.values():
        for _, part in inputs.windows.groupby(GROUPS[method]):
            np.testing.assert_allclose(values[part.index].mean(0), 0, atol=1e-5)
            np.testing.assert_allclose(values[part.index].std(0), 1, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_lost_windows_stay_lost_and_no_others(method):
    inputs = recordings()
    source, target, _ = fold(inputs)
    found, _ = normalise(inputs, method, source=source, target=target)
    for name, values in found.signals.items():
        lost = np.isnan(inputs.signals[name]).all(axis=(1, 2))
        assert lost.any()
        assert np.isnan(values[lost]).all()
        assert np.isfinite(values[~lost]).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_recordings_themselves_are_left_alone(method):
    inputs = recordings()
    before = {name: array.copy() for name, array in inputs.signals.items()}
    source, target, _ = fold(inputs)
    normalise(inputs, method, source=source, target=target)
    for name, array in before.items():
        np.testing.assert_array_equal(inputs.signals[name], array)


def changed(inputs, rows, seed=0):
    """Return the recordings with something altogether different at `rows`."""
    rng = np.random.default_rng(seed)
    signals = {}
    for name, array in inputs.signals.items():
        array = array.copy()
        array[rows] = rng.normal(1e4, 1e6, array[rows].shape)
        signals[name] = array
    return replace(inputs, signals=signals)


@quick
@given(st.sampled_from(METHODS), st.integers(0, 1000))
def test_held_out_windows_influence_nothing(method, seed):
    inputs = recordings(seed)
    source, target, held = fold(inputs)
    one, scales = normalise(inputs, method, source=source, target=target)
    other, other_scales = normalise(
        changed(inputs, held, seed), method, source=source, target=target
    )
    visible = np.concatenate([source, target])
    for name in one.signals:
        np.testing.assert_array_equal(
            one.signals[name][visible], other.signals[name][visible]
        )
        np.testing.assert_array_equal(scales[name].mean, other_scales[name].mean)
        np.testing.assert_array_equal(
            scales[name].deviation, other_scales[name].deviation
        )


@pytest.mark.parametrize("method", METHODS)
def test_the_target_does_not_influence_the_source(method):
    inputs = recordings()
    source, target, held = fold(inputs)
    all_target = np.concatenate([target, held])
    one, scales = normalise(inputs, method, source=source, target=target)
    other, other_scales = normalise(
        changed(inputs, all_target), method, source=source, target=target
    )
    for name in one.signals:
        np.testing.assert_array_equal(
            one.signals[name][source], other.signals[name][source]
        )
        np.testing.assert_array_equal(scales[name].mean, other_scales[name].mean)


def test_by_source_no_target_window_influences_any_other():
    inputs = recordings()
    source, target, held = fold(inputs)
    one, scales = normalise(inputs, "source", source=source, target=target)
    other, other_scales = normalise(
        changed(inputs, target), "source", source=source, target=target
    )
    untouched = np.concatenate([source, held])
    for name in one.signals:
        np.testing.assert_array_equal(
            one.signals[name][untouched], other.signals[name][untouched]
        )
        np.testing.assert_array_equal(
            scales[name].deviation, other_scales[name].deviation
        )


def test_none_changes_only_single_missing_values():
    inputs = recordings()
    source, target, _ = fold(inputs)
    found, _ = normalise(inputs, "none", source=source, target=target)
    for name, array in inputs.signals.items():
        there = np.isfinite(array)
        np.testing.assert_array_equal(found.signals[name][there], array[there])


@pytest.mark.parametrize("method", ["session", "subject", "source"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 123456.78])
def test_a_constant_channel_becomes_zero(method, constant):
    inputs = recordings(lost=False)
    inputs.signals["eeg"][:, 1, 0] = constant
    source, target, _ = fold(inputs)
    found, _ = normalise(inputs, method, source=source, target=target)
    np.testing.assert_allclose(found.signals["eeg"][:, 1, 0], 0, atol=1e-6)
    assert np.isfinite(found.signals["eeg"]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_channel_the_source_never_has_stays_finite(method):
    inputs = recordings(lost=False)
    source, target, _ = fold(inputs)
    inputs.signals["eeg"][source, 2, 1] = np.nan
    found, _ = normalise(inputs, method, source=source, target=target)
    assert np.isfinite(found.signals["eeg"]).all()
    assert (found.signals["eeg"][source, 2, 1] == 0).all()


@pytest.mark.parametrize("method", ["session", "subject", "source"])
@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_the_unit_of_measurement_does_not_matter(method, unit):
    inputs = recordings()
    source, target, _ = fold(inputs)
    other = {name: a * np.float32(unit) for name, a in inputs.signals.items()}
    one, _ = normalise(inputs, method, source=source, target=target)
    two, _ = normalise(
        replace(inputs, signals=other), method, source=source, target=target
    )
    for name in one.signals:
        np.testing.assert_allclose(one.signals[name], two.signals[name], atol=2e-4)


def test_powers_in_square_volts_are_scaled_too():
    inputs = recordings(lost=False)
    tiny = {name: a * np.float32(1e-13) for name, a in inputs.signals.items()}
    everything = np.arange(len(inputs))
    found, _ = normalise(
        replace(inputs, signals=tiny), "session", source=everything, target=everything
    )
    np.testing.assert_allclose(found.signals["eeg"].std(), 1, atol=0.01)


@pytest.mark.parametrize("method", ["session", "subject"])
def test_a_group_with_nothing_visible_is_refused_by_name(method):
    inputs = recordings()
    source = np.flatnonzero(inputs.windows["subject"] == "a")
    target = np.flatnonzero(inputs.windows["subject"] == "b")
    with pytest.raises(DataError, match=r"\bc\b.*held out"):
        normalise(inputs, method, source=source, target=target)


def test_a_session_with_nothing_visible_is_no_matter_per_subject():
    inputs = recordings()
    windows = inputs.windows
    source = np.flatnonzero(windows["subject"] != "c")
    target = np.flatnonzero((windows["subject"] == "c") & (windows["session"] == 1))
    normalise(inputs, "subject", source=source, target=target)
    with pytest.raises(DataError, match=r"'c', 2"):
        normalise(inputs, "session", source=source, target=target)


def test_stored_scales_give_what_training_gave():
    inputs = recordings()
    source, target, held = fold(inputs)
    trained, scales = normalise(inputs, "source", source=source, target=target)
    later = inputs.take(held)
    everything = np.arange(len(later))
    learned = {name: vars(scale) for name, scale in scales.items()}
    again, _ = normalise(
        later,
        "source",
        source=everything,
        target=everything,
        stored=scales,
        learned=learned,
    )
    for name in again.signals:
        np.testing.assert_array_equal(again.signals[name], trained.signals[name][held])


@pytest.mark.parametrize("method", METHODS)
def test_scales_are_those_of_the_source_after_the_first_step(method):
    inputs = recordings()
    source, target, _ = fold(inputs)
    _, scales = normalise(inputs, method, source=source, target=target)
    first = slowly(inputs, method, source, target) if method in GROUPS else None
    for name, array in inputs.signals.items():
        values = first[name] if first else array
        there = np.isfinite(array[source])
        kept = np.where(there, values[source], np.nan)
        np.testing.assert_allclose(
            scales[name].mean, np.nanmean(kept, axis=0), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            scales[name].deviation, np.nanstd(kept, axis=0), rtol=1e-4, atol=1e-5
        )


def test_every_method_is_described_and_others_are_refused():
    assert {entry.name for entry in entries("normalisation")} >= set(METHODS)
    words = {find("normalisation", method).words for method in METHODS}
    assert len(words) == len(METHODS)
    inputs = recordings()
    rows = np.arange(len(inputs))
    with pytest.raises(ConfigurationError, match=r"none, .*session, source, subject"):
        normalise(inputs, "minmax", source=rows, target=rows)
