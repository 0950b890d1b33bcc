"""Intervals and paired comparisons: against scipy and full enumeration."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo.runs.statistics import bootstrap_interval, compare

quick = settings(max_examples=20, deadline=None, database=None)


@pytest.mark.parametrize(("size", "level"), [(5, 0.95), (15, 0.95), (15, 0.8)])
def test_interval_against_scipy(size, level):
    values = np.random.default_rng(size).normal(0.6, 0.1, size)
    expected = scipy.stats.bootstrap(
        (values,),
        np.mean,
        method="percentile",
        confidence_level=level,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = bootstrap_interval(values, level=level)
    # Both have a sampling error of their own: a few percent of the standard error.
    tolerance = 0.1 * values.std() / np.sqrt(size)
    assert found == pytest.approx(tuple(expected), abs=tolerance)


def test_interval_against_all_resamples_of_five():
    """With five subjects there are 3125 resamples: their quantiles are exact."""
    values = np.array([0.4, 0.5, 0.9, 0.6, 0.7])
    means = [np.mean(drawn) for drawn in itertools.product(values, repeat=5)]
    expected = np.quantile(means, [0.025, 0.975])
    assert bootstrap_interval(values) == pytest.approx(tuple(expected), abs=0.011)


@quick
@given(st.lists(st.floats(-3, 3), min_size=5, max_size=12), st.integers(0, 9))
def test_interval_encloses_the_mean_and_stays_in_range(values, seed):
    values = np.array(values)
    low, high = bootstrap_interval(values, seed=seed)
    slack = 1e-9
    assert values.min() - slack <= low <= high <= values.max() + slack
    assert low - slack <= values.mean() <= high + slack


def test_interval_moves_and_stretches_with_the_values():
    values = np.random.default_rng(0).normal(size=9)
    low, high = bootstrap_interval(values)
    assert bootstrap_interval(3 * values + 2) == pytest.approx(
        (3 * low + 2, 3 * high + 2)
    )


def test_a_wider_level_is_a_wider_interval():
    values = np.random.default_rng(0).normal(size=9)
    narrow, wide = (bootstrap_interval(values, level=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_interval_repeats_with_its_seed():
    values = np.random.default_rng(0).normal(size=8)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        low, high = bootstrap_interval(rng.normal(size=25))
        inside += low <= 0 <= high
    # 95 % is aimed at; the percentile bootstrap of 25 falls short by about 2 %.
    assert 85 <= inside <= 99


@pytest.mark.parametrize("size", [1, 2, 4])
def test_too_few_subjects_allow_nothing(size):
    assert np.isnan(bootstrap_interval(np.ones(size))).all()
    found = compare(np.ones(size), np.zeros(size))
    assert found.difference == 1
    assert found.subjects == size
    assert np.isnan([found.low, found.high, found.p]).all()


def enumerated(gap):
    """Two-sided signed-rank test by all assignments of signs; no ties, no zeros."""
    ranks = np.abs(gap).argsort().argsort() + 1
    observed = ranks[gap > 0].sum()
    sums = np.array(
        [
            ranks[np.array(s)].sum()
            for s in itertools.product([False, True], repeat=len(gap))
        ]
    )
    one_sided = min((sums <= observed).mean(), (sums >= observed).mean())
    return min(1.0, 2 * one_sided)


@pytest.mark.parametrize("size", [5, 6, 9])
def test_p_against_full_enumeration(size):
    rng = np.random.default_rng(size)
    first, second = rng.normal(0.3, 1, size), rng.normal(size=size)
    assert compare(first, second).p == pytest.approx(enumerated(first - second))


@pytest.mark.parametrize("size", [5, 12, 30, 60])
def test_p_against_scipy_with_ties_and_zeros(size):
    """Accuracies are ratios of small numbers: equal differences are common."""
    rng = np.random.default_rng(size)
    first, second = rng.integers(0, 5, size) / 8, rng.integers(0, 5, size) / 8
    found = compare(first, second)
    assert found.p == pytest.approx(scipy.stats.wilcoxon(first, second).pvalue)
    assert found.difference == pytest.approx(first.mean() - second.mean())
    assert (found.low, found.high) == bootstrap_interval(first - second)
    assert found.subjects == size


def test_swapping_the_methods_swaps_the_sign_alone():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=10), rng.normal(size=10)
    one, other = compare(first, second), compare(second, first)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p == pytest.approx(other.p)


def test_equal_methods_do_not_differ():
    values = np.array([0.5, 0.6, 0.7, 0.4, 0.5])
    found = compare(values, values)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_five_subjects_can_never_be_significant_at_five_percent():
    """The smallest two-sided p of five pairs is 2 / 2**5."""
    found = compare(np.arange(5) + 1.0, np.zeros(5))
    assert found.p == pytest.approx(2 / 32)
