"""Samplings: windows become samples, and no sample ever crosses a trial."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo import ConfigurationError, Sequences, Simulated, Trials, Windows
from domainemo.registry import entries, find
from domainemo.training import batches

quick = settings(max_examples=25, deadline=None, database=None)
TRIAL = ["subject", "session", "trial"]


def table(lengths, order=None):
    """One row per window of trials of the given lengths; rows in any order."""
    rows = [
        (number % 2, number // 2 % 2, number, number, 4.0 * place)
        for number, length in enumerate(lengths)
        for place in range(length)
    ]
    windows = pd.DataFrame(
        rows, columns=["subject", "session", "trial", "stimulus", "start"]
    )
    return windows if order is None else windows.iloc[order].reset_index(drop=True)


@st.composite
def tables(draw):
    """Trials of 1 to 9 windows, the rows shuffled, irregular starts."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=7))
    order = draw(st.permutations(range(sum(lengths))))
    windows = table(lengths, list(order))
    if draw(st.booleans()):
        windows["start"] = windows["start"] ** 1.5 - 3  # neither regular nor from 0
    return windows


samplings = st.one_of(
    st.builds(Windows),
    st.integers(1, 6).flatmap(
        lambda length: st.builds(
            Sequences,
            length=st.just(length),
            stride=st.none() | st.integers(1, length),
        )
    ),
    st.builds(Trials, crop=st.none() | st.integers(1, 10)),
)


def provenance(windows, rows):
    """Each sample as the provenance of its windows; None where padded."""
    keys = list(windows[[*TRIAL, "start"]].itertuples(index=False, name=None))
    return [[keys[row] if row >= 0 else None for row in sample] for sample in rows]


@quick
@given(tables(), samplings)
def test_no_sample_crosses_a_trial_and_time_runs_forward(windows, sampling):
    rows = sampling.rows(windows)
    assert rows.dtype == np.int64
    assert rows.ndim == 2
    for sample in rows:
        real = sample[sample >= 0]
        assert len(real) > 0
        part = windows.iloc[real]
        assert len(part[TRIAL].drop_duplicates()) == 1
        assert (np.diff(part["start"]) > 0).all()
        # Padding stands at the end only.
        assert (sample[: len(real)] >= 0).all()


@quick
@given(tables(), samplings)
def test_a_samples_windows_are_neighbours_in_their_trial(windows, sampling):
    for sample in sampling.rows(windows):
        part = windows.iloc[sample[sample >= 0]]
        same = windows[(windows[TRIAL] == part[TRIAL].iloc[0]).all(axis=1)]
        between = same["start"].between(part["start"].min(), part["start"].max())
        assert between.sum() == len(part)


@quick
@given(tables(), samplings, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(windows, sampling, random):
    order = list(range(len(windows)))
    random.shuffle(order)
    shuffled = windows.iloc[order].reset_index(drop=True)
    if isinstance(sampling, Windows):  # one sample a row, in the rows' own order
        assert (sampling.rows(shuffled)[:, 0] == np.arange(len(windows))).all()
        return
    one = provenance(windows, sampling.rows(windows))
    assert provenance(shuffled, sampling.rows(shuffled)) == one


@quick
@given(tables(), samplings)
def test_the_tables_index_does_not_matter(windows, sampling):
    odd = windows.set_index(np.arange(len(windows))[::-1] * 7 + 100)
    np.testing.assert_array_equal(sampling.rows(odd), sampling.rows(windows))


@quick
@given(tables(), st.integers(1, 6), st.data())
def test_sequences_use_every_window_and_pad_short_trials_only(windows, length, data):
    stride = data.draw(st.none() | st.integers(1, length))
    rows = Sequences(length=length, stride=stride).rows(windows)
    assert set(rows[rows >= 0]) == set(range(len(windows)))
    assert rows.shape[1] == length
    sizes = windows.groupby(TRIAL)["start"].transform("size").to_numpy()
    for sample in rows:
        size = sizes[sample[0]]
        assert (sample >= 0).sum() == min(size, length)


@quick
@given(tables(), st.integers(1, 6), st.data())
def test_sequences_against_a_slow_loop(windows, length, data):
    stride = data.draw(st.none() | st.integers(1, length))
    expected = []
    for _, trial in windows.groupby(TRIAL):
        starts = sorted(trial["start"])
        begin = 0
        while begin + length < len(starts):
            expected.append(starts[begin : begin + length])
            begin += stride or length
        expected.append(starts[-length:])  # aligned to the end
    found = [
        windows["start"].iloc[sample[sample >= 0]].tolist()
        for sample in Sequences(length=length, stride=stride).rows(windows)
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("size", "length", "stride", "expected"),
    [
        (8, 4, None, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (9, 4, None, [[0, 1, 2, 3], [4, 5, 6, 7], [5, 6, 7, 8]]),
        (6, 4, 1, [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]),
        (4, 4, None, [[0, 1, 2, 3]]),
        (3, 4, None, [[0, 1, 2, -1]]),
        (1, 3, 2, [[0, -1, -1]]),
    ],
)
def test_sequences_by_hand(size, length, stride, expected):
    rows = Sequences(length=length, stride=stride).rows(table([size]))
    assert rows.tolist() == expected


@quick
@given(tables())
def test_trials_hold_every_window_once(windows):
    rows = Trials().rows(windows)
    assert sorted(rows[rows >= 0]) == list(range(len(windows)))
    sizes = windows.groupby(TRIAL).size()
    assert rows.shape == (len(sizes), sizes.max())
    assert ((rows >= 0).sum(1) == sizes.to_numpy()).all()


@pytest.mark.parametrize(
    ("size", "crop", "expected"),
    [
        (5, 3, [1, 2, 3]),
        (6, 2, [2, 3]),
        (6, 3, [1, 2, 3]),  # the middle lies between two windows: the earlier one
        (3, 3, [0, 1, 2]),
        (2, 4, [0, 1, -1, -1]),
        (7, 1, [3]),
    ],
)
def test_crop_takes_the_middle(size, crop, expected):
    assert Trials(crop=crop).rows(table([size])).tolist() == [expected]


@quick
@given(tables(), st.integers(1, 9))
def test_crop_leaves_out_as_much_before_as_after(windows, crop):
    for sample in Trials(crop=crop).rows(windows):
        real = sample[sample >= 0]
        trial = (windows[TRIAL] == windows[TRIAL].iloc[real[0]]).all(axis=1)
        starts = windows["start"][trial]
        before = (starts < windows["start"].iloc[real[0]]).sum()
        after = (starts > windows["start"].iloc[real[-1]]).sum()
        assert after - before in (0, 1)
        assert before + after == max(len(starts) - crop, 0)


def test_same_trial_number_in_other_sessions_is_another_trial():
    windows = table([2, 2])
    windows["trial"], windows["subject"] = 1, 1
    windows["session"] = [1, 1, 2, 2]
    assert Trials().rows(windows).tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("options", [{"length": 0}, {"length": 3, "stride": 0}])
def test_sequences_refuse_lengths_below_one(options):
    with pytest.raises(ConfigurationError, match="at least 1"):
        Sequences(**options)


def test_trials_refuse_an_empty_crop():
    with pytest.raises(ConfigurationError, match="at least 1"):
        Trials(crop=0)


def test_each_sampling_says_what_a_sample_is():
    levels = {e.name: find("sampling", e.name).level for e in entries("sampling")}
    assert levels == {"windows": "window", "sequences": "sequence", "trials": "trial"}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (np.arange(6), "no whole numbers of shape"),
        (np.array([[0, -1], [-1, -1]]), "one without a window"),
        (np.array([[0, 6]]), "beyond the 6 windows"),
        (np.array([[2, 3]]), "two trials"),
    ],
)
def test_samples_that_break_the_contract_are_refused(rows, found):
    class Wrong(Windows):
        def rows(self, windows):
            return rows

    inputs = Simulated(subjects=1, sessions=1, trials=3, windows=(3, 3)).load().inputs
    with pytest.raises(ConfigurationError, match=found):
        batches.sample(inputs, np.arange(6), Wrong(), torch.device("cpu"))
