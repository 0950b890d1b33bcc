"""Across data sets: one trains, the other is adapted to and tested."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from killing import undrawn
from test_calibration import left

import domainemo as de
from domainemo.cli import main
from domainemo.core import EmotionData, Inputs, Modality
from domainemo.data.classes import share_classes, written
from domainemo.data.matching import channels_within_reach
from domainemo.errors import ConfigurationError, DataError, DomainemoWarning
from domainemo.protocols.cross_dataset import CrossDataset
from domainemo.reports.run import write_run_report
from domainemo.review.reading import match_recordings
from domainemo.runs.experiment import experiment
from domainemo.runs.how import how_control
from domainemo.runs.target import plan_target
from domainemo.testing import check
from domainemo.training.settings import Training

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore::domainemo.errors.DomainemoWarning")
CHOICES = {
    "protocol": "cross-dataset",
    "adapter": "marginal",
    "backbone": "concatenation-mlp",
    "training": Training(epochs=1, batch_size=16),
    "device": "cpu",
    "baselines": False,
}


@pytest.fixture(scope="module")
def source():
    return de.Simulated(subjects=3, sessions=1, trials=6, windows=(3, 4)).load()


@pytest.fixture(scope="module")
def target():
    return de.Simulated(subjects=2, sessions=1, trials=6, windows=(3, 4), seed=5).load()


def called(data, classes):
    return dataclasses.replace(data, classes=tuple(classes))


def skin(name, channels, labels, classes, features=("mean",), subjects=(1, 2)):
    """Make recordings of one sensor, two windows a trial."""
    rows = [
        (subject, 1, trial, f"clip {trial}", float(start), label)
        for subject in subjects
        for trial, label in enumerate(labels, 1)
        for start in (0, 1)
    ]
    columns = ["subject", "session", "trial", "stimulus", "start", "label"]
    table = pd.DataFrame(rows, columns=columns)
    shape = len(table), len(channels), len(features)
    signals = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    modalities = {"skin": Modality(tuple(channels), tuple(features), "physiology")}
    inputs = Inputs({"skin": signals}, table.drop(columns="label"), modalities, name)
    return EmotionData(inputs, table["label"].to_numpy(np.int64), tuple(classes))


A = skin("A", "abc", [0, 1, 2] * 2, ("positive", "neutral", "negative"))
B = skin("B", "abc", [0, 1, 2, 3] * 2, ("happy", "sad", "fear", "Neutral"))


# -------------------------------------------------------------------------- the classes


@pytest.mark.parametrize(
    ("named", "kept", "names"),
    [
        (
            "positive=happy,negative=sad+fear",
            ("positive", "neutral", "negative"),
            ["positive", "negative", "negative", "neutral"],
        ),
        (
            " Positive = HAPPY ",
            ("positive", "neutral"),
            ["positive", "-", "-", "neutral"],
        ),
        (
            "positive=Neutral,negative=fear",
            ("positive", "negative"),
            ["-", "-", "negative", "positive"],
        ),
    ],
)
def test_every_window_has_its_partner_or_is_left_out(named, kept, names):
    ours, theirs = share_classes(A, B, named)
    assert ours.classes == theirs.classes == kept
    expected = [names[label] for label in B.labels if names[label] != "-"]
    assert [kept[label] for label in theirs.labels] == expected
    rows = [row for row, label in enumerate(B.labels) if names[label] != "-"]
    pd.testing.assert_frame_equal(
        theirs.inputs.windows, B.inputs.windows.iloc[rows].reset_index(drop=True)
    )
    np.testing.assert_array_equal(
        theirs.inputs.signals["skin"], B.inputs.signals["skin"][rows]
    )
    own = [A.classes[label] for label in A.labels if A.classes[label] in kept]
    assert [kept[label] for label in ours.labels] == own


def test_what_was_done_to_classes_is_said(recwarn):
    ours, theirs = share_classes(A, B, "positive=happy+sad")
    name = "B (happy and sad as positive, Neutral as neutral; left out: "
    assert theirs.inputs.name == f"{name}8 windows of fear)"
    assert ours.inputs.name == "A (left out: 8 windows of negative)"
    said = [str(each.message) for each in recwarn]
    assert "B: left out are 8 windows of fear, as the other" in said[1]
    alone, _ = share_classes(A, A)
    assert alone.inputs.name == "A" and len(recwarn) == 2


def test_who_is_left_out_is_not_counted_among_what_is():
    chosen = {
        **CHOICES,
        "exclude": ("2",),
        "options": {"protocol.classes": "positive=happy"},
    }
    planned = plan_target(A, B, experiment(**chosen))
    assert "A (left out: 4 windows of negative)" in planned.inputs.name


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (
            "positive=hapy",
            r"'hapy', and B, the target, has .* Did you mean",
        ),
        ("positiv=happy", r"'positiv', and A, the source, has no .* mean 'positive'"),
        ("positive=happy,positive=sad", "'positive' of the source twice"),
        ("positive=happy,negative=happy", "'happy' of the target twice"),
        ("positive", "expected SOURCE=TARGET"),
        ("positive=", "expected SOURCE=TARGET"),
        ("positive=happy=sad", "expected SOURCE=TARGET"),
        ("positive=happy,", "expected SOURCE=TARGET"),
        ("=happy", "expected SOURCE=TARGET"),
        ("positive=happy++sad", "expected SOURCE=TARGET"),
    ],
)
def test_classes_that_there_are_not_are_refused(named, said):
    with pytest.raises(ConfigurationError, match=said):
        share_classes(A, B, named)


def test_fewer_than_two_classes_in_common_are_refused():
    with pytest.raises(DataError, match="of which 1 is among those of A"):
        share_classes(A, B)
    none = called(B, ("w", "x", "y", "z"))
    with pytest.raises(DataError, match="of which 0 are among those of A"):
        share_classes(A, none)
    fear = B.take(np.flatnonzero(B.labels == 2))
    with pytest.raises(DataError, match="no window of happy, Neutral"):
        share_classes(A, fear, "positive=happy")


def test_a_mapping_is_the_same_as_the_text():
    text = written({"positive": "happy", "negative": ["sad", "fear"]})
    assert text == "positive=happy,negative=sad+fear"
    text = written({"so, so": ["a, b", "c"], "x": "y"})
    source = called(A, ("so, so", "x", "rest"))
    target = called(B, ("a, b", "y", "c", "other"))
    _, shared = share_classes(source, target, text)
    assert shared.classes == ("so, so", "x")
    assert "a, b and c as so, so" in shared.inputs.name
    for wrong in ({"a": "x+y"}, {"a=b": "x"}, {"a": [1]}):
        with pytest.raises(ConfigurationError, match="expected text without"):
            written(wrong)
    with pytest.raises(ConfigurationError, match="expected a mapping"):
        written("positive=happy")


# ------------------------------------------------------------------------- the channels


def test_what_one_lacks_is_left_out_of_the_other(source, target):
    """Of 62 electrodes the target has 20: too few to interpolate the rest."""
    eeg = target.inputs.modalities["eeg"]
    kept = [*range(0, 60, 3)]
    few = dataclasses.replace(
        eeg, channels=tuple(eeg.channels[k].lower() for k in kept)
    )
    inputs = dataclasses.replace(
        target.inputs,
        signals={"eeg": target.inputs.signals["eeg"][:, kept]},
        modalities={"eeg": few},
    )
    lesser = dataclasses.replace(target, inputs=inputs)
    planned = plan_target(source, lesser, experiment(**CHOICES))
    names = tuple(eeg.channels[k] for k in kept)
    assert planned.inputs.modalities["eeg"].channels == names
    assert list(planned.inputs.modalities) == ["eeg"]
    assert "left out: 42 channels of eeg" in planned.inputs.name
    whole = source.inputs.take(np.lexsort(_keys(source)))
    np.testing.assert_array_equal(
        planned.inputs.signals["eeg"][: len(source)], whole.signals["eeg"][:, kept]
    )


def _keys(data):
    windows = data.inputs.windows
    return [windows[name] for name in ("start", "trial", "session", "subject")]


def test_few_missing_electrodes_are_interpolated(source, target):
    eeg = target.inputs.modalities["eeg"]
    few = dataclasses.replace(eeg, channels=eeg.channels[1:])
    inputs = dataclasses.replace(
        target.inputs,
        signals={"eeg": target.inputs.signals["eeg"][:, 1:]},
        modalities={"eeg": few},
    )
    reach = channels_within_reach(inputs, source.inputs.modalities)
    assert reach == {"eeg": eeg.channels}
    # Every number says so, not a warning alone.
    with pytest.warns(de.DomainemoWarning, match="interpolated from"):
        planned = plan_target(
            source, dataclasses.replace(target, inputs=inputs), experiment(**CHOICES)
        )
    said = f"{target.inputs.name} ({eeg.channels[0]} interpolated)"
    assert planned.target == said
    how = how_control(planned, planned.folds[0], "majority class")
    assert how["target"] == said


def test_no_shared_modality_channel_or_feature_is_refused():
    def planned(other):
        return plan_target(A, other, experiment(**CHOICES))

    classes = A.classes
    other = skin("B", "abc", [0, 1, 2] * 2, classes)
    signals = {"heart": other.inputs.signals["skin"]}
    modalities = {"heart": other.inputs.modalities["skin"]}
    heart = dataclasses.replace(other.inputs, signals=signals, modalities=modalities)
    with pytest.raises(DataError, match="the modalities heart; expected at least"):
        planned(dataclasses.replace(other, inputs=heart))
    with pytest.raises(DataError, match=r"channels of A .*: a, b, c; found x"):
        planned(skin("B", "xyz", [0, 1, 2] * 2, classes))
    with pytest.raises(DataError, match=r"features of A .*: mean; found slope"):
        planned(skin("B", "abc", [0, 1, 2] * 2, classes, features=["slope"]))
    shared = planned(skin("B", "cxa", [0, 1, 2] * 2, classes))
    assert shared.inputs.modalities["skin"].channels == ("a", "c")


# -------------------------------------------------------------------------------- a run


def test_everybody_there_is_tested_by_everybody_here(source, target, tmp_path):
    output = tmp_path / "run"
    results = de.adapt(source, target, output=output, **CHOICES | {"baselines": True})
    assert list(results.table["fold"].unique()) == ["subject 1", "subject 2"]
    # The same numbers are other people there, whose labels are their own.
    own = results.predictions[results.predictions["method"] == "marginal"]
    place = ["subject", "session", "trial", "start"]
    known = target.inputs.windows[place].assign(known=target.labels)
    joined = own.merge(known, on=place)
    assert len(joined) == len(target)
    np.testing.assert_array_equal(joined["label"], joined["known"])
    planned = plan_target(source, target, experiment(**CHOICES))
    for fold in planned.folds:
        assert len(fold.source) == len(source) and fold.source.max() < len(source)
        assert fold.test.min() >= len(source) and fold.access == "transductive"
    assert set(results.table["target"]) == {target.inputs.name}
    assert f"adapted to {target.inputs.name}" in results.how()
    before = left(output)
    shutil.rmtree(output / "folds" / "subject_2")
    again = de.adapt(source, target, output=output, **CHOICES | {"baselines": True})
    assert left(output) == before
    pd.testing.assert_frame_equal(again.predictions, results.predictions)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"protocol.held_out": 0.4, "protocol.unit": "time"},
        {"protocol.together": True},
    ],
    ids=str,
)
def test_the_targets_labels_are_for_the_score_alone(source, target, tmp_path, options):
    generator = np.random.default_rng(0)
    windows = target.inputs.windows
    trials = windows.groupby(["subject", "session", "trial"]).ngroup().to_numpy()
    drawn = generator.permutation(np.arange(trials.max() + 1) % 3)
    noisy = dataclasses.replace(target, labels=drawn[trials].astype(np.int64))
    assert (noisy.labels != target.labels).any()
    choices = CHOICES | {"options": options, "validator": "source-and-information"}
    first, second = (
        de.adapt(source, each, output=tmp_path / name, **choices)
        for name, each in (("true", target), ("noise", noisy))
    )
    assert left(tmp_path / "true") == left(tmp_path / "noise")
    columns = [name for name in first.predictions if name.startswith("p_")]
    assert first.predictions[columns].equals(second.predictions[columns])
    assert not first.predictions["label"].equals(second.predictions["label"])


def test_windows_of_the_target_that_overlap_are_not_divided_in_time(source, target):
    """They are longer than the source's, which touch."""
    shorter, longer = (
        dataclasses.replace(
            data,
            inputs=dataclasses.replace(
                data.inputs,
                modalities={
                    name: dataclasses.replace(each, span=span)
                    for name, each in data.inputs.modalities.items()
                },
            ),
        )
        for data, span in ((source, 4.0), (target, 16.0))
    )
    options = {"protocol.held_out": 0.4, "protocol.unit": "time"}
    assert de.adapt(shorter, target, options=options, **CHOICES).scored
    with pytest.raises(DataError, match="16 s each"):
        de.adapt(shorter, longer, options=options, **CHOICES)


def test_it_predicts_as_for_newcomers(source, target):
    """Whether somebody knows the labels does not change a bit of what is predicted."""
    known = de.adapt(source, target, **CHOICES).predictions
    new = de.adapt(source, target.inputs, **CHOICES | {"protocol": "newcomers"})
    columns = [name for name in known if name.startswith("p_")]
    assert known[columns].equals(new.predictions[columns])


def test_its_report_says_on_what_and_reads_no_recordings_again(
    source, target, tmp_path, monkeypatch
):
    output = tmp_path / "run"
    de.adapt(source, target, output=output, **CHOICES)
    with pytest.raises(ConfigurationError, match="its target was given apart"):
        match_recordings(output, source, experiment(**CHOICES))
    monkeypatch.setattr("domainemo.reports.page.render", undrawn)
    write_run_report(output)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert f"{source.inputs.name}, tested on {target.inputs.name}: marginal" in page


def test_some_of_its_labels_may_be_given(source, target):
    results = de.adapt(source, target, calibration=1, **CHOICES)
    assert results.table["calibration"].str.startswith("3 trials (1 of each").all()


def test_classes_are_named_in_python(source, target):
    other = called(target, ("bad", "so-so", "good"))
    names = dict(zip(source.classes, other.classes, strict=True))
    results = de.adapt(source, other, target_classes=names, **CHOICES)
    same = de.adapt(source, target, **CHOICES)
    columns = [name for name in same.predictions if name.startswith("p_")]
    assert results.predictions[columns].equals(same.predictions[columns])
    assert "bad as negative, so-so as neutral, good as positive" in results.how()


# ------------------------------------------------------------------------------ refused


def test_the_shipped_checks():
    check(CrossDataset)
    check(CrossDataset, options={"held_out": 0.3})


def test_a_person_of_one_class_is_left_out_of_the_target(source, target):
    """`--exclude` is of the source: the advice would be refused itself."""
    labels = target.labels.copy()
    labels[(target.inputs.windows["subject"] == 2).to_numpy()] = 0
    alike = dataclasses.replace(target, labels=labels)
    with pytest.raises(DataError) as caught:
        de.adapt(source, alike, **CHOICES)
    assert "leave the person out of the target's recordings" in str(caught.value)
    assert "--exclude" not in str(caught.value)


def test_what_cannot_be_tested_is_refused(source, target):
    with pytest.raises(ConfigurationError, match="Name them with --target"):
        de.run(source, **CHOICES)
    with pytest.raises(DataError, match=r"the target: found .* without labels"):
        de.adapt(source, target.inputs, **CHOICES)
    one = target.take(np.flatnonzero(target.labels == 1))
    with pytest.raises(DataError, match="the test part holds a single class"):
        de.adapt(source, one, **CHOICES)
    with pytest.raises(ConfigurationError, match="expected 'newcomers', for people"):
        de.adapt(source, target, **CHOICES | {"protocol": "cross-subject"})
    with pytest.raises(ConfigurationError, match="no option 'classes'"):
        choices = CHOICES | {"protocol": "newcomers"}
        de.adapt(source, target.inputs, target_classes={"a": "b"}, **choices)


def test_the_command(source, target, tmp_path, monkeypatch, capsys):
    de.write_table(source, tmp_path / "here")
    de.write_table(called(target, ("bad", "neutral", "good")), tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments, code=0):
        command = ["domainemo", "adapt", "--dataset=here", "--target=there"]
        command += ["--backbone=concatenation-mlp", "--epochs=1", "--jobs=1"]
        command += ["--adapter=none", "--controls=majority-class", *arguments]
        monkeypatch.setattr(sys, "argv", command)
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            warnings.simplefilter("ignore", DomainemoWarning)
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said.out + said.err
        return " ".join((said.out + said.err).split())

    chosen = ["--protocol=cross-dataset", "--output=run"]
    said = run(*chosen, "--target-classes=negative=bad,positive=good")
    assert "bad as negative, good as positive" in said
    assert "balanced accuracy" in said
    table = pd.read_csv(tmp_path / "run" / "results.csv")
    assert set(table["subject"]) == {1, 2} and "balanced_accuracy" in table
    kept = (tmp_path / "run" / "config.toml").read_text()
    assert '"protocol.classes" = "negative=bad,positive=good"' in kept
    said = run(*chosen, "--target-classes=negative=bad,positive=good", "--dry-run")
    assert "subject 2" in said and "No fold tests" not in said
    said = run("--target-classes=negative=bad", code=2)
    assert "expected --protocol cross-dataset with it, found no --protocol" in said
    said = run("--protocol=cross-dataset", code=3)
    assert "of which 1 is among those of" in said
    said = run("--protocol=cross-dataset", "--target-classes=negativ=bad", code=2)
    assert "Did you mean 'negative'?" in said
