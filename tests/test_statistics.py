"""Intervals and comparisons: against scipy, enumeration and published examples."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo.benchmarks.findings import tiers
from domainemo.errors import ConfigurationError
from domainemo.statistics.bayesian import Chances, signed_rank
from domainemo.statistics.effects import Effect, rank_biserial, standardised, to_show
from domainemo.statistics.intervals import bootstrap_interval
from domainemo.statistics.paired import Comparison, compare, sign_flip, wilcoxon
from domainemo.statistics.ranks import friedman
from domainemo.statistics.several import holm, stouffer
from domainemo.statistics.ties import gap_between, reaches, tied
from domainemo.validators.comparing import all_sound

quick = settings(max_examples=20, deadline=None, database=None)


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize(
    "values", [[0.41, 0.53, 0.87, 0.62, 0.7], [0.40, 0.42, 0.43, 0.45, 0.95]]
)
def test_interval_against_all_resamples_of_five(values, level):
    """With five subjects there are 3125 resamples: their quantiles are exact."""
    values = np.array(values)
    means = np.array([np.mean(d) for d in itertools.product(values, repeat=5)])
    # Efron (1987), by hand: bias, acceleration by the jackknife, moved quantiles.
    below = ((means < values.mean()).mean() + (means <= values.mean()).mean()) / 2
    bias = scipy.stats.norm.ppf(below)
    left_out = np.array([np.delete(values, i).mean() for i in range(5)])
    pulls = left_out.mean() - left_out
    pull = (pulls**3).sum() / (6 * (pulls**2).sum() ** 1.5)
    # Hesterberg (2015), for five: Student's t of 4, and the root of 5 / 4.
    reach = (5 / 4) ** 0.5 * scipy.stats.t.ppf((1 + level) / 2, 4)
    ends = bias + np.array([-reach, reach])
    moved = scipy.stats.norm.cdf(bias + ends / (1 - pull * ends))
    expected = np.quantile(means, moved)
    assert bootstrap_interval(values, level=level) == pytest.approx(
        tuple(expected), abs=0.011
    )


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
        # Resamples that tie with the mean do so up to rounding.
        (3 * low + 2, 3 * high + 2),
        abs=0.01,
    )


@pytest.mark.parametrize("exponent", [-1000, -613, -40, 40])
def test_the_size_of_values_does_not_matter(exponent):
    values = np.array([0.0, 0.0, 0.3, -0.1, 1.0, 0.4])
    scale = 2.0**exponent
    low, high = bootstrap_interval(values)
    assert bootstrap_interval(scale * values) == (scale * low, scale * high)
    assert standardised(scale * values) == standardised(values)


def test_a_wider_level_is_a_wider_interval():
    values = np.random.default_rng(0).normal(size=9)
    narrow, wide = (bootstrap_interval(values, level=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_interval_repeats_with_its_seed():
    values = np.random.default_rng(0).normal(size=8)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


def test_whatever_is_drawn_in_a_comparison_is_drawn_by_its_seed():
    first, second = np.random.default_rng(0).normal(0.2, 1, (2, 20))
    one, same, other = (compare(first, second, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert (one.low, one.high) != (other.low, other.high)
    assert one.permutation != other.permutation
    assert one.chances != other.chances


@pytest.mark.parametrize("value", [0.0, 1 / 3, -2e9])
def test_equal_values_are_their_own_interval(value):
    low, high = bootstrap_interval(np.full(9, value))
    assert low == high == pytest.approx(value, abs=0)


def test_a_missing_value_allows_no_interval():
    assert np.isnan(bootstrap_interval(np.array([np.nan, 1, 2, 3, 4, 5]))).all()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_too_few_subjects_allow_nothing(size):
    assert np.isnan(bootstrap_interval(np.ones(size))).all()
    found = compare(np.ones(size), np.zeros(size))
    assert found.difference == 1
    assert found.subjects == size
    assert np.isnan([found.low, found.high, found.p, found.permutation]).all()
    assert np.isnan([found.standardised.low, found.rank_biserial.low]).all()
    assert np.isnan([found.chances.worse, found.chances.equal]).all()
    assert found.needed is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_subject_without_a_value_is_told(value):
    scores = np.array([0.1, 0.5, 0.3, 0.2, 0.9, 0.4])
    missing = np.where(np.arange(6) == 2, value, scores)
    with pytest.raises(ConfigurationError, match="1 of 6, the first at place 2"):
        compare(missing, scores)


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


@pytest.mark.parametrize("size", [5, 8, 30, 60])
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
    assert one.permutation == pytest.approx(other.permutation)
    assert one.needed == other.needed
    for name in ("standardised", "rank_biserial"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.value == pytest.approx(-theirs.value)
        assert (ours.low, ours.high) == pytest.approx((-theirs.high, -theirs.low))
    assert one.chances.better == pytest.approx(other.chances.worse, abs=0.02)


def test_equal_methods_do_not_differ():
    values = np.array([0.5, 0.6, 0.7, 0.4, 0.5])
    found = compare(values, values)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert found.permutation == 1
    assert found.standardised == Effect(0, 0, 0)
    assert found.chances == Chances(0, 1, 0)


def test_five_subjects_can_never_be_significant_at_five_percent():
    """The smallest two-sided p of five pairs is 2 / 2**5."""
    found = compare(np.arange(5) + 1.0, np.zeros(5))
    assert found.p == pytest.approx(2 / 32)


# ------------------------------------------------------------------- paired, by hand


@pytest.mark.parametrize("size", [5, 8, 12])
def test_sign_flips_against_full_enumeration(size):
    gap = np.random.default_rng(size).integers(-3, 6, size) / 8
    means = [np.mean(gap * signs) for signs in itertools.product([-1, 1], repeat=size)]
    reached = np.abs(means) >= abs(gap.mean()) - 1e-12
    assert sign_flip(gap) == pytest.approx(reached.mean())


def test_sign_flips_of_many_subjects_are_drawn():
    """Of 40 differences the mean of random signs is normal, nearly."""
    gap = np.random.default_rng(1).normal(0.25, 1, 40)
    z = abs(gap.mean()) / np.sqrt((gap**2).sum()) * 40
    assert sign_flip(gap) == pytest.approx(2 * scipy.stats.norm.sf(z), abs=0.02)
    assert sign_flip(gap, seed=3) == sign_flip(gap, seed=3)
    assert sign_flip(gap + 10) == pytest.approx(2 / 10_000)


@pytest.mark.parametrize(
    ("size", "mean"), [(5, 0.0), (8, 0.7), (9, 40.0), (15, 0.2), (36, -3.0)]
)
def test_the_standardised_interval_puts_the_observed_t_at_its_ends(size, mean):
    gap = np.random.default_rng(size).normal(mean, 1, size)
    found = standardised(gap)
    t = scipy.stats.ttest_1samp(gap, 0).statistic
    assert found.value * np.sqrt(size) == pytest.approx(t)
    for end, share in ((found.low, 0.975), (found.high, 0.025)):
        shift = end * np.sqrt(size)
        assert scipy.stats.nct.cdf(t, size - 1, shift) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("size", [0.1, -0.1])
def test_one_size_of_difference_has_no_deviation_to_be_measured_in(size):
    assert np.isnan(standardised(np.full(7, size)).value)


def test_rank_biserial_by_hand():
    """Ranks 1, 2, 3.5, 3.5, 5, one of them negative; Fisher's interval."""
    gap = np.array([0.1, -0.2, 0.3, 0.3, 0.5, 0.0])
    found = rank_biserial(gap)
    assert found.value == pytest.approx((13 - 2) / 15)
    deviation = np.sqrt((2 * 125 + 75 + 5) / 6) / 15
    ends = np.tanh(np.arctanh(11 / 15) + np.array([-1.959964, 1.959964]) * deviation)
    assert (found.low, found.high) == pytest.approx(tuple(ends))
    # Five subjects are enough, though some of them do not differ.
    few = rank_biserial(np.array([0.1, -0.2, 0.3, 0.0, 0.0]))
    assert few.value == pytest.approx((4 - 2) / 6)
    ends = np.tanh(np.arctanh(1 / 3) + np.array([-1.959964, 1.959964]) * 14**0.5 / 6)
    assert (few.low, few.high) == pytest.approx(tuple(ends))


def test_all_in_one_direction_has_no_rank_interval():
    found = rank_biserial(np.array([1.0, 2, 3, 4, 5]))
    assert found.value == 1
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize(("size", "subjects"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_subjects_needed_as_published(size, subjects):
    """G*Power's values for the paired t test, two-sided 0.05, power 0.8."""
    gap = np.array([-1.0, 1] * 4)
    gap *= 0.02 / size / gap.std(ddof=1)
    assert to_show(gap) == subjects


def test_subjects_needed_are_six_at_least():
    assert to_show(np.array([0.1, 0.1, 0.1, 0.1, 0.1])) == 6
    assert to_show(np.array([0.1, 0.1, 0.1, 0.1, 0.1001])) == 6


# ------------------------------------------------------------------------- Bayesian


def test_bayesian_signed_rank_against_a_loop():
    """As published (Benavoli et al., 2017), subject by subject and draw by draw."""
    gap, rope = np.array([0.05, -0.01, 0.03, 0.08, -0.04, 0.02]), 0.02
    values, rng = [0.0, *gap], np.random.default_rng(5)
    won = np.zeros(3)
    for _ in range(2000):
        weights = rng.dirichlet([0.5] + [1] * 6)
        shares = np.zeros(3)
        for i, one in enumerate(values):
            for j, other in enumerate(values):
                middle = (one + other) / 2
                side = 0 if middle < -rope else 2 if middle > rope + 1e-12 else 1
                shares[side] += weights[i] * weights[j]
        won[shares.argmax()] += 1
    found = signed_rank(gap, rope=rope)
    told = [found.worse, found.equal, found.better]
    # 2000 draws: a standard error of 0.011 at most.
    assert told == pytest.approx(won / 2000, abs=0.04)
    assert sum(told) == pytest.approx(1)


def test_bayesian_signed_rank_is_sure_where_there_is_no_doubt():
    gap = np.full(15, 0.2)
    assert signed_rank(gap).better > 0.99
    assert signed_rank(-gap).worse > 0.99
    assert signed_rank(gap / 100).equal > 0.99
    assert signed_rank(gap, rope=0.3).equal > 0.99
    assert compare(gap, 0 * gap, rope=0.3).chances == signed_rank(gap, rope=0.3)
    # A difference of 0.02 is within 0.02, though it is 0.020000000000000018.
    assert signed_rank(np.full(15, 0.8 - 0.78)).equal > 0.99


# ------------------------------------------------------------------- several at once


def test_holm_by_a_worked_example():
    """p = .01, .04, .03, .005 of four tests, as in many texts and R's p.adjust."""
    found = holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(values):
    corrected = holm(values)
    left, rejected = sorted(range(len(values)), key=values.__getitem__), set()
    for step, number in enumerate(left):
        if values[number] * (len(values) - step) > 0.05:
            break
        rejected.add(number)
    assert {n for n, p in enumerate(corrected) if p <= 0.05} == rejected
    assert (corrected >= np.array(values)).all()


def test_holm_does_not_count_what_was_not_tested():
    found = holm([0.01, float("nan"), 0.04])
    assert found == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


def made_up(p, direction, subjects):
    found = compare(np.arange(6) + 1.0, np.zeros(6))
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
    fields |= {"p": p, "subjects": subjects}
    fields["rank_biserial"] = Effect(direction, np.nan, np.nan)
    return Comparison(**fields)


def test_stouffer_by_hand():
    found = stouffer([made_up(0.04, 1, 15), made_up(0.3, -1, 36), made_up(0.01, 1, 8)])
    normal = scipy.stats.norm
    each = np.array([normal.isf(0.02), -normal.isf(0.15), normal.isf(0.005)])
    weights = np.sqrt([15, 36, 8])
    z = (weights * each).sum() / np.sqrt((weights**2).sum())
    assert found.z == pytest.approx(z)
    assert found.p == pytest.approx(2 * normal.sf(abs(z)))


@pytest.mark.parametrize("direction", [1, -1])
def test_one_data_set_alone_keeps_its_p(direction):
    found = stouffer([made_up(0.04, direction, 9)])
    assert found.p == pytest.approx(0.04)
    assert np.sign(found.z) == direction


def test_data_sets_that_disagree_cancel_out():
    assert stouffer([made_up(0.01, 1, 9), made_up(0.01, -1, 9)]).p == pytest.approx(1)
    with pytest.raises(ConfigurationError, match="five subjects"):
        stouffer([made_up(float("nan"), 1, 3)])


# Demsar (2006), table 6: AUC of C4.5, with pruning by m, by cf, and by both.
DEMSAR = pd.DataFrame(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.97501, 0.975],  # printed as 0.975 twice, ranked 2 and 3
        [0.957, 0.978, 0.946, 0.970],
    ],
    columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"],
)


def test_ranks_as_published():
    found = friedman(DEMSAR)
    assert list(found.average.index) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert found.average.to_numpy() == pytest.approx([1.964, 2, 2.893, 3.143], abs=6e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    # The published 9.28 is without the correction for ties.
    plain = 12 * 14 / 20 * ((found.average**2).sum() - 25)
    assert plain == pytest.approx(9.28, abs=0.005)
    own = scipy.stats.friedmanchisquare(*DEMSAR.to_numpy().T)
    assert (found.statistic, found.p) == tuple(own)
    # As the paper says, Nemenyi's test finds no two of them to differ.
    assert found.groups == [list(found.average.index)]
    turned = friedman(-DEMSAR, lower=True).average
    assert turned.equals(found.average)


def test_groups_are_the_largest_that_cannot_be_told_apart():
    """Ranks 1, 2, 3 and 4 in all of 12 subjects; the critical difference is 1.35."""
    table = pd.DataFrame(np.tile([4.0, 3, 2, 1], (12, 1)), columns=list("abcd"))
    assert friedman(table).groups == [["a", "b"], ["b", "c"], ["c", "d"]]
    far = table.assign(e=0.0, f=-1.0)[["a", "f", "e"]]
    assert friedman(pd.concat([far] * 3)).groups == []


def test_methods_that_never_differ_tie():
    found = friedman(pd.DataFrame(np.ones((8, 3)), columns=list("abc")))
    assert (found.p, set(found.average)) == (1, {2.0})
    assert found.groups == [["a", "b", "c"]]
    assert np.isnan(friedman(DEMSAR[:4]).p)
    five = scipy.stats.friedmanchisquare(*DEMSAR[:5].to_numpy().T)
    assert friedman(DEMSAR[:5]).p == five.pvalue


def test_ranks_need_three_methods_and_all_values():
    with pytest.raises(ConfigurationError, match="2 methods"):
        friedman(DEMSAR.iloc[:, :2])
    with pytest.raises(ConfigurationError, match="1 missing"):
        friedman(DEMSAR.replace(0.599, np.nan))


# ------------------------------------------------------------------ ties and rounding


@quick
@given(
    st.integers(5, 12).flatmap(
        lambda n: st.lists(
            st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=n, max_size=n
        )
    ),
    st.sampled_from([3, 7, 10, 21, 60]),
)
def test_shares_that_differ_by_as_much_are_tied(counts, of):
    """Scores are numbers of parts: what is true of the parts is true of the scores."""
    first, second = np.array(counts, dtype=float).T
    parts, gap = first - second, first / of - second / of
    assert wilcoxon(gap) == wilcoxon(parts)
    assert sign_flip(gap) == pytest.approx(sign_flip(parts))
    assert rank_biserial(gap).value == rank_biserial(parts).value
    shares = gap_between(first / of, second / of)
    assert (np.sign(shares) == np.sign(parts)).all()
    same = {"rel": 1e-9, "abs": 1e-9, "nan_ok": True}
    assert standardised(shares).value == pytest.approx(
        standardised(parts).value, **same
    )
    table = pd.DataFrame({"a": first, "b": second, "c": first[::-1]})
    expected, found = friedman(table), friedman(table / of)
    assert found.average.to_dict() == expected.average.to_dict()
    assert found.p == pytest.approx(expected.p, nan_ok=True)


def test_the_order_of_seeds_makes_no_difference():
    scores = np.array([0.6, 0.7, 0.8])
    assert scores.mean() != scores[1]  # by the last bit
    found = compare(np.full(8, scores.mean()), np.full(8, scores[1]))
    assert (found.difference, found.p, found.permutation) == (0, 1, 1)
    assert (found.rank_biserial.value, found.standardised.value) == (0, 0)
    whole = pd.DataFrame({"a": [scores.mean()] * 8, "b": [0.7] * 8, "c": [0.5] * 8})
    assert friedman(whole).average.to_dict() == {"a": 1.5, "b": 1.5, "c": 3}
    assert tiers(whole).to_dict() == {"a": 1, "b": 1, "c": 3}
    assert tiers(whole[["c", "b", "a"]]).to_dict() == {"a": 1, "b": 1, "c": 3}


def test_what_differs_in_the_eighth_digit_differs_and_in_the_twelfth_does_not():
    score = np.array([0.5, 0.5])
    found = gap_between(score + np.array([1e-8, 1e-12]), score)
    assert found.tolist() == pytest.approx([1e-8, 0], rel=1e-6, abs=0)
    # A loss may be negative: it is its size that is rounded.
    below = np.array([np.mean([-0.6, -0.7, -0.8])])
    assert below[0] != -0.7
    assert gap_between(below, np.array([-0.7])).tolist() == [0]


def test_what_is_infinite_or_missing_leaves_the_others_as_they_are():
    """As a score is that is none: of scores of whatever size."""
    values = np.array([-np.inf, 0.5, 0.5 + 1e-15, np.nan, 0.7])
    for size in (1.0, 2.0**-60, 2.0**60):
        lowest, first, second, missing, highest = tied(values * size) / size
        assert lowest == -np.inf and np.isnan(missing)
        assert first == second == pytest.approx(0.5)
        assert highest == pytest.approx(0.7)


def test_a_constant_network_is_at_chance():
    for classes, folds in itertools.product(range(2, 8), range(1, 60)):
        known = [1 / classes] * folds
        assert not all_sound(range(classes), known, classes)
        assert all_sound(range(classes), [*known, 0.99], classes)


def test_a_network_is_sound_by_the_mean_of_its_folds_and_all_its_classes():
    assert not all_sound(range(2), [0.9, 0.05], 2)
    assert all_sound(range(2), [0.9, 0.15], 2)
    assert not all_sound([0], [0.9], 2)


@given(
    st.lists(st.integers(0, 20), min_size=6, max_size=6),
    st.lists(st.integers(0, 20), min_size=6, max_size=6),
)
def test_a_score_reaches_another_by_its_whole_numbers(first, second):
    """A mean of shares in any order: rounding neither raises nor lowers it."""
    one, other = (sum(each / 20 for each in shares) / 6 for shares in (first, second))
    assert reaches(one, other) == (sum(first) >= sum(second))
    assert not reaches(-math.inf, one) and reaches(one, -math.inf)
