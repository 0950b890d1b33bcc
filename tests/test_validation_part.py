"""A fold's validation part: it chooses the epoch, and never trains."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import domainemo as de
from domainemo.core import TRIAL, Fold, Protocol
from domainemo.errors import ConfigurationError, DataError
from domainemo.protocols.cross_session import CrossSession
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.runs import job as jobs
from domainemo.runs.checks import canonical
from domainemo.runs.experiment import experiment
from domainemo.runs.plan import plan
from domainemo.testing import check
from domainemo.testing.firewall import SMALL_NETWORK
from domainemo.training.settings import Training

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data():
    made = de.Simulated(subjects=5, sessions=1, trials=6, windows=(3, 5)).load()
    return made.take(canonical(made.inputs))


class Given(Protocol):
    """One fold, always of the same name: who has which part."""

    domain = "subject"

    def __init__(self, *, train=(1, 2), validation=(), test=(5,)):
        self.people = {"source": train, "validation": validation, "test": test}

    def split(self, windows):
        who = windows["subject"].to_numpy()
        rows = {k: np.flatnonzero(np.isin(who, v)) for k, v in self.people.items()}
        yield Fold("fold", target=rows["test"], **rows)


def run(data, folder, protocol, **choices):
    chosen = {
        "adapter": "marginal",
        "backbone": SMALL_NETWORK,
        "baselines": False,
        "training": Training(epochs=3, batch_size=8),
    } | choices
    return de.run(data, protocol=protocol, output=folder, device="cpu", **chosen)


def left(folder):
    """Return the bits of weights and predictions, by job."""
    found = {}
    for path in sorted(folder.rglob("record.json")):
        job = path.parent
        with np.load(job / "predictions.npz") as file:
            found[job.name] = [file["probabilities"].tobytes()]
        weights = job / "model.safetensors"
        found[job.name] += [weights.read_bytes()] if weights.exists() else []
    assert found
    return found


def numbers(table):
    columns = ["method", "fold", "subject", "level", "balanced_accuracy"]
    return table[columns].reset_index(drop=True)


def test_whoever_is_kept_for_validation_leaves_no_trace_in_training(data, tmp_path):
    """The last epoch's network is that of a run that never had their recordings."""
    choices = {"validator": "last", "baselines": True}
    without = run(data, tmp_path / "without", Given(), **choices)
    kept = Given(validation=(3, 4))
    with_them = run(data, tmp_path / "with", kept, **choices)
    assert left(tmp_path / "without") == left(tmp_path / "with")
    assert set(without.controls) and set(with_them.controls) == set(without.controls)
    pd.testing.assert_frame_equal(numbers(without.table), numbers(with_them.table))


def test_the_score_is_the_accuracy_on_them(data, tmp_path):
    """As another run has it that tests them after the same training."""
    one_epoch = {"training": Training(epochs=1, batch_size=8), "adapter": "none"}
    tried = Given(validation=(3,))
    run(data, tmp_path / "chosen", tried, validator="source", **one_epoch)
    (record,) = (tmp_path / "chosen").rglob("record.json")
    facts = json.loads(record.read_text(encoding="utf-8"))
    tested = run(data, tmp_path / "tested", Given(test=(3,)), **one_epoch).table
    expected = tested.loc[tested["level"] == "window", "balanced_accuracy"].item()
    assert facts["held_out"] == pytest.approx(expected)


def test_their_labels_choose_the_epoch_and_nothing_else(data, tmp_path):
    other = data.labels.copy()
    theirs = (data.inputs.windows["subject"] == 3).to_numpy()
    other[theirs] = (other[theirs] + 1) % len(data.classes)
    noisy = dataclasses.replace(data, labels=other)
    losses = []
    for name, each in (("true", data), ("noise", noisy)):
        run(each, tmp_path / name, Given(validation=(3,)), validator="source")
        (history,) = (tmp_path / name).rglob("history.csv")
        losses.append(pd.read_csv(history))
    told = ["score", "held_out"]
    first, second = (table.drop(columns=told) for table in losses)
    pd.testing.assert_frame_equal(first, second)
    assert not losses[0][told].equals(losses[1][told])


@pytest.mark.parametrize(
    ("validator", "words"),
    [
        ("source", "kept out of training; "),
        ("last", "kept out of training and not used, as no epoch was chosen by it; "),
    ],
)
def test_results_say_who_was_set_aside(data, tmp_path, validator, words):
    protocol = CrossSubject(test=[5], validation=[3, 4])
    results = run(data, tmp_path / "run", protocol, validator=validator)
    windows = data.inputs.windows["subject"].isin([3, 4]).sum()
    said = f"validation: 2 subjects, 12 trials, {windows} windows {words}"
    assert said in results.how()
    assert results.table["validation"].nunique() == 1


def test_results_do_not_call_unused_what_a_temperature_is_fitted_on(data, tmp_path):
    protocol = CrossSubject(test=[5], validation=[3, 4])
    found = []
    for name, labels in (("true", data.labels), ("other", (data.labels + 1) % 3)):
        theirs = data.inputs.windows["subject"].isin([3, 4])
        other = dataclasses.replace(data, labels=np.where(theirs, labels, data.labels))
        training = Training(epochs=1, batch_size=8, temperature="held-out")
        found.append(run(other, tmp_path / name, protocol, training=training))
    temperatures = {each.table["temperature"].iloc[0] for each in found}
    assert len(temperatures) == 2  # so that their labels are used
    assert "windows kept out of training; " in found[0].how()


@pytest.mark.parametrize(
    ("share", "people", "held_out"),
    [(0.01, 10, 1), (0.35, 10, 4), (0.5, 10, 5), (0.99, 10, 9), (0.5, 4, 2)],
)
def test_without_one_a_share_of_the_source_s_people_is_held_out(
    share, people, held_out
):
    made = de.Simulated(subjects=people + 1, sessions=1, trials=3, windows=(1, 1))
    data = made.load()
    protocol = Given(train=range(1, people + 1), test=(people + 1,))
    training = Training(validation_share=share)
    chosen = experiment(protocol=protocol, training=training, backbone=SMALL_NETWORK)
    planned = plan(data, chosen)
    (job, *_) = planned.jobs(Path())
    train, held = jobs._hold_out(planned.windows, chosen, job)
    who = planned.windows["subject"].to_numpy()
    assert len(set(who[held])) == held_out
    assert not set(who[held]) & set(who[train])
    assert sorted([*train, *held]) == sorted(planned.folds[0].source)


@pytest.mark.parametrize("seed", range(6))
def test_of_one_session_of_several_people_trials_are_held_out_person_by_person(seed):
    """People who watch in an order of their own share the numbers of trials only."""
    made = de.Simulated(subjects=4, sessions=2, trials=10, classes=2, windows=(2, 2))
    data = made.load()
    windows = data.inputs.windows.copy()
    moved = windows["trial"].astype(int) + windows["subject"].astype(int)
    windows["trial"] = moved % 10 + 1
    data = de.EmotionData(
        dataclasses.replace(data.inputs, windows=windows), data.labels, data.classes
    )
    data = data.take(canonical(data.inputs))
    chosen = experiment(
        protocol=CrossSession(subjects="pooled"), backbone=SMALL_NETWORK, seeds=(seed,)
    )
    planned = plan(data, chosen)
    job = next(iter(planned.jobs(Path())))
    train, held = jobs._hold_out(planned.windows, chosen, job)
    trials = planned.windows.iloc[held][TRIAL].drop_duplicates()
    assert len(trials) == 8  # a fifth of the 20 trials of either class
    assert np.bincount(data.labels[held]).tolist() == [8, 8]
    assert sorted([*train, *held]) == sorted(planned.folds[0].source)


class Earlier(de.Validator):
    """Prefers what is less trained, and holds people out."""

    held_out = True

    def __call__(self, training, held_out, target):
        return -target.progress


def test_a_record_has_the_accuracy_of_the_epoch_that_was_kept(data, tmp_path):
    run(data, tmp_path, Given(train=(1, 2, 3, 4)), validator=Earlier())
    (path,) = tmp_path.rglob("record.json")
    facts = json.loads(path.read_text(encoding="utf-8"))
    told = pd.read_csv(path.with_name("history.csv"))["held_out"]
    assert facts["epoch"] == 1 and told.nunique() > 1
    assert facts["held_out"] == pytest.approx(told.iloc[0])
    assert facts["held_out"] != told.iloc[-1]


def test_results_without_say_nothing(data, tmp_path):
    results = run(data, tmp_path / "run", CrossSubject(test=[5]))
    assert "validation" not in results.how() and "validation" not in results.table


def test_a_fold_tells_and_renumbers_it():
    fold = Fold("f", *(np.array([n]) for n in (4, 6, 6)), validation=np.array([2, 9]))
    assert "validation: 2" in repr(fold) and "calibration" not in repr(fold)
    assert fold.used.tolist() == [2, 4, 6, 9]
    assert fold.renumbered(fold.used).validation.tolist() == [0, 3]
    assert sorted(fold.seen) == [2, 6, 9]
    assert "validation" not in repr(Fold("f", fold.source, fold.test, fold.test))


@pytest.mark.parametrize("part", ["source", "target"])
def test_what_has_another_part_is_refused(data, part):
    class Wrong(CrossSubject):
        def split(self, windows):
            for fold in super().split(windows):
                rows = fold.parts[part][:1]
                yield dataclasses.replace(fold, validation=rows)

    chosen = experiment(protocol=Wrong(), backbone=SMALL_NETWORK)
    found = f"validation and {part} share a trial"
    with pytest.raises(ConfigurationError, match=found):
        plan(data, chosen)
    with pytest.raises(AssertionError, match=f"1 trial of validation in the {part}"):
        check(Wrong)


def test_a_single_class_cannot_choose(data):
    labels = np.where(data.inputs.windows["subject"] == 3, 0, data.labels)
    chosen = experiment(protocol=Given(validation=(3,)), backbone=SMALL_NETWORK)
    with pytest.raises(DataError, match="the validation part holds a single class"):
        plan(dataclasses.replace(data, labels=labels), chosen)


# -------------------------------------------------- a source that cannot be divided

HOLDS = {"backbone": "concatenation-mlp", "validator": "source", "device": "cpu"}


@pytest.fixture(scope="module")
def lone(data):
    """Of two people one has a single trial of a class, and two or more of others."""
    windows = data.inputs.windows
    kept = windows["subject"].isin([1, 2]).to_numpy()
    (_, *others) = np.unique(
        windows["trial"].to_numpy()[
            (windows["subject"] == 1).to_numpy() & (data.labels == 0)
        ]
    )
    assert len(others)
    gone = (windows["subject"] == 1) & windows["trial"].isin(others)
    return data.take(np.flatnonzero(kept & ~gone.to_numpy()))


def test_a_source_that_cannot_be_divided_is_refused_before_training(lone, tmp_path):
    told = rf"fold 'subject 2': .* a single trial of class '{lone.classes[0]}'.*"
    told += r"--validator last.*protocol\.unfit=skip"
    with pytest.raises(DataError, match=told):
        de.run(lone, **HOLDS, epochs=1, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    chosen = {**HOLDS, "validator": "last"}
    plan(lone, experiment(**chosen))  # which holds nothing out
    with pytest.raises(DataError, match="fold 'subject 2': the source is of one"):
        plan(lone, experiment(**chosen, options={"training.temperature": "held-out"}))


def test_such_folds_are_skipped_where_the_protocol_skips(lone, tmp_path):
    skip = {"protocol.unfit": "skip"}
    found = de.run(lone, **HOLDS, epochs=1, options=skip, output=tmp_path / "run")
    assert set(found.table["fold"]) == {"subject 1"}
    assert "subject 2" in found.how() or "1 fold" in found.how()
    planned = plan(lone, experiment(**HOLDS, options=skip))
    assert "single trial of class" in planned.skipped["subject 2"]
    with pytest.raises(DataError, match=r"a single trial of class .* longer source\.$"):
        plan(lone, experiment(**HOLDS, options=skip, folds=["subject 2"]))


def test_a_share_of_labels_leaves_trials_by_the_seed(data):
    """Half of two trials is one: then none of them can be held out."""
    two = data.take(np.flatnonzero(data.inputs.windows["subject"].isin([1, 2])))
    plan(two, experiment(**HOLDS))
    with pytest.raises(DataError, match=r"fold 'subject 1': .*; fold 'subject 2': "):
        plan(two, experiment(**HOLDS, options={"training.label_share": 0.5}))


def one_of(data, subject):
    return data.take(np.flatnonzero(data.inputs.windows["subject"] == subject))


def benchmarked(data, folder):
    described = {
        "datasets": ["simulated"],
        "protocols": ["cross-subject"],
        "backbones": ["concatenation-mlp"],
        "adapters": ["none"],
        "validator": "source",
        "options": {"data.subjects": 2, "data.sessions": 1, "data.trials": 3},
    }
    table = de.benchmark(described, output=folder)
    assert table["balanced_accuracy"].isna().all()
    raise DataError(table["why"].iloc[0])


@pytest.mark.parametrize(
    "call",
    [
        lambda data, folder: de.train(one_of(data, 1), **HOLDS, output=folder),
        lambda data, folder: de.adapt(
            one_of(data, 1), one_of(data, 2).inputs, **HOLDS, output=folder
        ),
        lambda data, folder: de.adapt(
            one_of(data, 1),
            one_of(data, 2),
            **HOLDS,
            protocol="cross-dataset",
            output=folder,
        ),
        lambda data, folder: de.tune(
            data, **HOLDS, adapter="marginal", select="per-fold", output=folder
        ),
        benchmarked,
    ],
    ids=["train", "newcomers", "cross-dataset", "tune", "benchmark"],
)
def test_whatever_trains_refuses_it_before(lone, call, tmp_path):
    with pytest.raises(DataError, match=r"fold '.*': the source is .* a single trial"):
        call(lone, tmp_path / "made")
    assert not [*tmp_path.rglob("record.json"), *tmp_path.rglob("*.partial")]
