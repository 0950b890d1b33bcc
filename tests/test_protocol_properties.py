"""What must hold of every registered protocol, over random provenance and options."""

from __future__ import annotations

import types
from collections import Counter
from itertools import combinations
from typing import Annotated, Literal, Union, get_args, get_origin

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from domainemo import ConfigurationError, DataError
from domainemo.core import PROVENANCE
from domainemo.protocols.cross_session import CrossSession
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.protocols.leave_stimuli_out import LeaveStimuliOut
from domainemo.protocols.within_subject import WithinSubject
from domainemo.registry import entries, find, parameters
from domainemo.values import SEEDS, Bounds, option_types
from domainemo.words import in_order

PROTOCOLS = [entry.name for entry in entries("protocol")]
TRIAL = ["subject", "session", "trial"]
APART = ("source", "calibration", "validation")
quick = settings(
    max_examples=15,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


# ----------------------------------------------------------------- random provenance


def table(seed, subjects, clips, named):
    """Return recordings in which some sessions and trials are missing."""
    random = np.random.default_rng(seed)
    rows = []
    for subject in range(1, subjects + 1):
        for session in np.flatnonzero(random.random(3) < 0.7) + 1:
            for trial in np.flatnonzero(random.random(6) < 0.8) + 1:
                stimulus = trial
                stimulus += 6 * (session - 1) * (clips == "of the session")
                stimulus += 100 * subject * (clips == "of the person")
                for place in range(random.integers(1, 5)):
                    rows.append((subject, session, trial, stimulus, 4.0 * place))
    rows = rows or [(1, 1, 1, 1, 0.0)]
    windows = pd.DataFrame(rows, columns=list(PROVENANCE))
    if named:
        names = {name: windows[name].map("n{}".format) for name in PROVENANCE[:-1]}
        windows = windows.assign(**names)
    return windows.sample(frac=1, random_state=seed).reset_index(drop=True)


def tables():
    clips = st.sampled_from(["of the trial", "of the session", "of the person"])
    seeds = st.integers(0, 10_000)
    return st.builds(table, seeds, st.integers(1, 5), clips, st.booleans())


def values_of(annotation, default):
    """Return values that an annotation allows; the default where it is open."""
    inner = get_args(annotation)
    if get_origin(annotation) is Annotated:
        bounds = next((each for each in inner[1:] if isinstance(each, Bounds)), None)
        if bounds is SEEDS:
            return st.integers(0, 5)
        if inner[0] is int and bounds is not None:
            low = int(bounds.least or 0)
            return st.integers(low, low + 3)
        if inner[0] is float:
            return st.sampled_from([0.0, 0.25, 0.5, 0.75])
        return values_of(inner[0], default)
    if get_origin(annotation) in (Union, types.UnionType):
        return st.one_of(*(values_of(each, default) for each in inner))
    if get_origin(annotation) is Literal:
        return st.sampled_from(inner)
    if annotation is bool:
        return st.booleans()
    return st.just(default)


SESSIONS = st.sampled_from(["pooled", "each", "2", 1])


@st.composite
def made(draw, name):
    """Draw a protocol with options, as its annotations allow them."""
    cls = find("protocol", name)
    known = option_types(cls)
    options = {
        option: draw(
            SESSIONS
            if option == "session"
            else values_of(known.get(option), each.default)
        )
        for option, each in parameters(cls).items()
    }
    try:
        return cls(**options)
    except ConfigurationError as error:
        assert_sentence(error)
        assume(False)


def with_newcomer(windows, protocol):
    """Tell a protocol whose target is given apart who is new."""
    if protocol.scored and not protocol.takes_target:
        return windows
    last = in_order(windows["subject"])[-1]
    return windows.assign(new=windows["subject"] == last)


def assert_sentence(error):
    text = str(error)
    assert text.endswith(".") and len(text) > 40, text
    assert "expected" in text or "Use " in text, text


def folds_of(protocol, windows):
    """Return the folds; none where recordings are refused, in a sentence."""
    try:
        return list(protocol.split(with_newcomer(windows, protocol)))
    except DataError as error:
        assert_sentence(error)
        return []


# ---------------------------------------------------------------- of every protocol


def trials(windows, rows):
    return set(windows.iloc[rows][TRIAL].itertuples(index=False, name=None))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_window_and_no_trial_has_two_roles(name):
    @quick
    @given(tables(), made(name))
    def holds(windows, protocol):
        folds = folds_of(protocol, windows)
        assert len({fold.name for fold in folds}) == len(folds)
        for fold in folds:
            for role, rows in fold.parts.items():
                assert rows.dtype.kind == "i" and len(np.unique(rows)) == len(rows)
                assert not len(rows) or 0 <= rows.min() <= rows.max() < len(windows)
                if protocol.scored and role in ("source", "target", "test"):
                    assert len(rows)
            roles = {role: trials(windows, fold.parts[role]) for role in APART}
            shown = np.append(fold.target, fold.test)
            roles["target or test"] = trials(windows, shown)
            for one, other in combinations(roles, 2):
                assert not roles[one] & roles[other], (fold.name, one, other)
            alike = np.array_equal(np.sort(fold.target), np.sort(fold.test))
            assert alike or not np.isin(fold.target, fold.test).any()

    holds()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_order_of_rows_does_not_matter(name):
    def told(windows, protocol):
        return [
            (fold.name, role, set(windows.iloc[rows].itertuples(index=False)))
            for fold in folds_of(protocol, windows)
            for role, rows in fold.parts.items()
        ]

    @quick
    @given(tables(), made(name), st.integers(0, 1000))
    def holds(windows, protocol, seed):
        shuffled = windows.sample(frac=1, random_state=seed).reset_index(drop=True)
        assert told(windows, protocol) == told(shuffled, protocol)

    holds()


# ------------------------------------------------- whom each trains and tests, by name


def column(windows, rows, name):
    return set(windows[name].iloc[rows])


def seen_or_tested(folds):
    """Count in how many folds each window is of the target or the test."""
    found = Counter()
    for fold in folds:
        found.update(set(fold.target.tolist()) | set(fold.test.tolist()))
    return found


@quick
@given(tables(), made("cross-subject"))
def test_cross_subject_tests_everybody_equally_often(windows, protocol):
    folds = folds_of(protocol, windows)
    assume(folds)
    expected = set(range(len(windows)))
    if protocol.session not in ("pooled", "each"):
        names = windows["session"].astype(str)
        expected = set(np.flatnonzero(names == str(protocol.session)).tolist())
    found = seen_or_tested(folds)
    assert found == dict.fromkeys(expected, protocol.repeats or 1)
    for fold in folds:
        tested = column(windows, np.append(fold.target, fold.test), "subject")
        trained = column(windows, fold.source, "subject")
        assert not tested & trained
        assert len(tested) <= (protocol.leave_out or 1)
        sessions = windows["session"].iloc[fold.used].unique()
        if protocol.session == "each":
            assert len(sessions) == 1
        everybody = set(windows["subject"][windows["session"].isin(sessions)])
        assert tested | trained == everybody


@quick
@given(tables(), made("cross-session"))
def test_cross_session_tests_known_people_on_another_day(windows, protocol):
    folds = folds_of(protocol, windows)
    pooled = protocol.subjects == "pooled"
    for fold in folds:
        target = np.append(fold.target, fold.test)
        (session,) = column(windows, target, "session")
        trained = column(windows, fold.source, "session")
        assert session not in trained
        if protocol.source == "earlier":
            assert in_order({session, *trained})[-1] == session
        people = column(windows, fold.source, "subject")
        assert column(windows, target, "subject") <= people
        assert pooled or len(people) == 1
    if folds and protocol.source == "others":
        days = windows.groupby("subject")["session"].nunique()
        several = windows["subject"].isin(days.index[days > 1])
        expected = dict.fromkeys(np.flatnonzero(several).tolist(), 1)
        assert seen_or_tested(folds) == expected


@quick
@given(tables(), made("within-subject"))
def test_within_subject_tests_every_trial_of_a_subject_once(windows, protocol):
    folds = folds_of(protocol, windows)
    assume(folds)
    session = protocol.session or "each"
    expected = np.ones(len(windows), dtype=bool)
    if session not in ("each", "pooled"):
        expected = windows["session"].astype(str) == str(session)
    rows = np.flatnonzero(expected)
    assert seen_or_tested(folds) == dict.fromkeys(rows.tolist(), 1)
    parts = ["subject"] if session == "pooled" else ["subject", "session"]
    assert len(folds) == protocol.folds * windows.iloc[rows].groupby(parts).ngroups
    for fold in folds:
        assert len(windows.iloc[fold.used][parts].drop_duplicates()) == 1
        group = windows[parts].eq(windows[parts].iloc[fold.test[0]]).all(axis=1)
        assert set(fold.used) == set(np.flatnonzero(group & expected))


@quick
@given(tables(), made("leave-stimuli-out"))
def test_no_tested_clip_trains(windows, protocol):
    folds = folds_of(protocol, windows)
    unseen = protocol.subjects == "unseen"
    assert all(number == 1 for number in seen_or_tested(folds).values())
    for fold in folds:
        target = np.append(fold.target, fold.test)
        clips = column(windows, target, "stimulus")
        assert not clips & column(windows, fold.source, "stimulus")
        people = column(windows, target, "subject")
        trained = column(windows, fold.source, "subject")
        assert not people & trained if unseen else people <= trained


def grid(subjects=4, sessions=2, trials=6, clips="repeated"):
    rows = [
        (s, day, t, t if clips == "repeated" else trials * (day - 1) + t, 4.0 * place)
        for s in range(1, subjects + 1)
        for day in range(1, sessions + 1)
        for t in range(1, trials + 1)
        for place in range(3)
    ]
    return pd.DataFrame(rows, columns=list(PROVENANCE))


@pytest.mark.parametrize(
    ("protocol", "folds"),
    [
        (CrossSubject(leave_out=2), 2),
        (CrossSubject(leave_out=3), 2),
        (CrossSubject(leave_out=2, repeats=3), 6),
        (CrossSubject(leave_out=2, session="each"), 4),
        (CrossSession(subjects="pooled"), 2),
        (CrossSession(subjects="pooled", source="earlier"), 1),
        (WithinSubject(), 4 * 2 * 3),
        (WithinSubject(folds=6, session="pooled"), 4 * 6),
        (LeaveStimuliOut(), 4 * 3),
        (LeaveStimuliOut(subjects="known", folds=2), 2),
    ],
)
@pytest.mark.parametrize("clips", ["repeated", "new every day"])
def test_full_recordings_are_never_refused_and_give_so_many_folds(
    protocol, folds, clips
):
    windows = grid(clips=clips)
    found = list(protocol.split(windows))
    assert len(found) == folds
    if protocol.__class__ is not CrossSession or protocol.source != "earlier":
        assert set(seen_or_tested(found)) == set(range(len(windows)))
