"""What can be trained on: labels of trials, classes of folds, sensors of people."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import domainemo as de
from domainemo import ConfigurationError, DataError, Simulated, from_arrays
from domainemo.core import EmotionData, Inputs
from domainemo.data.inspection.check import check
from domainemo.data.inspection.description import describe
from domainemo.data.labels import check_trials, settle
from domainemo.data.table import Table, write_table
from domainemo.errors import DomainemoWarning
from domainemo.protocols.within_subject import WithinSubject
from domainemo.runs.experiment import experiment
from domainemo.runs.plan import plan

PEOPLE = ("ann", "bob", "eve")


def rated(labels, **changes):
    """Three people, two trials of four windows each, rated window by window."""
    count = 8 * len(PEOPLE)
    eye = np.random.default_rng(0).normal(size=(count, 6))
    options = {
        "subject": np.repeat(PEOPLE, 8),
        "trial": np.tile(np.repeat([3, 7], 4), len(PEOPLE)),
        "name": "rated",
    }
    labels = np.resize(labels, count)
    return from_arrays({"eye": eye}, labels, **options | changes)


def planned(data, **choices):
    options = {"backbone": "concatenation-mlp", "device": "cpu", **choices}
    return plan(data, experiment(**options))


# ------------------------------------------------------------------ labels of trials

CHANGING = list("aabbbbbb")
WITHIN = "labels that change within 3 of 6 trials .subject ann, session 1, trial 3; sub"


@pytest.mark.parametrize("sampling", ["windows", "sequences", "trials"])
def test_a_label_that_changes_is_refused_whatever_the_samples(sampling):
    with pytest.raises(DataError, match=WITHIN):
        planned(rated(CHANGING), sampling=sampling)


def test_all_commands_say_the_same(tmp_path):
    data = rated(CHANGING)
    with pytest.raises(DataError) as trained:
        planned(data)
    with pytest.raises(DataError) as described:
        describe(data)
    table = Table(write_table(data, tmp_path / "table"))
    found = check(table)
    assert not found.usable
    assert str(trained.value) == str(described.value) == found.problems[0].message
    assert "label='majority'" in str(trained.value)
    assert "--set data.label=majority" in str(trained.value)


@pytest.mark.parametrize("label", ["majority", "split"])
def test_what_is_chosen_holds_for_a_table_as_for_arrays(tmp_path, label):
    chosen = rated(CHANGING, label=label)
    folder = write_table(rated(CHANGING), tmp_path / "table")
    read = Table(folder, label=label).load()
    assert read.labels.tolist() == chosen.labels.tolist()
    pd.testing.assert_frame_equal(read.inputs.windows, chosen.inputs.windows)
    assert read.inputs.name.startswith("rated (3 trials whose label changes ")
    said = {"majority": "given their commonest label", "split": "split where it does"}
    assert said[label] in read.inputs.name
    assert describe(read).trials == {"majority": 6, "split": 9}[label]


def test_majority_against_a_loop():
    rng = np.random.default_rng(1)
    data = rated([str(each) for each in rng.integers(0, 3, 24)])
    found = settle(data, "majority")
    keys = list(
        zip(*(data.inputs.windows[c] for c in ("subject", "trial")), strict=True)
    )
    for row, key in enumerate(keys):
        votes = [data.labels[n] for n, other in enumerate(keys) if other == key]
        best = min(set(votes), key=lambda label: (-votes.count(label), label))
        assert found.labels[row] == best
    check_trials(found)
    assert found.inputs.windows is data.inputs.windows


@pytest.mark.parametrize("seed", range(3))
def test_split_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    data = rated([str(each) for each in rng.integers(0, 2, 24)])
    order = rng.permutation(24)
    data = data.take(order)
    found = settle(data, "split")
    expected, number, last = {}, 0, None
    for row in np.argsort(order):  # the windows in their order
        window = data.inputs.windows.iloc[row]
        if last is None or last[0] != window.subject:
            number = 0
        here = (window.subject, window.trial, data.labels[row])
        number += here != last
        expected[row], last = number, here
    assert found.inputs.windows["trial"].tolist() == [expected[n] for n in range(24)]
    assert found.labels.tolist() == data.labels.tolist()
    assert found.inputs.windows["stimulus"].tolist() == (
        data.inputs.windows["stimulus"].tolist()
    )
    check_trials(found)


def test_trials_named_by_text_are_split_in_the_order_of_their_numbers():
    """As text, the tenth stands before the second, and time would run back."""
    data = rated(list("ab" * 12))
    names = "trial " + data.inputs.windows["trial"].astype(str)
    called = data.inputs.windows.assign(trial=names)
    inputs = replace(data.inputs, windows=called)
    found = settle(replace(data, inputs=inputs), "split")
    expected = settle(data, "split").inputs.windows["trial"]
    assert found.inputs.windows["trial"].tolist() == expected.tolist()


def test_nothing_is_touched_where_no_label_changes():
    data = rated(list("aaaabbbb"))
    assert settle(data, "split") is data and settle(data, "majority") is data
    with pytest.raises(ConfigurationError, match="label is 'mean'"):
        settle(data, "mean")
    with pytest.raises(ConfigurationError, match="label is 'mean'"):
        Table("anywhere", label="mean")


def test_one_number_for_all_trials_is_told():
    with pytest.raises(DataError, match=r"within 3 of 3 trials .subject ann, session"):
        planned(rated(list("aaaabbbb"), trial=1, start=np.tile(np.arange(8.0), 3)))


def test_a_single_trial_is_one_trial():
    eye = np.random.default_rng(0).normal(size=(8, 6))
    data = from_arrays({"eye": eye}, list("aaaabbbb"), subject=["bob"] * 8, trial=1)
    with pytest.raises(DataError, match=r"change within 1 of 1 trial \(subject bob"):
        check_trials(data)


# ------------------------------------------------------------------ classes of folds


def one_class(who="bob"):
    data = rated(list("aaaabbbb"))
    labels = np.where(data.inputs.windows["subject"] == who, 1, data.labels)
    return replace(data, labels=labels.astype(np.int64))


def test_a_subject_with_one_class_stops_a_run_that_was_not_told_to_skip():
    with pytest.raises(DataError) as caught:
        planned(one_class())
    for words in ("subject bob", "single class (b)", "--set protocol.unfit=skip"):
        assert words in str(caught.value)
    found = check_of(one_class())
    assert not found.usable
    assert "b for subject bob" in found.problems[0].message
    assert "--set protocol.unfit=skip" in found.problems[0].message


@pytest.mark.parametrize("unfit", ["refuse", "skip"])
def test_to_skip_folds_is_no_advice_where_none_would_be_left(unfit):
    with pytest.raises(DataError, match="single class") as caught:
        planned(one_class(), protocol=WithinSubject(folds=2, unfit=unfit))
    assert "unfit=skip" not in str(caught.value)


def check_of(data):
    class Made(de.Dataset):
        def load(self):
            return data

    return check(Made())


def test_skipped_folds_are_named_in_the_results():
    chosen = {"options": {"protocol.unfit": "skip"}}
    made = planned(one_class(), **chosen)
    assert [fold.name for fold in made.folds] == ["subject ann", "subject eve"]
    # Left out of the test only: the others train on it.
    assert all(10 in fold.source for fold in made.folds)
    results = de.run(
        one_class(),
        backbone="concatenation-mlp",
        adapter="none",
        training=de.Training(epochs=1),
        device="cpu",
        **chosen,
    )
    why = "subject bob: the test part holds a single class (b)"
    assert set(results.table["skipped"]) == {why}
    assert f"skipped {why}" in results.how()
    assert set(results.per_subject().index) == {"ann", "eve"}


def test_nothing_is_left_to_skip():
    data = rated(["a"], classes=["a", "b"])
    with pytest.raises(DataError, match="single class"):
        planned(data, options={"protocol.unfit": "skip"})
    with pytest.raises(ConfigurationError, match="unfit is 'drop'"):
        planned(data, options={"protocol.unfit": "drop"})


def test_a_class_that_the_source_lacks():
    data = rated(list("aaaabbbb"))
    labels = data.labels.copy()
    labels[4:8] = 2
    data = EmotionData(data.inputs, labels, ("a", "b", "c"))
    with pytest.raises(DataError, match=r"'subject ann'.*the class 'c', which the sou"):
        planned(data)
    made = planned(data, options={"protocol.unfit": "skip"})
    assert list(made.skipped) == ["subject ann"]


class Halves(de.Protocol):
    """Two people are tested together: one of them has a single class."""

    domain = "subject"

    def split(self, windows):
        source = np.flatnonzero(windows["subject"] == "ann")
        test = np.flatnonzero(windows["subject"] != "ann")
        yield de.Fold("the rest", source, test, test)


def test_a_subject_of_one_class_has_no_score_beside_others():
    results = de.run(
        one_class(),
        protocol=Halves(),
        backbone="concatenation-mlp",
        adapter="none",
        training=de.Training(epochs=1),
        device="cpu",
    )
    table = results.table.set_index("subject")
    assert table.loc["bob", "balanced_accuracy"].isna().all()
    assert table.loc["eve", "balanced_accuracy"].notna().all()
    assert list(results.per_subject().index) == ["eve"]
    assert results.summary()["subjects"].tolist() == [1] * len(results.methods)
    assert "no score for subject bob (a single class)" in results.how()


# ---------------------------------------------------------------- sensors of people


def recordings(**signals):
    """Simulated people 1 to 3; `signals` changes what a sensor shows."""
    data = Simulated(subjects=3, sessions=1, trials=6, windows=(3, 5)).load()
    changed = {name: array.copy() for name, array in data.inputs.signals.items()}
    subject = data.inputs.windows["subject"].to_numpy()
    for name, change in signals.items():
        change(changed[name], subject)
    return replace(data, inputs=replace(data.inputs, signals=changed))


def without(channels, who):
    def change(array, subject):
        rows = np.flatnonzero(np.isin(subject, who))
        array[np.ix_(rows, channels)] = np.nan

    return change


def test_a_dead_channel_is_one_rule_and_can_be_left_out():
    data = recordings(eye=without([8, 10], [2]))
    dead = [data.inputs.modalities["eye"].channels[n] for n in (8, 10)]
    with pytest.raises(DataError) as caught:
        planned(data)
    found = check_of(data)
    assert not found.usable
    assert str(caught.value) == found.problems[0].message
    (option,) = re.findall(
        r"for everybody \(--exclude-channels '(.*?)'\)", str(caught.value)
    )
    assert option == f"eye/{dead[0]},eye/{dead[1]}"
    made = planned(data, exclude_channels=option)
    kept = made.inputs.modalities["eye"].channels
    assert len(kept) == 31 and not set(dead) & set(kept)
    assert len(made.folds) == 3
    expected = np.delete(data.inputs.signals["eye"], [8, 10], axis=1)
    np.testing.assert_array_equal(made.inputs.signals["eye"], expected)
    lacking = planned(data, exclude_channels="lacking")
    assert lacking.inputs.modalities == made.inputs.modalities
    # Whoever leaves the subject out keeps the channels.
    assert len(planned(data, exclude=["2"], folds=()).folds) == 2


def test_a_channel_of_one_session_may_be_lost():
    data = recordings(eye=without([8], []))
    rows = np.flatnonzero(data.inputs.windows["trial"] == 1)
    data.inputs.signals["eye"][np.ix_(rows, [8])] = np.nan
    assert check_of(data).usable
    planned(data)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"exclude_channels": ["eye/pupils"]}, "no channel 'eye/pupils'.*pupil_left"),
        ({"exclude_channels": ["ear/1"]}, "no channel 'ear/1'.*Found eeg: FP1"),
        ({"exclude": ["9"]}, "no subject 9"),
        ({"exclude": ["eeg/Cz"]}, "no subject eeg/Cz.*--exclude-channels"),
    ],
)
def test_what_is_not_there_cannot_be_left_out(choice, message):
    with pytest.raises(ConfigurationError, match=message):
        planned(recordings(), **choice)


def test_no_channel_is_left():
    data = recordings()
    every = [f"eye/{name}" for name in data.inputs.modalities["eye"].channels]
    with pytest.raises(ConfigurationError, match=r"no channel at all.*--modalities"):
        planned(data, exclude_channels=every)


def test_a_modality_that_nobody_has():
    data = recordings(eye=without(range(33), [1, 2, 3]))
    with pytest.raises(DataError, match=r"'eye'.*for nobody.*--modalities eeg"):
        planned(data)
    found = check_of(data)
    assert not found.usable and "--modalities eeg" in found.problems[0].message
    assert len(planned(data, modalities=["eeg"]).folds) == 3


def test_one_modality_named_twice():
    with pytest.raises(ConfigurationError, match="name one of them twice"):
        planned(recordings(), modalities=["eeg", "eeg"])


@pytest.mark.parametrize("protocol", ["cross-subject", "cross-session"])
def test_one_recording_under_two_names(protocol):
    data = Simulated(subjects=2, sessions=2, trials=3, windows=(4, 5)).load()
    windows = data.inputs.windows
    if protocol == "cross-subject":
        copied = (windows["subject"] == 1).to_numpy()
        column, name = "subject", 3
    else:
        copied = ((windows["subject"] == 1) & (windows["session"] == 1)).to_numpy()
        column, name = "session", 3
    rows = np.r_[: len(data), np.flatnonzero(copied)]
    whole = data.take(rows)
    again = whole.inputs.windows.copy()
    again.loc[len(data) :, column] = name
    whole = replace(whole, inputs=replace(whole.inputs, windows=again))
    words = rf"subject 1, session 1, trial 1 and .*{column} 3"
    with pytest.raises(DataError, match=rf"bit for bit, in {words}"):
        planned(whole, protocol=protocol)
    assert check_of(whole).usable == (protocol == "cross-session")
    planned(data, protocol=protocol)


@pytest.mark.parametrize(
    "kept", [slice(1, None), slice(None, -1), slice(None, None, 2)]
)
@pytest.mark.parametrize("step", [1, -1])
def test_a_copy_of_a_part_or_in_another_order(kept, step):
    data = Simulated(subjects=2, sessions=1, trials=3, windows=(4, 5)).load()
    windows = data.inputs.windows
    trial = np.flatnonzero((windows["subject"] == 1) & (windows["trial"] == 2))
    rows = np.r_[: len(data), trial[::step][kept]]
    again = data.take(rows).inputs.windows.copy()
    again.loc[len(data) :, ["subject", "trial"]] = (2, 9)
    again.loc[len(data) :, "start"] = np.arange(len(rows) - len(data)) * 4.0
    whole = data.take(rows)
    whole = replace(whole, inputs=replace(whole.inputs, windows=again))
    words = "subject 1, session 1, trial 2 and subject 2, session 1, trial 9"
    with pytest.raises(DataError, match=f"bit for bit, in {words}"):
        planned(whole)
    assert words in check_of(whole).problems[0].message


def test_a_copy_of_which_the_first_sensor_is_lost():
    data = Simulated(subjects=3, sessions=1, trials=3, windows=(4, 4)).load()
    signals = {name: each.copy() for name, each in data.inputs.signals.items()}
    one, two = (np.flatnonzero(data.inputs.windows["subject"] == s) for s in (1, 2))
    for each in signals.values():
        each[two] = each[one]
    signals["eeg"][np.r_[one, two]] = np.nan
    copied = replace(data, inputs=replace(data.inputs, signals=signals))
    with pytest.raises(DataError, match="bit for bit, in subject 1"):
        planned(copied)


def test_a_single_modality_that_is_copied_is_told():
    data = Simulated(subjects=3, sessions=1, trials=3, windows=(4, 4)).load()
    eye = data.inputs.signals["eye"].copy()
    one, two = (np.flatnonzero(data.inputs.windows["subject"] == s) for s in (1, 2))
    eye[two] = eye[one]
    signals = {**data.inputs.signals, "eye": eye}
    with pytest.warns(DomainemoWarning, match=r"'eye' are the same.*subject 1.*ct 2"):
        planned(replace(data, inputs=replace(data.inputs, signals=signals)))


def test_a_single_value_that_one_subject_never_has_is_told():
    data = Simulated(subjects=3, sessions=1, trials=3, windows=(4, 4)).load()
    eye = data.inputs.modalities["eye"]
    lost = data.inputs.signals["eye"].copy()
    lost = np.concatenate([lost, lost * 2], axis=2)
    lost[data.inputs.windows["subject"] == 2, 1, 1] = np.nan
    inputs = replace(
        data.inputs,
        signals={"eye": lost},
        modalities={"eye": replace(eye, features=("mean", "spread"))},
    )
    words = rf"no window holds a value for spread of {eye.channels[1]}, subject 2;"
    with pytest.warns(DomainemoWarning, match=words):
        planned(replace(data, inputs=inputs))


def test_a_window_that_is_repeated_tells_nothing():
    """What was lost, filled with the mean over all people."""
    data = Simulated(subjects=2, sessions=1, trials=3, windows=(4, 5)).load()
    lost = np.flatnonzero(data.inputs.windows["start"] < 8)
    signals = {name: each.copy() for name, each in data.inputs.signals.items()}
    for each in signals.values():
        each[lost] = np.nanmean(each, axis=0)
    planned(replace(data, inputs=replace(data.inputs, signals=signals)))


def test_signals_that_hold_next_to_nothing_may_agree():
    """Counts of blinks, all zero: no evidence of a copy."""
    data = rated(list("aaaabbbb"))
    flat = {"eye": np.zeros_like(data.inputs.signals["eye"])}
    flat = replace(data, inputs=replace(data.inputs, signals=flat))
    planned(flat, normalisation="none")


# ------------------------------------------------------------- what are no recordings

NOT_RECORDINGS = [
    (None, "found nothing"),
    ("seed-iv", r"domainemo\.load\('seed-iv'"),
    (Path("my-study"), r"domainemo\.load\('table', 'my-study'"),
    (pd.DataFrame({"a": [1]}), "a DataFrame.*from_arrays"),
    (np.zeros(3), "an array of shape.*from_arrays"),
    ({"eeg": np.zeros(3)}, "a dict.*from_arrays"),
    (Simulated(), r"the data set Simulated itself.*load\(\)"),
    (Simulated, r"the class Simulated.*load"),
    ([rated(["a"])], "a list.*join"),
    (3, "an int"),
]


@pytest.mark.parametrize(("given", "message"), NOT_RECORDINGS, ids=lambda each: None)
@pytest.mark.parametrize("function", ["run", "tune", "pretrain", "write_table", "join"])
def test_anything_else_is_told_from_recordings(tmp_path, function, given, message):
    call = {
        "run": lambda: de.run(given),
        "tune": lambda: de.tune(given, output=tmp_path / "study"),
        "pretrain": lambda: de.pretrain(given, output=tmp_path / "trained"),
        "write_table": lambda: write_table(given, tmp_path / "table"),
        "join": lambda: de.join(given),
    }[function]
    with pytest.raises(ConfigurationError, match=message):
        call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", ["run", "tune", "join"])
def test_recordings_without_labels(tmp_path, function):
    inputs = rated(["a"]).inputs
    assert isinstance(inputs, Inputs)
    with pytest.raises(DataError, match=r"rated without labels.*load\(\)"):
        if function == "tune":
            de.tune(inputs, output=tmp_path / "study")
        else:
            getattr(de, function)(inputs)


def test_a_person_of_one_session_is_named_in_the_results():
    """Nobody chose to leave that person out, and no fold can test who has no other."""
    data = Simulated(subjects=3, sessions=2, trials=6, windows=(2, 3)).load()
    windows = data.inputs.windows
    lonely = (windows["subject"] == 2) & (windows["session"] == 2)
    data = data.take(np.flatnonzero(~lonely))
    chosen = {"protocol": "cross-session", "backbone": "concatenation-mlp"}
    results = de.run(data, **chosen, epochs=1, baselines=False)
    why = "subject 2: no fold tests it, as it lacks another session"
    assert f"skipped {why}" in results.how()
    assert set(results.table["subject"]) == {1, 3}
    few = de.run(data, **chosen, epochs=1, baselines=False, exclude=["2"])
    assert "skipped" not in few.how()
