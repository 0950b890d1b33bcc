"""Smoothers against linear algebra, slow loops and what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from domainemo.data.signals.smoothing import linear_dynamic_system, moving_average
from domainemo.errors import ConfigurationError, DataError

values = st.floats(-50, 50, width=32)
trials = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 3)),
    elements=values | st.just(math.nan),
)


def series(windows=40, channels=3, bands=2, lost=0.0, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(5, 2, size=(windows, channels, bands))
    features[generator.random(features.shape) < lost] = np.nan
    return features


# --------------------------------------------------------------- moving average


@settings(max_examples=60, deadline=None)
@given(trials, st.sampled_from([1, 3, 5, 9, 31]))
def test_moving_average_equals_a_slow_loop(features, span):
    averaged = moving_average(features, span)
    for time, feature in np.ndindex(features.shape):
        reach = range(time - span // 2, time + span // 2 + 1)
        near = [features[t, feature] for t in reach if 0 <= t < len(features)]
        near = [value for value in near if not math.isnan(value)]
        if math.isnan(features[time, feature]):
            assert math.isnan(averaged[time, feature])
        else:
            expected = math.fsum(near) / len(near)
            assert averaged[time, feature] == pytest.approx(expected, abs=1e-9)


def test_a_span_of_one_changes_nothing():
    features = series(lost=0.2)
    np.testing.assert_array_equal(moving_average(features, 1), features)


@pytest.mark.parametrize("span", [0, -3, 4, 2.5, True])
def test_a_span_without_a_centre_is_refused(span):
    with pytest.raises(ConfigurationError, match="odd number of windows"):
        moving_average(series(), span)


# -------------------------------------------------------- linear dynamic system


def expected_states(observed, initial_mean):
    """E[state | observations] of the joint normal distribution, without recursion.

    The covariance of a random walk's states s and t is that of the first state plus a
    thousandth for each step up to the earlier of both.
    """
    time = np.arange(len(observed))
    states = 0.1 + 0.001 * np.minimum.outer(time, time)
    seen = ~np.isnan(observed)
    observations = states[np.ix_(seen, seen)] + np.eye(seen.sum())
    surprise = observed[seen] - initial_mean
    return initial_mean + states[:, seen] @ np.linalg.solve(observations, surprise)


@pytest.mark.parametrize("lost", [0.0, 0.3])
@pytest.mark.parametrize("windows", [1, 2, 60])
def test_smoother_gives_the_expected_states_of_the_whole_trial(windows, lost):
    features = series(windows, lost=lost if windows > 2 else 0.0)
    smoothed = linear_dynamic_system(features)
    for channel, band in np.ndindex(3, 2):
        observed = features[:, channel, band]
        expected = expected_states(observed, np.nanmean(observed))
        expected[np.isnan(observed)] = np.nan
        np.testing.assert_allclose(smoothed[:, channel, band], expected, rtol=1e-9)


@pytest.mark.parametrize("lost", [0.0, 0.3])
def test_filter_gives_the_expected_state_of_the_windows_so_far(lost):
    features = series(25, lost=lost)
    filtered = linear_dynamic_system(features, causal=True)
    for channel, band in np.ndindex(3, 2):
        observed = features[:, channel, band]
        first = observed[~np.isnan(observed)][0]
        for time in np.flatnonzero(~np.isnan(observed)):
            so_far = observed[: time + 1]
            expected = expected_states(so_far, first)[-1]
            assert filtered[time, channel, band] == pytest.approx(expected, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(trials, trials, st.data())
def test_causal_windows_do_not_depend_on_later_ones(features, others, data):
    now = data.draw(st.integers(0, len(features) - 1))
    changed = features.copy()
    later = changed[now + 1 :]
    later[:] = np.resize(others, later.shape)
    np.testing.assert_array_equal(
        linear_dynamic_system(changed, causal=True)[: now + 1],
        linear_dynamic_system(features, causal=True)[: now + 1],
    )


def test_the_smoother_does_depend_on_later_windows():
    features = series()
    changed = features.copy()
    changed[-1] += 10
    later = linear_dynamic_system(changed) - linear_dynamic_system(features)
    assert (later[0] > 0.01).all()


SMOOTHERS = {
    "moving average": lambda features: moving_average(features, 5),
    "smoother": linear_dynamic_system,
    "filter": lambda features: linear_dynamic_system(features, causal=True),
}


@pytest.mark.parametrize("smooth", SMOOTHERS.values(), ids=SMOOTHERS)
class TestAll:
    def test_constant_series_stay(self, smooth):
        features = np.full((30, 2, 3), -3.25)
        features[4:6, 1] = np.nan
        np.testing.assert_allclose(smooth(features), features, rtol=1e-12)

    def test_values_vary_less_but_keep_their_shape(self, smooth):
        features = series(80)
        smoothed = smooth(features)
        assert smoothed.shape == features.shape
        assert smoothed.dtype == np.float64
        assert (smoothed.std(axis=0) < 0.7 * features.std(axis=0)).all()

    def test_offset_and_scale_pass_through(self, smooth):
        features = series(lost=0.1)
        np.testing.assert_allclose(
            smooth(3 * features - 7), 3 * smooth(features) - 7, rtol=1e-9
        )

    def test_each_feature_is_smoothed_by_itself(self, smooth):
        features = series(lost=0.1)
        alone = smooth(features[:, 1, 0])
        np.testing.assert_allclose(smooth(features)[:, 1, 0], alone, rtol=1e-12)

    def test_lost_windows_stay_lost_and_alone(self, smooth):
        features = series(lost=0.2)
        features[:, 0] = np.nan
        np.testing.assert_array_equal(np.isnan(smooth(features)), np.isnan(features))

    def test_the_features_given_are_not_changed(self, smooth):
        features = series(lost=0.2)
        before = features.copy()
        smooth(features)
        np.testing.assert_array_equal(features, before)

    def test_single_precision_gives_the_same(self, smooth):
        features = series().astype(np.float32)
        np.testing.assert_array_equal(smooth(features), smooth(features.astype(float)))

    @pytest.mark.parametrize("features", [np.float64(3), np.empty((0, 2))])
    def test_no_windows_are_refused(self, smooth, features):
        with pytest.raises(DataError, match="at least one window"):
            smooth(features)

    def test_infinity_is_refused(self, smooth):
        with pytest.raises(DataError, match="infinity in 1 values"):
            smooth(np.array([[1.0], [np.inf]]))
