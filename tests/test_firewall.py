"""Nothing that trains or selects can see a target label: by types, and bit for bit."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import torch

import domainemo
from domainemo.core import PROVENANCE, EmotionData, Inputs, Target
from domainemo.data.simulator import Simulated
from domainemo.protocols.cross_session import CrossSession
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import entries, find
from domainemo.runs import job
from domainemo.testing import FirstFold, with_random_target_labels
from domainemo.testing.firewall import SMALL_NETWORK
from domainemo.training.batches import sample
from domainemo.training.settings import Training

torch.set_num_threads(1)
TINY = {"backbone.width": 8, "backbone.heads": 2}
ADAPTERS = [entry.name for entry in entries("adapter")]
VALIDATORS = [entry.name for entry in entries("validator")]
PROTOCOLS = {
    "cross-subject": CrossSubject(),
    "cross-session": CrossSession(),
    "cross-subject, inductive": CrossSubject(held_out=0.5),
    "cross-session, inductive": CrossSession(held_out=0.5),
}


BELIEVED = {"labels"} | {
    f"{what}/{branch}"
    for what in ("weights", "opinions")
    for branch in ("eeg", "eye", "fusion")
}
"""What a screen leaves behind: labels and opinions are its judge's own."""


@pytest.fixture(scope="module")
def data():
    return Simulated(subjects=3, sessions=2, trials=3, windows=(3, 5)).load()


def train(data, output, protocol, **choices):
    chosen = {"adapter": "uf-ama", "options": TINY, "baselines": False} | choices
    return domainemo.run(
        data,
        protocol=FirstFold(protocol),
        training=Training(epochs=2, batch_size=8),
        device="cpu",
        output=output,
        **chosen,
    )


def untimed(facts):
    """A record without what anything took."""
    if not isinstance(facts, dict):
        return facts
    return {key: untimed(each) for key, each in facts.items() if key != "seconds"}


def left_behind(folder):
    """All that training left in the folder of each job, by job and file."""
    found = {}
    for record in sorted(folder.rglob("record.json")):
        job = record.parent
        name = job.relative_to(folder).as_posix()
        facts = json.loads(record.read_text(encoding="utf-8"))
        facts = untimed(facts)
        with np.load(job / "predictions.npz") as file:
            arrays = {key: (a.dtype, a.shape, a.tobytes()) for key, a in file.items()}
        found[name] = {"record.json": facts, "predictions.npz": arrays} | {
            file.name: file.read_bytes()
            for file in job.iterdir()
            # `files.json` holds the hashes of these, and of the seconds too.
            if file.name not in ("record.json", "predictions.npz", "files.json")
        }
    assert found
    return found


def assert_same_bits(first, second):
    first, second = left_behind(first), left_behind(second)
    assert list(first) == list(second)
    for name, files in first.items():
        assert set(files) == set(second[name])
        for file, content in files.items():
            assert content == second[name][file], f"{name}: {file} differs"


def assert_firewall(data, folder, protocol, **choices):
    noisy = with_random_target_labels(data, protocol)
    assert sorted(noisy.labels) != sorted(data.labels)
    before = train(data, folder / "true", protocol, **choices)
    after = train(noisy, folder / "noise", protocol, **choices)
    assert_same_bits(folder / "true", folder / "noise")
    return before, after


# ------------------------------------------------------------------------ bit for bit


# Every adapter under one of the protocols, in turn, beside the shipped check of each
# under the first; the preset and its network, which have all that there is, under all.
@pytest.mark.parametrize(
    ("adapter", "protocol"),
    list(zip(ADAPTERS, itertools.cycle(PROTOCOLS), strict=False)),
)
def test_adapters(data, tmp_path, adapter, protocol):
    choices = {"adapter": adapter, "backbone": SMALL_NETWORK, "options": {}}
    assert_firewall(data, tmp_path, PROTOCOLS[protocol], **choices)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_preset(data, tmp_path, protocol):
    assert_firewall(data, tmp_path, PROTOCOLS[protocol])


def test_a_screen_that_asks_for_all_there_is(data, tmp_path):
    """It is told which windows share a trial, and keeps source people from training."""
    asked = {
        "rule": "balanced",
        "judge": "mean-teacher",
        "judged_from": 0.4,
        "contradiction": 0.9,
        "temperature": "held-out",
        "typicality": 0.05,
        "neighbours": 0.7,
        "labels": "soft",
    }
    options = {f"adapter.confidence.{name}": value for name, value in asked.items()}
    choices = {"adapter": "confidence+uf-ama", "options": {**TINY, **options}}
    assert_firewall(data, tmp_path, CrossSubject(), **choices)
    (kept,) = left_behind(tmp_path / "true").values()
    # Some source people did not train, though no validator asked for them.
    assert kept["record.json"]["held_out"] is not None
    assert "screening.npz" in kept


# Each chooses the epoch under one of two protocols, in turn; every record has the
# scores that all others give to the finished network, which are compared as well.
@pytest.mark.parametrize(
    ("validator", "protocol"),
    list(
        zip(
            VALIDATORS,
            itertools.cycle(["cross-subject", "cross-session, inductive"]),
            strict=False,
        )
    ),
)
def test_validators(tmp_path, validator, protocol):
    # Twice the trials: some of every class can be held out of a single session.
    data = Simulated(subjects=3, sessions=2, trials=6, windows=(3, 5)).load()
    assert_firewall(data, tmp_path, PROTOCOLS[protocol], validator=validator)
    (found,) = left_behind(tmp_path / "true").values()
    told = found["record.json"]["scores"]
    assert set(told) == set(VALIDATORS) - {"last"}
    if find("validator", validator)().held_out:
        assert all(each["score"] is not None for each in told.values())


@pytest.mark.parametrize("normalisation", ["session", "subject", "source", "none"])
def test_normalisations(data, tmp_path, normalisation):
    protocol, options = CrossSubject(), {"normalisation": normalisation}
    assert_firewall(data, tmp_path, protocol, adapter="none", **options)


def test_baselines_beside_an_adapter(data, tmp_path):
    before, after = assert_firewall(data, tmp_path, CrossSubject(), baselines=True)
    assert len(left_behind(tmp_path / "true")) >= 2
    # What noise does change is the score: the labels do arrive at the scorer.
    metrics = ["method", "fold", "level", "balanced_accuracy"]
    assert not before.table[metrics].equals(after.table[metrics])
    probabilities = [c for c in before.predictions if c.startswith("p_")]
    assert before.predictions[probabilities].equals(after.predictions[probabilities])


def test_what_the_screen_believed_is_left_behind(data, tmp_path):
    """Its file is among those that noise in the target's labels may not change."""
    assert_firewall(data, tmp_path, CrossSubject(held_out=0.5))
    first, second = (
        (tmp_path / name / "folds/subject_1/seed-0/uf-ama/screening.npz")
        for name in ("true", "noise")
    )
    assert first.read_bytes() == second.read_bytes()
    rows = domainemo.runs.checks.canonical(data.inputs)
    fold = next(CrossSubject(held_out=0.5).split(data.inputs.take(rows).windows))
    with np.load(first) as file:
        members, shapes = file["members"], {k: a.shape for k, a in file.items()}
    # The target's windows, numbered among all; none of those that are tested.
    assert set(members[members >= 0]) == set(fold.target)
    assert shapes.pop("members")[0] == len(members)
    assert shapes == {name: (2, len(members)) for name in BELIEVED}


def test_an_oracle_trains_blindly_too(data, tmp_path):
    noisy = with_random_target_labels(data, CrossSubject())
    for name, each in (("true", data), ("noise", noisy)):
        result = train(each, tmp_path / name, CrossSubject(), validator="oracle")
        assert result.table["method"].str.contains("ORACLE").all()
        assert result.table["target_seen"].str.contains("ORACLE").all()
    assert_same_bits(tmp_path / "true", tmp_path / "noise")


@pytest.mark.parametrize("protocol", ["cross-subject", "cross-session, inductive"])
@pytest.mark.parametrize("index", ["as it falls", "kept"])
def test_the_order_of_windows_does_not_matter(data, tmp_path, protocol, index):
    order = np.random.default_rng(0).permutation(len(data))
    shuffled = data.take(order)
    if index == "kept":
        table = data.inputs.windows.iloc[order]
        inputs = dataclasses.replace(shuffled.inputs, windows=table)
        shuffled = dataclasses.replace(shuffled, inputs=inputs)
    first = train(data, tmp_path / "first", PROTOCOLS[protocol])
    second = train(shuffled, tmp_path / "second", PROTOCOLS[protocol])
    assert_same_bits(tmp_path / "first", tmp_path / "second")
    pd.testing.assert_frame_equal(
        first.table.drop(columns="seconds"), second.table.drop(columns="seconds")
    )
    pd.testing.assert_frame_equal(first.predictions, second.predictions)


def test_concatenated_tables_keep_every_window(data):
    """Tables put together by pandas repeat their index; no window may be lost."""
    subjects = data.inputs.windows["subject"]
    parts = [data.inputs.windows[subjects == name] for name in subjects.unique()]
    table = pd.concat([part.reset_index(drop=True) for part in parts])
    order = np.concatenate([np.flatnonzero(subjects == s) for s in subjects.unique()])
    moved = dataclasses.replace(data.inputs.take(order), windows=table)
    rows = domainemo.runs.checks.canonical(moved)
    assert sorted(rows) == list(range(len(data)))


# -------------------------------------------------------------------------- structure


def test_a_target_has_no_field_for_a_label():
    names = {field.name for field in dataclasses.fields(Target)}
    known = {"outputs", "progress", "teacher", "pseudo", "judge", "augmented", "mixed"}
    assert names == known | {"trials", "whole_trials"}


def test_trials_are_told_within_a_batch_and_not_which_they_are(data):
    """A trial's number would tell its clip to who knows the order of clips."""
    windows = data.inputs.windows
    backwards = windows.assign(trial=1 + windows["trial"].max() - windows["trial"])
    renamed = dataclasses.replace(data.inputs, windows=backwards)
    rows, sampling = np.arange(len(data)), find("sampling", "windows")()
    index = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:20]
    found = []
    for inputs in (data.inputs, renamed):
        samples, members = sample(inputs, rows, sampling, torch.device("cpu"))
        found.append(samples.same_trial(index).tolist())
    keys = windows[["subject", "session", "trial"]].to_numpy()[members[index, 0]]
    keys = [tuple(key) for key in keys]
    assert found[0] == found[1] == [keys.index(key) for key in keys]
    assert len(set(keys)) < len(keys)


def test_inputs_have_no_field_for_a_label():
    fields = {field.name for field in dataclasses.fields(Inputs)}
    # Whether labels divided the trials is one word about all recordings, and no label.
    assert fields == {"signals", "windows", "modalities", "name", "labelled_trials"}
    assert not issubclass(EmotionData, Inputs)
    assert set(PROVENANCE) == {"subject", "session", "trial", "stimulus", "start"}


def walk(value, path="", seen=None):
    """Yield every object that can be reached, with the way to it."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, type | str | bytes):
        return
    seen.add(id(value))
    yield path, value
    if isinstance(value, pd.DataFrame):
        parts = {name: value[name].to_numpy() for name in value}
    elif isinstance(value, Mapping):
        parts = dict(value)
    elif isinstance(value, tuple | list | set):
        parts = dict(enumerate(value))
    elif isinstance(value, np.ndarray):
        parts = {"base": value.base}
    else:
        parts = getattr(value, "__dict__", {})
    for name, part in parts.items():
        yield from walk(part, f"{path}.{name}", seen)


def test_what_a_job_receives_holds_no_target_label(data, tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    trials = data.inputs.windows.groupby(["subject", "session", "trial"]).ngroup()
    labels = generator.integers(len(data.classes), size=len(data))[trials.to_numpy()]
    data = dataclasses.replace(data, labels=labels)
    received = []

    def record(inputs, experiment, job, report=None):
        received.append((inputs, experiment, job))
        return run_job(inputs, experiment, job, report)

    run_job = job.run_job
    monkeypatch.setattr(job, "run_job", record)
    domainemo.run(
        data,
        protocol="cross-subject",
        options={**TINY, "training.epochs": 1},
        output=tmp_path / "run",
        device="cpu",
    )
    # The order of the recordings as the jobs have them.
    data = data.take(domainemo.runs.checks.canonical(data.inputs))
    assert len(received) >= 3 * 2
    for given in received:
        inputs, _, its_job = given
        assert type(inputs) is Inputs
        target = data.labels[its_job.fold.target]
        arrays = 0
        for path, value in walk(given):
            assert not isinstance(value, EmotionData), path
            if isinstance(value, np.ndarray):
                arrays += 1
                assert not np.shares_memory(value, data.labels), path
                assert value.shape != data.labels.shape or (value != data.labels).any()
                assert value.shape != target.shape or (value != target).any(), path
        assert arrays > 10
        assert np.array_equal(its_job.source_labels, data.labels[its_job.fold.source])
        # Nor does it hide in what travels to another process.
        sent = pickle.dumps(given)
        assert its_job.source_labels.tobytes() in sent
        for kind in (np.int64, np.int32, np.int8):
            assert target.astype(kind).tobytes() not in sent


def test_a_fold_file_on_disk_holds_no_label_either(data, tmp_path):
    train(data, tmp_path / "run", CrossSubject())
    (folder,) = [path.parent for path in tmp_path.rglob("record.json")]
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "files.json",
        "history.csv",
        "model.json",
        "model.safetensors",
        "predictions.npz",
        "record.json",
        "screening.npz",
    }
    with np.load(folder / "predictions.npz") as file:
        assert set(file) == {"members", "probabilities", "trace"}
    with np.load(folder / "screening.npz") as file:
        assert set(file) == {"members", *BELIEVED}


def test_validators_are_handed_the_target_without_labels(data, tmp_path):
    seen = tmp_path / "seen"  # a file, as code from outside has its own process

    class Watches(find("validator", "last")):
        def __call__(self, training, held_out, target):
            told = [training is held_out is None, type(target) is Target]
            optional = ("pseudo", "teacher", "judge", "augmented", "mixed")
            told += [getattr(target, name) is None for name in optional]
            with seen.open("a") as file:
                file.write(f"{all(told)}\n")
            return super().__call__(training, held_out, target)

        def __deepcopy__(self, memo):
            return self

    train(data, tmp_path / "run", CrossSubject(), validator=Watches())
    assert seen.read_text().split() == ["True"] * 2
