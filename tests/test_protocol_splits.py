"""Groups of subjects, published splits by their trial numbers, and what is refused."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fixtures.every import FIXTURES, WAIVED

import domainemo as de
from domainemo import ConfigurationError, DataError
from domainemo.cli import main
from domainemo.core import PROVENANCE
from domainemo.data.loading import load
from domainemo.protocols.cross_dataset import CrossDataset
from domainemo.protocols.cross_session import CrossSession
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.protocols.groups import drawn_groups
from domainemo.protocols.held_out import divide
from domainemo.protocols.leave_stimuli_out import LeaveStimuliOut
from domainemo.protocols.published import PUBLISHED
from domainemo.protocols.within_subject import WithinSubject
from domainemo.runs.checks import canonical
from domainemo.runs.folds import folds_of


def table(subjects=5, sessions=2, trials=4, repeated=True, called=None):
    rows = [
        (s, day, t, t if repeated else trials * (day - 1) + t, 4.0 * place)
        for s in range(1, subjects + 1)
        for day in range(1, sessions + 1)
        for t in range(1, trials + 1)
        for place in range(3)
    ]
    windows = pd.DataFrame(rows, columns=list(PROVENANCE))
    if called is not None:
        windows.attrs["recordings"] = called
    return windows


def values(windows, rows, column):
    return set(windows[column].iloc[rows])


# ----------------------------------------------------------------- groups of subjects


@pytest.mark.parametrize(
    ("names", "size", "sizes"),
    [(15, 4, [3, 4, 4, 4]), (9, 4, [3, 3, 3]), (6, 2, [2, 2, 2]), (5, 4, [2, 3])],
)
def test_groups_are_as_even_as_can_be(names, size, sizes):
    windows = table(subjects=names)
    folds = list(CrossSubject(leave_out=size).split(windows))
    tested = [values(windows, fold.test, "subject") for fold in folds]
    assert sorted(map(len, tested)) == sizes
    assert set().union(*tested) == set(range(1, names + 1))


def test_groups_are_told_by_name_and_drawn_by_the_seed():
    windows = table(subjects=6)
    draws = {
        tuple(fold.name for fold in CrossSubject(leave_out=3, seed=seed).split(windows))
        for seed in range(8)
    }
    assert len(draws) > 3
    assert all(name.startswith("subjects ") for draw in draws for name in draw)
    for draw in draws:
        people = ", ".join(name.removeprefix("subjects ") for name in draw).split(", ")
        assert sorted(people) == list("123456")


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        (LeaveStimuliOut, {"subjects": "known"}),
        (LeaveStimuliOut, {"subjects": "unseen"}),
        (WithinSubject, {}),
        (CrossDataset, {"held_out": 0.5}),
        (CrossDataset, {"held_out": 0.5, "together": True}),
    ],
)
def test_whatever_a_protocol_draws_it_draws_by_its_seed(protocol, options):
    windows = table(subjects=3, trials=9)
    if protocol is CrossDataset:
        windows = windows.assign(new=windows["subject"] > 1)

    def drawn(seed):
        folds = protocol(seed=seed, **options).split(windows)
        return [(fold.target.tolist(), fold.test.tolist()) for fold in folds]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(2)


def test_large_groups_are_counted_and_not_listed():
    windows = table(subjects=20, trials=1)
    names = [fold.name for fold in CrossSubject(leave_out=10).split(windows)]
    assert names == ["10 subjects, group 1 of 2", "10 subjects, group 2 of 2"]


def test_a_draw_depends_on_the_names_alone_and_not_on_how_often_they_come():
    names = ["n10", "n2", "n1", "n3"]
    first = drawn_groups(names, 2, 7)
    assert drawn_groups(names[::-1] * 3, 2, 7) == first
    numbers = [int(name[1:]) for name in names]
    assert [[f"n{k}" for k in each] for each in drawn_groups(numbers, 2, 7)] == first


def test_repeats_draw_anew_and_begin_with_the_single_draw():
    windows = table(subjects=6)
    once = [f.name for f in CrossSubject(leave_out=2, seed=3).split(windows)]
    again = [
        f.name for f in CrossSubject(leave_out=2, seed=3, repeats=4).split(windows)
    ]
    assert again[:3] == [f"repeat 1, {name}" for name in once]
    assert len({name.partition(", ")[2] for name in again}) > 3


@pytest.mark.parametrize("test", [[1, 4], ["1", "4"], "1, 4"])
def test_given_groups_have_exactly_these_people(test):
    windows = table()
    (fold,) = CrossSubject(test=test, validation=[2]).split(windows)
    assert fold.name == "subjects 1, 4"
    assert values(windows, fold.test, "subject") == {1, 4}
    assert values(windows, fold.validation, "subject") == {2}
    assert values(windows, fold.source, "subject") == {3, 5}
    np.testing.assert_array_equal(fold.used, np.arange(len(windows)))
    (fold,) = CrossSubject(test=4, train=[5]).split(windows)
    assert values(windows, fold.used, "subject") == {4, 5}
    assert not len(fold.validation)


def test_given_groups_within_each_session():
    windows = table()
    folds = list(CrossSubject(test=[2], session="each").split(windows))
    assert [fold.name for fold in folds] == [
        "subject 2, session 1",
        "subject 2, session 2",
    ]
    for fold in folds:
        assert len(values(windows, fold.used, "session")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": [1]}, "train named, but not whom to test"),
        ({"validation": [1], "leave_out": 2}, "validation named, but not whom to test"),
        ({"test": [1], "leave_out": 2}, "leave_out or repeats given beside test"),
        ({"test": [1], "repeats": 2}, "leave_out or repeats given beside test"),
        ({"test": [1, 2], "train": [3, "2"]}, "'2' is named twice, in test and train"),
        ({"test": [1, 1]}, "'1' is named twice, in test;"),
        ({"test": []}, "test names nobody"),
        ({"repeats": 3}, "the same folds every time"),
        ({"leave_out": 0}, "leave_out is 0; expected at least 1"),
        ({"test": 1.5}, "test is 1.5 of type float"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        CrossSubject(**options)


def test_unknown_people_are_refused_with_the_nearest():
    windows = table().assign(subject=lambda t: t["subject"].map("sub-{:02d}".format))
    protocol = CrossSubject(test=["sub-1"], validation=["sub-02"])
    with pytest.raises(DataError, match=r"no subject 'sub-1'\. Did you mean 'sub-01'"):
        list(protocol.split(windows))
    with pytest.raises(DataError, match="nobody is left to train on"):
        list(CrossSubject(test=[1, 2, 3], validation=[4, 5]).split(table()))
    with pytest.raises(DataError, match="leave_out is 5, and there are 5 subjects"):
        list(CrossSubject(leave_out=5).split(table()))


# ------------------------------------------------------------------------- held out


def test_several_people_are_divided_each_by_itself():
    windows = table(subjects=3, sessions=1, trials=4)
    rows = np.arange(len(windows))
    target, test = divide(windows, rows, held_out=0.5, unit="trial", seed=1)
    for subject in (1, 2, 3):
        own = np.flatnonzero(windows["subject"] == subject)
        alone = divide(windows, own, held_out=0.5, unit="trial", seed=1)
        np.testing.assert_array_equal(np.intersect1d(target, own), alone[0])
        np.testing.assert_array_equal(np.intersect1d(test, own), alone[1])


# ------------------------------------------------------------------------ session


def test_two_folds_that_would_share_a_folder_are_refused():
    """Their names are no file's, and six digits of a hash are the same."""
    inputs = de.Simulated(subjects=3, sessions=1, trials=3).load().inputs
    named = {1: "张徐苏", 2: "张曹钟", 3: "李雷"}
    called = inputs.windows["subject"].map(named)
    inputs = replace(inputs, windows=inputs.windows.assign(subject=called))
    with pytest.raises(ConfigurationError, match=r"张徐苏' and .*张曹钟'"):
        folds_of(CrossSubject(), inputs)


def test_somebody_with_one_session_only_trains_and_is_not_tested():
    windows = table(subjects=3)
    gone = (windows["subject"] == 2) & (windows["session"] == 2)
    windows = windows[~gone].reset_index(drop=True)
    first, second = CrossSession(subjects="pooled").split(windows)
    assert [first.name, second.name] == ["session 1", "session 2"]
    assert values(windows, first.test, "subject") == {1, 3}  # 2 is new to session 2
    assert values(windows, second.test, "subject") == {1, 3}
    assert values(windows, second.source, "subject") == {1, 2, 3}


# ------------------------------------------------------------------ published splits

TESTED = {
    "seed": [[10, 11, 12, 13, 14, 15]],
    "seed-multimodal": [[10, 11, 12, 13, 14, 15]],
    "seed-iv": [[17, 18, 19, 20, 21, 22, 23, 24]],
    "seed-v": [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]],
    "seed-vii": [
        [1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10],
        [11, 12, 13, 14, 15],
        [16, 17, 18, 19, 20],
    ],
}
SHAPES = {
    "seed": (3, 15, True),
    "seed-multimodal": (3, 15, True),
    "seed-iv": (3, 24, False),
    "seed-v": (3, 15, False),
    "seed-vii": (4, 20, False),
}


def of(name, **changes):
    sessions, trials, repeated = SHAPES[name]
    made = {"subjects": 2, "sessions": sessions, "trials": trials, "repeated": repeated}
    return table(**{**made, "called": f"{name} (as read); 2 subjects", **changes})


@pytest.mark.parametrize("name", TESTED)
def test_the_published_trials_are_tested_and_the_others_train(name):
    windows = of(name)
    folds = list(WithinSubject(folds="published").split(windows))
    together = name in ("seed-v", "seed-vii")
    sessions = [set(range(1, SHAPES[name][0] + 1))]
    if not together:
        sessions = [{each} for each in sorted(*sessions)]
    expected = [(s, days, t) for s in (1, 2) for days in sessions for t in TESTED[name]]
    assert len(folds) == len(expected)
    for fold, (subject, days, tested) in zip(folds, expected, strict=True):
        everything = set(range(1, SHAPES[name][1] + 1))
        for rows, trials in (
            (fold.test, tested),
            (fold.source, everything - {*tested}),
        ):
            assert values(windows, rows, "subject") == {subject}
            part = windows.iloc[rows][["session", "trial"]]
            found = set(part.itertuples(index=False, name=None))
            assert found == {(day, trial) for day in days for trial in trials}


def test_every_published_split_is_tried_here():
    assert set(TESTED) == set(SHAPES) == set(PUBLISHED)


def read(name, tmp_path):
    FIXTURES[name].write(tmp_path)
    data = load(name, tmp_path, **FIXTURES[name].options)
    return data.take(canonical(data.inputs))


@pytest.mark.parametrize(
    ("name", "trained", "tested"),
    [
        ("seed", [(9, 499)], [(6, 343)]),  # of 842 windows of 4 s
        ("seed-multimodal", [(9, 499)], [(6, 343)]),
        ("seed-iv", [(16, 610)], [(8, 241)]),  # of the 851 of session 1
        ("seed-v", [(30, None)] * 3, [(15, None)] * 3),
        ("seed-vii", [(60, None)] * 4, [(20, None)] * 4),
    ],
)
def test_fixtures_as_their_readers_read_them(name, trained, tested, tmp_path):
    data = read(name, tmp_path)
    folds = folds_of(WithinSubject(folds="published"), data.inputs)
    assert len(folds) == 2 * len(tested)
    place = ["session", "trial"]
    for number, fold in enumerate(folds):
        which = number % len(tested)
        for rows, (trials, windows) in (
            (fold.source, trained[which]),
            (fold.test, tested[which]),
        ):
            assert (
                len(data.inputs.windows.iloc[rows][place].drop_duplicates()) == trials
            )
            assert windows in (None, len(rows))
        tested_trials = data.inputs.windows.iloc[fold.test].drop_duplicates(place)
        labels = data.labels[tested_trials.index]
        if name == "seed-v":
            assert Counter(labels) == dict.fromkeys(range(5), 3)
        if name == "seed-vii":  # three of each emotion, and two of neutral
            assert sorted(Counter(labels).values()) == [2, 3, 3, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (table(), "called ''; expected a name that begins with one of seed,"),
        (table(called="my seeds"), "called 'my seeds'"),
        (table(called="seed-v2 (x)"), "called 'seed-v2"),
        (of("seed", trials=14), r"has the trials 1, 2.*, 14; expected.*1 to 15"),
        (of("seed-v", repeated=True), "session 2 has the trials .* with other stimuli"),
        (of("seed-iv", called="seed (x)"), "expected the published ones, 1 to 15"),
        (of("seed-v", called="seed-vii, mine"), "1 to 20, with the stimuli 1 to 20"),
    ],
)
def test_where_it_cannot_be_told_it_is_said(windows, message):
    with pytest.raises(DataError, match=message) as refused:
        list(WithinSubject(folds="published").split(windows))
    assert "--set protocol.folds=3" in str(refused.value)


def test_names_are_told_however_they_are_written():
    windows = of("seed-iv", called="SEED_IV, my own features")
    windows = windows.assign(**{n: windows[n].astype(str) for n in PROVENANCE[:-1]})
    folds = list(WithinSubject(folds="published").split(windows))
    assert [fold.name for fold in folds][:2] == [
        "subject 1, session 1",
        "subject 1, session 2",
    ]
    assert values(windows, folds[0].test, "trial") == set(map(str, range(17, 25)))


# ------------------------------------------------------------------ within a subject


def test_too_few_trials_are_refused_by_name():
    windows = table(subjects=2, trials=4)
    gone = (
        (windows["subject"] == 2) & (windows["trial"] > 2) & (windows["session"] == 2)
    )
    windows = windows[~gone].reset_index(drop=True)
    with pytest.raises(DataError, match=r"subject 2, session 2: found 2 trials; .* 3"):
        list(WithinSubject().split(windows))
    assert len(list(WithinSubject(session="pooled").split(windows))) == 6


@pytest.mark.parametrize("option", ["segments", "published"])
def test_contradictions_are_refused_on_the_command_line(
    option, tmp_path, monkeypatch, capsys
):
    more = ["--set=protocol.session=each"] if option == "published" else []
    chosen = ["--protocol=within-subject", f"--set=protocol.folds={option}", *more]
    monkeypatch.setattr(sys, "argv", ["domainemo", "adapt", *chosen])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main()
    text = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2 and "Traceback" not in text
    assert list(tmp_path.iterdir()) == []
    if option == "segments":
        assert "--protocol within-subject --set protocol.folds=10" in text
        assert "--protocol cross-subject" in text


# ------------------------------------------------------------------ stimuli left out


def test_clips_are_left_out_with_whoever_watches_them():
    windows = table(subjects=3, sessions=1, trials=6)
    folds = list(LeaveStimuliOut().split(windows))
    for fold in folds:
        clips = values(windows, fold.test, "stimulus")
        assert len(clips) == 2
        (subject,) = values(windows, fold.test, "subject")
        expected = (windows["subject"] != subject) & ~windows["stimulus"].isin(clips)
        np.testing.assert_array_equal(fold.source, np.flatnonzero(expected))
    assert {fold.name for fold in folds} == {
        f"subject {s}, stimuli {k} of 3" for s in (1, 2, 3) for k in (1, 2, 3)
    }


def test_who_watches_nothing_else_is_unseen_and_not_known():
    windows = table(subjects=3, sessions=1, trials=4)
    groups = drawn_groups([1, 2, 3, 4], 2, 0)
    only = (windows["subject"] != 3) | windows["stimulus"].isin(groups[0])
    windows = windows[only].reset_index(drop=True)
    folds = list(LeaveStimuliOut(subjects="known", folds=2).split(windows))
    assert [values(windows, f.test, "subject") for f in folds] == [{1, 2}, {1, 2}]


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (table(trials=2), "different stimuli is 2; expected at least 3"),
        (table(subjects=1), "no subject can be tested, as there are 1 subject"),
        (
            table().assign(stimulus=lambda t: t["start"].astype(int)),
            "subject 1, session 1, trial 1 has 3 stimuli",
        ),
    ],
)
def test_stimuli_that_cannot_be_left_out_are_refused(windows, message):
    with pytest.raises(DataError, match=message):
        list(LeaveStimuliOut().split(windows))


# -------------------------------------------------------------------------- the page

PAGE = Path(__file__).parents[1] / "docs" / "protocols.md"
COMMANDS = re.findall(r"`(--protocol [^`]*)` \|$", PAGE.read_text("utf-8"), re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_lay_out_folds(command, monkeypatch, capsys, tmp_path):
    small = ["--set=data.subjects=6", "--set=data.sessions=2", "--set=data.trials=9"]
    if "--dataset" in command:
        name = command.rpartition(" ")[2]
        FIXTURES[name].write(tmp_path)
        small = [f"--data-root={tmp_path}", "--no-cache", WAIVED]
    chosen = [*command.split(), *small, "--dry-run", "--backbone=concatenation-mlp"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["domainemo", "adapt", *chosen])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    assert re.search("subject|session|stimuli", said.out)


def test_the_page_names_every_variant():
    assert len(COMMANDS) == 14
    text = PAGE.read_text("utf-8")
    for name in PUBLISHED:
        assert f"`{name}`" in text
