"""Labels of the target that are given on purpose: they train, no other does."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from killing import undrawn

import domainemo as de
from domainemo.adapters.none import SourceOnly
from domainemo.cli.studies import show_study_plan
from domainemo.core import Fold, Protocol, Validator
from domainemo.errors import ConfigurationError, DataError
from domainemo.files import write_recorded
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.reports.run import write_run_report
from domainemo.reports.study import study_sections
from domainemo.runs import job as jobs
from domainemo.runs.checks import canonical
from domainemo.runs.experiment import experiment
from domainemo.runs.plan import plan
from domainemo.runs.target import plan_target
from domainemo.studies.findings import load_findings
from domainemo.studies.plan import plan_study
from domainemo.studies.settings import StudySettings
from domainemo.studies.space import search_space
from domainemo.studies.study import Effort, run_study
from domainemo.testing import FirstFold, check, with_random_target_labels
from domainemo.training.settings import Training

torch.set_num_threads(1)
TINY = {"backbone.width": 8, "backbone.heads": 2}


class Calibrated(Protocol):
    """Across subjects, with the first trials of the target for calibration."""

    domain = "subject"

    def __init__(self, *, trials: int = 3, held_out: float = 0.0):
        self.trials, self.held_out = trials, held_out

    def split(self, windows):
        for fold in CrossSubject(held_out=self.held_out).split(windows):
            trial = windows["trial"].to_numpy()
            first = trial[fold.target] <= np.unique(trial)[self.trials - 1]
            given, target = fold.target[first], fold.target[~first]
            test = fold.test if self.held_out else target
            yield Fold(fold.name, fold.source, target, test, given)


@pytest.fixture(scope="module")
def data():
    made = de.Simulated(subjects=3, sessions=1, trials=9, windows=(3, 5)).load()
    return made.take(canonical(made.inputs))


def run(data, output, **choices):
    chosen = {
        "adapter": "marginal",
        "options": TINY,
        "baselines": False,
        "protocol": FirstFold(Calibrated()),
        "training": Training(epochs=2, batch_size=8),
    }
    return de.run(data, output=output, device="cpu", **(chosen | choices))


def first(data, protocol=None):
    return next(iter((protocol or Calibrated()).split(data.inputs.windows)))


def with_noise(data, rows):
    """Give trials other labels than they had."""
    labels = data.labels.copy()
    labels[rows] = (labels[rows] + 1) % len(data.classes)
    return dataclasses.replace(data, labels=labels)


def left(output):
    found = {}
    for path in sorted(output.glob("folds/**/*.*")):
        if path.name in ("model.safetensors", "history.csv", "model.json"):
            found[path.relative_to(output).as_posix()] = path.read_bytes()
        if path.name == "predictions.npz":
            with np.load(path) as file:
                content = {key: file[key].tobytes() for key in file}
            found[path.relative_to(output).as_posix()] = content
    assert found
    return found


# --------------------------------------------------------------------- the firewall


@pytest.mark.parametrize("held_out", [0.0, 0.3])
@pytest.mark.parametrize("validator", ["last", "source-and-information"])
def test_calibration_alone_passes_the_firewall(data, tmp_path, held_out, validator):
    protocol = Calibrated(trials=2, held_out=held_out)
    choices = {"protocol": FirstFold(protocol), "validator": validator}
    fold = first(data, protocol)
    noisy = with_random_target_labels(data, protocol)
    given = fold.calibration
    np.testing.assert_array_equal(noisy.labels[given], data.labels[given])
    assert (noisy.labels[fold.test] != data.labels[fold.test]).any()
    others = with_noise(data, given)
    for name, each in (("true", data), ("noise", noisy), ("given", others)):
        run(each, tmp_path / name, **choices)
    true, noise, changed = (left(tmp_path / n) for n in ("true", "noise", "given"))
    assert true == noise
    weights = [name for name in true if name.endswith("model.safetensors")]
    assert len(weights) == 1
    assert true[weights[0]] != changed[weights[0]]


@pytest.mark.parametrize("use", ["selection", "both"])
@pytest.mark.parametrize("validator", ["source", "guarded"])
def test_what_is_given_to_selection_alone_trains_nothing(
    data, tmp_path, use, validator
):
    """Noise in every other label of the target changes no bit."""
    protocol = Calibrated(trials=3)
    choices = {"protocol": FirstFold(protocol), "validator": validator}
    choices |= {"calibration_use": use, "adapter": "none"}
    choices["training"] = Training(epochs=4, batch_size=8, learning_rate=0.01)
    noisy = with_random_target_labels(data, protocol)
    others = with_noise(data, first(data, protocol).calibration)
    for name, each in (("true", data), ("noise", noisy), ("given", others)):
        run(each, tmp_path / name, **choices)
    assert left(tmp_path / "true") == left(tmp_path / "noise")
    true, given = (
        pd.read_csv(next((tmp_path / name).rglob("history.csv")))
        for name in ("true", "given")
    )
    # The score is of the labels that are given, and nothing else need be.
    assert (true["held_out"] != given["held_out"]).any()
    losses = [name for name in true if name not in ("held_out", "score")]
    assert true[losses].equals(given[losses]) == (use == "selection")


def test_the_score_is_the_accuracy_on_what_is_given(data, tmp_path):
    options = {"calibration_use": "selection", "validator": "source"}
    results = run(data, tmp_path, baselines=True, controls="none", **options)
    (path,) = tmp_path.rglob("marginal/record.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    place = ["subject", "session", "trial"]
    given = data.inputs.windows.iloc[first(data).calibration][place].drop_duplicates()
    assert record["calibration"] == given.astype(str).to_numpy().tolist()
    # Nobody of the source is held out: all of it trains, as without a validator.
    plain = run(data, tmp_path / "plain", validator="last", baselines=False)
    assert record["score"] == record["held_out"]
    table = results.table
    assert table["target_seen"].str.contains("labels given for selection").all()
    assert table["calibration"].str.endswith("(to choose by, not to train on)").all()
    assert not plain.table["target_seen"].str.contains("selection").any()
    assert "calibration_use" not in plain.description
    assert results.description["calibration_use"] == "selection"
    tested = results.predictions.merge(given.astype(results.predictions[place].dtypes))
    assert tested.empty


@pytest.mark.parametrize(
    ("choices", "match"),
    [
        ({"validator": "last"}, "'last' looks at no labelled sample"),
        ({"validator": "oracle"}, "looks at no labelled sample"),
        ({"validator": "bnm"}, "'bnm' looks at no labelled sample"),
        ({"training": Training(temperature="held-out")}, "Leave either out"),
        (
            {
                "adapter": "confidence+uf-ama",
                "options": {"adapter.confidence.temperature": "held-out"},
            },
            "has a screen with an option",
        ),
        ({"protocol": "cross-subject"}, "no label of the target is given"),
        ({"calibration_use": "testing"}, "calibration_use"),
    ],
)
def test_labels_for_a_selection_that_cannot_use_them_are_refused(data, choices, match):
    given = {"calibration_use": "selection", "validator": "source"} | choices
    with pytest.raises(ConfigurationError, match=match):
        run(data, None, **given)


@pytest.mark.parametrize(
    "name", ["training.temperature", "adapter.confidence.temperature"]
)
def test_a_study_draws_nothing_that_would_learn_of_labels_to_choose_by(
    data, tmp_path, name
):
    with pytest.raises(ConfigurationError, match="Leave either out"):
        de.tune(
            data,
            output=tmp_path / "study",
            protocol="cross-subject",
            adapter="confidence+uf-ama",
            backbone="concatenation-mlp",
            calibration=1,
            calibration_use="selection",
            validator="source",
            space={name: {"choices": ["none", "held-out"]}},
            candidates=2,
            final=False,
            device="cpu",
        )


@pytest.mark.parametrize("use", ["selection", "both"])
def test_given_labels_can_choose_under_any_protocol(tmp_path, use):
    made = de.Simulated(subjects=3, sessions=1, trials=9, windows=(3, 4)).load()
    results = run(
        made,
        tmp_path,
        protocol="cross-subject",
        calibration=1,
        calibration_use=use,
        validator="source",
    )
    assert results.table["calibration"].str.startswith("3 trials (1 of each").all()
    assert "to choose by" in results.how()


def test_logistic_regression_and_controls_are_given_them_too(data, tmp_path):
    fold = first(data)
    for name, each in (("true", data), ("given", with_noise(data, fold.calibration))):
        run(each, tmp_path / name, baselines=True, adapter="none")
    one, other = (left(tmp_path / name) for name in ("true", "given"))
    linear = [name for name in one if "logistic" in name]
    assert linear and all(one[name] != other[name] for name in linear)


def test_a_job_holds_these_labels_and_no_others(data, tmp_path, monkeypatch):
    received = []

    def record(inputs, experiment, job, report=None):
        received.append((inputs, experiment, job))
        return run_job(inputs, experiment, job, report)

    run_job = jobs.run_job
    monkeypatch.setattr(jobs, "run_job", record)
    generator = np.random.default_rng(0)
    trials = data.inputs.windows.groupby(["subject", "trial"]).ngroup().to_numpy()
    drawn = generator.permutation(np.arange(trials.max() + 1) % len(data.classes))
    data = dataclasses.replace(data, labels=drawn[trials])
    run(data, tmp_path / "run")
    fold = first(data)
    ((*_, job),) = received
    known = np.append(fold.source, fold.calibration)
    np.testing.assert_array_equal(job.labelled, known)
    np.testing.assert_array_equal(job.source_labels, data.labels[known])
    sent = pickle.dumps(received)
    assert data.labels[known].tobytes() in sent
    for kind in (np.int64, np.int32, np.int8):
        assert data.labels[fold.test].astype(kind).tobytes() not in sent


# ------------------------------------------------------------------------- training


class Notes(SourceOnly):
    """Writes down which domains train, and how many it was told there are."""

    def __init__(self, *, path=""):
        super().__init__()
        self.path = path

    def prepare(self, dims, classes, domains):
        self.domains = domains

    def forward(self, source, target):
        with open(self.path, "a") as file:
            found = [self.domains, *source.domains.unique().tolist()]
            file.write(json.dumps(found) + "\n")
        return {}


def test_calibration_is_a_domain_of_its_own_after_the_sources(data, tmp_path):
    path = tmp_path / "domains"
    training = Training(epochs=1, batch_size=1000)
    run(data, tmp_path / "run", adapter=Notes(path=str(path)), training=training)
    assert json.loads(path.read_text()) == [3, 0, 1, 2]
    path.unlink()
    plain = FirstFold(CrossSubject())
    notes = Notes(path=str(path))
    run(data, tmp_path / "plain", adapter=notes, training=training, protocol=plain)
    assert json.loads(path.read_text()) == [2, 0, 1]


class Sees(Validator):
    """Writes down what it is handed."""

    held_out, needs_training = True, True

    def __init__(self, *, path=""):
        self.path = path

    def __call__(self, training, held_out, target):
        found = [training.domains.tolist(), held_out.domains.tolist()]
        found += [len(each.labels) for each in (training, held_out)]
        with open(self.path, "a") as file:
            file.write(json.dumps(found) + "\n")
        return target.progress


def test_calibration_is_never_held_out(data, tmp_path):
    path = tmp_path / "seen"
    run(data, tmp_path / "run", validator=Sees(path=str(path)))
    fold = first(data)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 3  # after each epoch, and when training is over
    for trained, held, counted, held_count in lines:
        # One of two source subjects trains, then calibration; the other is held out.
        assert sorted(set(trained)) == [0, 1]
        assert len(set(held)) == 1 and min(held) > 1
        assert counted == len(trained) and held_count == len(held)
        trials = data.inputs.windows.iloc[fold.calibration]["trial"].nunique()
        assert trials <= trained.count(1) <= len(fold.calibration)


# -------------------------------------------------------------------------- results


def test_every_result_counts_the_labels(data, tmp_path, monkeypatch):
    output = tmp_path / "run"
    results = run(data, output, protocol=Calibrated(), baselines=True)
    windows = data.inputs.windows
    assert set(results.table["method"]) > {"marginal", "majority class"}
    for fold in Calibrated().split(windows):
        words = results.table.loc[results.table["fold"] == fold.name, "calibration"]
        first = windows.iloc[fold.calibration].drop_duplicates("trial").index
        counted = np.bincount(data.labels[first], minlength=3)
        told = zip(counted, data.classes, strict=True)
        each = ", ".join(f"{number} {name}" for number, name in told if number)
        if len(set(counted)) == 1:
            each = "1 of each class"
        assert set(words) == {f"3 trials ({each}), {len(fold.calibration)} windows"}
    assert results.table["target_seen"].str.contains("labels given for calib").all()
    assert "labels of the target given for calibration: 3 trials (" in results.how()
    assert results.how() in (output / "how.txt").read_text(encoding="utf-8")
    table = pd.read_csv(output / "results.csv")
    assert table["calibration"].equals(results.table["calibration"])
    tested = results.predictions[results.predictions["method"] == "marginal"]
    assert tested["trial"].min() > np.unique(windows["trial"])[2]
    monkeypatch.setattr("domainemo.reports.page.render", undrawn)
    write_run_report(output)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "labels given of the target" in page


class Several(Protocol):
    """Inductive folds first, then others that are given labels."""

    domain = "subject"

    def split(self, windows):
        kinds = CrossSubject(held_out=0.5), Calibrated(), Calibrated()
        for fold, *others in zip(*(each.split(windows) for each in kinds), strict=True):
            yield fold if fold.name == "subject 1" else others[0]


def test_every_kind_of_fold_is_told_of(data, tmp_path):
    """What the first fold had said was said of all."""
    results = run(data, tmp_path / "run", protocol=Several())
    seen = "target's windows seen in training and normalisation, unlabelled"
    given = f"{seen}; some of its labels given for calibration"
    told = f"3 folds, 1 fold inductive ({seen}), 2 folds transductive ({given}); "
    assert told in results.how()
    write_run_report(tmp_path / "run", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 fold inductive" in page  # the paragraph for a paper
    assert "inductive; or transductive" in page  # the table of how


def test_results_without_calibration_do_not_mention_it(data, tmp_path):
    results = run(data, tmp_path / "run", protocol=FirstFold(CrossSubject()))
    assert "calibration" not in results.table
    assert "calibration" not in results.how()
    fold = first(data, CrossSubject())
    assert len(fold.calibration) == 0 and "calibration" not in repr(fold)
    assert f"calibration: {len(first(data).calibration)}" in repr(first(data))


SAID = {
    "per-fold": (
        "Each of 3 folds chooses for itself, without its target's labels{}.",
        "sees no target label{}, on each of 3 folds",
        "by its source's labels and its target's signals without labels{}; no other",
        "nor chose anything{}: 3 subjects",
        "itself, without a label of its target{}.",
    ),
    "global-source": (
        "2 subjects choose and are not tested",
        "sees no target label{}, averaged over 2 folds",
        "each in turn playing the target, without its labels{}",
    ),
}


@pytest.mark.parametrize("select", SAID)
@pytest.mark.parametrize("given", [True, False])
def test_a_study_says_whether_labels_were_given(data, tmp_path, capsys, select, given):
    protocol = Calibrated() if given else CrossSubject()
    chosen = experiment(
        protocol=protocol,
        backbone="concatenation-mlp",
        adapter="marginal",
        validator="information-maximisation",
        options={"adapter.distance": "coral"},
        training=Training(epochs=2, batch_size=16),
        device="cpu",
    )
    settings = StudySettings(
        candidates=1, select=select, development=2, final_seeds=(1,)
    )
    planned = plan_study(data, search_space(chosen, ["adapter"], {}, {}), settings)
    show_study_plan(planned, tmp_path)
    final = select == "per-fold"
    places = {"recordings": data.inputs.name}
    effort = Effort(final=final, storage="journal")  # the quickest
    found = run_study(planned, tmp_path / "s", places, "s", effort)
    with pd.option_context("display.max_colwidth", None):
        page = f"{study_sections(found)} {capsys.readouterr().out}"
    page = " ".join(page.replace("\\'", "'").split())
    but = ", but for those given for calibration" if given else ""
    for sentence in SAID[select]:
        assert sentence.format(but) in page
    assert given or "given for calibration" not in page
    path = tmp_path / "s" / "study.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    assert found.calibrated == given == facts.pop("calibration", False)
    # Where an earlier version noted nothing, the table of the final runs tells.
    write_recorded(path, json.dumps(facts))
    assert load_findings(tmp_path / "s").calibrated == (given and final)


# -------------------------------------------------------------------------- refused


def test_the_shipped_checks():
    check(Calibrated, options={"trials": 1})


class Wrong(Calibrated):
    """Gives windows for calibration that have another part."""

    def __init__(self, *, part: str = "test", whole: bool = True):
        super().__init__()
        self.part, self.whole = part, whole

    def split(self, windows):
        for fold in super().split(windows):
            rows = fold.parts[self.part][:1]
            given = np.append(fold.calibration, rows)
            target, test = fold.target, fold.test
            if not self.whole:  # the window itself has left the part, its trial not
                target, test = target[1:], test[1:]
            yield dataclasses.replace(fold, target=target, test=test, calibration=given)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"part": "test"}, "calibration and target share a trial"),
        ({"part": "source"}, "calibration and source share a trial"),
        ({"part": "test", "whole": False}, "calibration and target share a trial"),
        (
            {"part": "calibration"},
            "its calibration rows are empty, repeated or outside",
        ),
    ],
)
def test_labels_of_what_has_another_part_are_refused(data, options, found):
    chosen = de.runs.experiment.experiment(protocol=Wrong(**options), options=TINY)
    with pytest.raises(ConfigurationError, match=found):
        plan(data, chosen)


def test_a_trial_that_is_tested_is_refused(data):
    class Tested(Calibrated):
        def split(self, windows):
            for fold in CrossSubject(held_out=0.3).split(windows):
                given, test = fold.test[:1], fold.test[1:]
                yield Fold(fold.name, fold.source, fold.target, test, given)

    chosen = de.runs.experiment.experiment(protocol=Tested(), options=TINY)
    with pytest.raises(ConfigurationError, match="calibration and test share a trial"):
        plan(data, chosen)
    with pytest.raises(AssertionError, match="1 trial of calibration in the test"):
        check(Tested)


class Rewrites(Calibrated):
    """Makes every window a trial of its own, and gives half of each trial."""

    def split(self, windows):
        for fold in CrossSubject().split(windows):
            given, test = fold.target[::2], fold.target[1::2]
            windows["trial"] = np.arange(len(windows))
            yield Fold(fold.name, fold.source, test, test, given)


class Others(Calibrated):
    """Gives the labels of somebody else."""

    def split(self, windows):
        for fold in CrossSubject().split(windows):
            who = windows["subject"].to_numpy()[fold.source]
            given = fold.source[who == who[0]]
            yield Fold(
                fold.name, fold.source[who != who[0]], fold.target, fold.test, given
            )


@pytest.mark.parametrize(
    ("protocol", "found"), [(Rewrites, "share a trial"), (Others, "neither in the")]
)
def test_a_protocol_cannot_get_around_it(data, tmp_path, protocol, found):
    with pytest.raises(ConfigurationError, match=found):
        run(data, tmp_path / "run", protocol=FirstFold(protocol()))


def test_people_given_apart_are_left_out_where_they_are(data):
    """There --exclude leaves out people of the source."""
    other = de.Simulated(subjects=2, sessions=1, trials=3, seed=5).load()
    advice = {
        "cross-subject": r"leave the subject out \(--exclude\), or",
        "cross-dataset": "leave the person out of the target, or",
    }
    for protocol, told in advice.items():
        chosen = experiment(protocol=protocol, backbone="uf-ama", calibration=99)
        with pytest.raises(DataError, match=told):
            if protocol == "cross-subject":
                plan(data, chosen)
            else:
                plan_target(data, other, chosen)
