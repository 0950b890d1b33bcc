"""Protocols: who trains and who is tested, from provenance alone."""

import inspect
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo import ConfigurationError, DataError, Inputs, Modality, Protocol
from domainemo.protocols.cross_session import CrossSession
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.protocols.held_out import divide
from domainemo.registry import entries, find

quick = settings(max_examples=25, deadline=None, database=None)
TRIAL = ["subject", "session", "trial"]
COLUMNS = [*TRIAL, "stimulus", "start"]


def table(subjects=3, sessions=2, trials=4, sizes=(5,), seed=None):
    """Windows of every subject, session and trial; rows shuffled by `seed`."""
    rows = [
        (subject, session, trial, trial, 4.0 * place)
        for subject in range(1, subjects + 1)
        for session in range(1, sessions + 1)
        for trial in range(1, trials + 1)
        for place in range(sizes[trial % len(sizes)])
    ]
    windows = pd.DataFrame(rows, columns=COLUMNS)
    if seed is None:
        return windows
    return windows.sample(frac=1, random_state=seed).reset_index(drop=True)


tables = st.builds(
    table,
    subjects=st.integers(2, 4),
    sessions=st.integers(2, 3),
    trials=st.integers(2, 6),
    sizes=st.lists(st.integers(4, 9), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
shares = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])
protocols = st.one_of(
    st.builds(
        CrossSubject,
        session=st.sampled_from(["pooled", "each", "2", 1]),
        held_out=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
        unit=st.sampled_from(["trial", "time"]),
        seed=st.integers(0, 5),
    ),
    st.builds(
        CrossSession,
        source=st.sampled_from(["others", "earlier"]),
        held_out=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
        unit=st.sampled_from(["trial", "time"]),
        seed=st.integers(0, 5),
    ),
)


def places(windows, rows):
    """Return windows as a set of provenance, whatever their row numbers."""
    chosen = windows.iloc[rows]
    return set(chosen.itertuples(index=False, name=None))


def trials_of(windows, rows):
    return set(windows.iloc[rows][TRIAL].itertuples(index=False, name=None))


def values(windows, rows, column):
    return set(windows[column].iloc[rows])


# ------------------------------------------------------------------- every protocol


@quick
@given(tables, protocols)
def test_source_and_target_are_never_of_one_domain(windows, protocol):
    for fold in protocol.split(windows):
        other = np.concatenate([fold.target, fold.test])
        assert not set(fold.source) & set(other)
        assert len(fold.source) and len(fold.target) and len(fold.test)
        domains = values(windows, fold.source, protocol.domain)
        assert not domains & values(windows, other, protocol.domain)
        for rows in (fold.source, fold.target, fold.test):
            assert len(set(rows)) == len(rows)


@quick
@given(tables, protocols)
def test_seen_and_tested_are_one_or_disjoint(windows, protocol):
    for fold in protocol.split(windows):
        if protocol.held_out == 0:
            np.testing.assert_array_equal(fold.target, fold.test)
            assert fold.access == "transductive"
        else:
            assert not set(fold.target) & set(fold.test)
            assert fold.access == "inductive"


@quick
@given(tables, protocols, st.integers(0, 1000))
def test_the_order_of_the_rows_does_not_matter(windows, protocol, seed):
    shuffled = windows.sample(frac=1, random_state=seed).reset_index(drop=True)
    one, other = list(protocol.split(windows)), list(protocol.split(shuffled))
    assert [fold.name for fold in one] == [fold.name for fold in other]
    for first, second in zip(one, other, strict=True):
        for role in ("source", "target", "test"):
            assert places(windows, getattr(first, role)) == places(
                shuffled, getattr(second, role)
            )


@quick
@given(tables, protocols)
def test_fold_names_are_distinct(windows, protocol):
    names = [fold.name for fold in protocol.split(windows)]
    assert len(set(names)) == len(names)


def test_every_protocol_is_handed_windows_alone():
    for entry in entries("protocol"):
        split = find("protocol", entry.name).split
        assert list(inspect.signature(split).parameters) == ["self", "windows"]
    assert list(inspect.signature(Protocol.split).parameters) == ["self", "windows"]


def test_a_windows_table_cannot_carry_a_label():
    windows = table(1, 1, 1, (2,)).assign(label=0)
    signal = {"eye": np.zeros((2, 1, 1), np.float32)}
    with pytest.raises(DataError, match="label"):
        Inputs(signal, windows, {"eye": Modality(("a",), ("b",), "eye")})


# -------------------------------------------------------------------- cross-subject


def test_cross_subject_leaves_each_subject_out_once():
    windows = table(seed=1)
    folds = list(CrossSubject().split(windows))
    assert [fold.name for fold in folds] == ["subject 1", "subject 2", "subject 3"]
    for subject, fold in enumerate(folds, start=1):
        everybody = windows["subject"].to_numpy()
        np.testing.assert_array_equal(fold.test, np.flatnonzero(everybody == subject))
        np.testing.assert_array_equal(fold.source, np.flatnonzero(everybody != subject))


def test_each_session_stands_by_itself():
    windows = table(seed=2)
    folds = list(CrossSubject(session="each").split(windows))
    assert len(folds) == 3 * 2
    tested = Counter()
    for fold in folds:
        (session,) = values(windows, fold.test, "session")
        assert values(windows, fold.source, "session") == {session}
        assert str(session) in fold.name.split("session")[1]
        tested.update(fold.test.tolist())
    assert tested == Counter(range(len(windows)))  # every window once


@pytest.mark.parametrize("session", [2, "2"])
def test_one_session_by_name(session):
    windows = table(seed=3)
    folds = list(CrossSubject(session=session).split(windows))
    assert len(folds) == 3
    for fold in folds:
        rows = np.concatenate([fold.source, fold.test])
        assert values(windows, rows, "session") == {2}


def test_an_unknown_session_is_refused_with_those_there_are():
    with pytest.raises(DataError, match=r"'9'.*1, 2"):
        list(CrossSubject(session="9").split(table()))


@pytest.mark.parametrize("session", ["pooled", "each", 1])
def test_a_single_subject_is_refused(session):
    with pytest.raises(DataError, match="at least 2"):
        list(CrossSubject(session=session).split(table(subjects=1)))


# -------------------------------------------------------------------- cross-session


@quick
@given(tables, st.sampled_from(["others", "earlier"]))
def test_cross_session_stays_within_a_subject(windows, source):
    folds = list(CrossSession(source=source).split(windows))
    for fold in folds:
        (subject,) = values(windows, fold.test, "subject")
        (session,) = values(windows, fold.test, "session")
        assert values(windows, fold.source, "subject") == {subject}
        own = windows[windows["subject"] == subject]["session"]
        expected = (
            {s for s in own if s != session}
            if source == "others"
            else {s for s in own if s < session}
        )
        assert values(windows, fold.source, "session") == expected
        # All windows of the source's sessions, not some.
        assert len(fold.source) == own.isin(expected).sum()
    subjects, sessions = windows["subject"].nunique(), windows["session"].nunique()
    assert len(folds) == subjects * (sessions - (source == "earlier"))


def test_earlier_sessions_are_earlier_where_names_are_text():
    windows = pd.concat(
        [table(1, 1).assign(session=name) for name in ("1", "2", "10")],
        ignore_index=True,
    )
    folds = list(CrossSession(source="earlier").split(windows))
    found = [values(windows, fold.source, "session") for fold in folds]
    assert found == [{"1"}, {"1", "2"}]


def test_a_subject_with_one_session_has_no_fold():
    windows = table(seed=4)
    windows = windows[(windows["subject"] != 2) | (windows["session"] == 1)]
    windows = windows.reset_index(drop=True)
    tested = {
        subject
        for fold in CrossSession().split(windows)
        for subject in values(windows, fold.test, "subject")
    }
    assert tested == {1, 3}


def test_a_single_session_is_refused():
    with pytest.raises(DataError, match="no subject has two sessions"):
        list(CrossSession().split(table(sessions=1)))


# ------------------------------------------------------------------------- held out


@quick
@given(tables, shares.filter(bool), st.integers(0, 20))
def test_held_out_trials_are_whole_and_of_the_right_number(windows, share, seed):
    rows = np.flatnonzero(windows["subject"] == 1)
    target, test = divide(windows, rows, held_out=share, unit="trial", seed=seed)
    seen, tested = trials_of(windows, target), trials_of(windows, test)
    assert not seen & tested
    assert seen | tested == trials_of(windows, rows)
    assert sorted([*target, *test]) == sorted(rows)
    total = len(seen) + len(tested)
    wanted = min(max(share * total, 1), total - 1)
    assert abs(len(tested) - wanted) <= 0.5


@quick
@given(tables, shares.filter(bool))
def test_held_out_in_time_is_the_last_part_of_every_trial(windows, share):
    rows = np.flatnonzero(windows["subject"] == 1)
    sizes = windows.iloc[rows].groupby(TRIAL).size()
    if not np.floor(sizes * share + 1e-9).any():
        with pytest.raises(DataError, match="nothing on one side"):
            divide(windows, rows, held_out=share, unit="time", seed=0)
        return
    target, test = divide(windows, rows, held_out=share, unit="time", seed=0)
    assert sorted([*target, *test]) == sorted(rows)
    for key, size in sizes.items():
        trial = (windows[TRIAL] == list(key)).all(axis=1)
        seen = windows["start"].iloc[target][trial.iloc[target]]
        tested = windows["start"].iloc[test][trial.iloc[test]]
        assert len(tested) == np.floor(size * share + 1e-9)
        if len(tested):
            assert seen.max() < tested.min()


@pytest.mark.parametrize("tenths", range(1, 10))
def test_tenths_of_ten_windows_are_counted_exactly(tenths):
    windows = table(1, 1, 1, (10,))
    share = tenths / 10
    target, test = divide(windows, np.arange(10), held_out=share, unit="time", seed=0)
    assert test.tolist() == list(range(10 - tenths, 10))
    assert target.tolist() == list(range(10 - tenths))


@pytest.mark.parametrize(("share", "held_out"), [(0.7, 3), (0.6, 2), (0.1, 1)])
def test_the_number_of_trials_held_out_is_rounded(share, held_out):
    windows = table(1, 1, 4)
    rows = np.arange(len(windows))
    _, test = divide(windows, rows, held_out=share, unit="trial", seed=0)
    assert len(trials_of(windows, test)) == held_out


def test_another_seed_draws_other_trials():
    windows = table(1, 1, 8)
    rows = np.arange(len(windows))
    draws = {
        frozenset(
            trials_of(
                windows, divide(windows, rows, held_out=0.5, unit="trial", seed=s)[1]
            )
        )
        for s in range(10)
    }
    assert len(draws) > 1


def test_nothing_held_out_shows_everything():
    windows = table()
    target, test = divide(windows, np.arange(7), held_out=0, unit="trial", seed=0)
    assert target.tolist() == test.tolist() == list(range(7))


def test_a_single_trial_cannot_be_held_out_whole():
    windows = table(1, 1, 1)
    with pytest.raises(DataError, match="5 windows in 1 trial\\. Use another"):
        divide(windows, np.arange(5), held_out=0.5, unit="trial", seed=0)
    divide(windows, np.arange(5), held_out=0.5, unit="time", seed=0)


@pytest.mark.parametrize("cls", [CrossSubject, CrossSession])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": 1.0}, "held_out is 1.0"),
        ({"held_out": -0.1}, "held_out is -0.1"),
        ({"held_out": float("nan")}, "held_out is nan"),
        ({"unit": "window"}, "unit is 'window'"),
    ],
)
def test_bad_options_are_refused(cls, options, message):
    with pytest.raises(ConfigurationError, match=message):
        cls(**options)


def test_a_bad_source_is_refused():
    with pytest.raises(ConfigurationError, match="'later'"):
        CrossSession(source="later")
