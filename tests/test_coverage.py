"""The benchmark of coverage, with few repetitions: bounds that chance rarely passes."""

import numpy as np
import pytest
import scipy.stats
from scripts import script

REPETITIONS = 150


@pytest.fixture(scope="module")
def coverage():
    return script("coverage")


def at_most(share):
    """The share of repetitions that a true one exceeds once in 10,000 times."""
    return scipy.stats.binom.isf(1e-4, REPETITIONS, share) / REPETITIONS


@pytest.mark.parametrize("subjects", [8, 15, 36])
def test_intervals_cover_and_tests_keep_their_promise(coverage, subjects):
    found = coverage.simulate("normal", subjects, REPETITIONS)
    assert 1 - found["covered"] <= at_most(0.05)
    for name in ("wilcoxon", "permutation", "holm"):
        assert found[name] <= at_most(0.05), name


def test_what_is_simulated_differs_by_nothing_on_average(coverage):
    for kind in coverage.KINDS:
        rng = np.random.default_rng(1)
        gaps = np.array([coverage.drawn(kind, 36, rng) for _ in range(200)])
        error = gaps.std() / np.sqrt(gaps.size / 10)
        assert abs(gaps.mean()) < 4 * error, kind
