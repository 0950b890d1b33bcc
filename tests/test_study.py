"""A study: who chooses, what is chosen, and that nothing is lost or leaks."""

import itertools
import json
import multiprocessing
import os
import pickle
import random
import signal
import threading
import warnings
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState, create_trial
from postgres import postgres_server

import domainemo
from domainemo import files
from domainemo.core import EmotionData
from domainemo.data.simulator import Simulated
from domainemo.errors import (
    ConfigurationError,
    DomainemoError,
    DomainemoWarning,
    RunError,
)
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import find, load_plugin
from domainemo.reports.study import write_study_report
from domainemo.reports.study_words import what_is_open, what_was_chosen
from domainemo.runs import job as jobs
from domainemo.runs.experiment import experiment
from domainemo.runs.plan import plan
from domainemo.runs.results import Results
from domainemo.studies import search as searching
from domainemo.studies import trying
from domainemo.studies.candidate import Score, _Epochs, candidate_folder, values_of
from domainemo.studies.choice import best_candidate, judged
from domainemo.studies.final import _balanced_accuracy
from domainemo.studies.findings import load_findings
from domainemo.studies.plan import plan_study
from domainemo.studies.pruning import make_pruner
from domainemo.studies.sampling import RETRY_OF, Repeatable
from domainemo.studies.settings import StudySettings
from domainemo.studies.space import search_space
from domainemo.studies.trying import _Pruning
from domainemo.training import population
from domainemo.training.settings import Training

OPTIONS = {"backbone.width": 4, "backbone.hidden": [4], "backbone.fusion_width": 4}
RANGE = {"adapter.weight": {"low": 0.01, "high": 10.0, "log": True}}


@pytest.fixture(scope="module")
def data():
    return Simulated(subjects=5, sessions=1, trials=3, windows=(3, 5)).load()


def tune(data, output, **choices):
    defaults = {
        "backbone": "concatenation-mlp",
        "adapter": "marginal",
        "options": OPTIONS,
        "training": Training(epochs=1, batch_size=16),
        "candidates": 5,
        "sampler": "random",
        "pruner": "none",
        "device": "cpu",
        "final": False,
        "development": 3,
        "storage": "journal",  # opens and answers faster than SQLite, the default
    }
    return domainemo.tune(data, output=output, **defaults | choices)


@pytest.fixture
def fast(monkeypatch):
    """Draw every picture of a report, and write none."""

    def drawn(draw, *endings):
        draw()
        return (b'<svg viewBox="0 0 9 9" xmlns="http://www.w3.org/2000/svg"/>',) * len(
            endings
        )

    monkeypatch.setattr("domainemo.reports.page.render", drawn)


def planned(data, choices=None, **settings):
    made = experiment(
        backbone="concatenation-mlp",
        adapter="marginal",
        validator="information-maximisation",  # holds nothing out, of however few
        options=OPTIONS,
        **(choices or {}),
    )
    space = search_space(made, ("adapter",), {}, OPTIONS)
    return plan_study(data, space, StudySettings(**settings))


def relabelled(data, subjects):
    """Return the same recordings with noise for the labels of some subjects."""
    theirs = data.inputs.windows["subject"].astype(str).isin(subjects).to_numpy()
    trials = data.inputs.windows.groupby(["subject", "session", "trial"]).ngroup()
    noise = np.random.default_rng(5).integers(0, len(data.classes), len(data.labels))
    noise = noise[trials.to_numpy()]  # one label a trial
    return EmotionData(data.inputs, np.where(theirs, noise, data.labels), data.classes)


def outcome(findings):
    """What a study tried and chose, without times and processes."""
    table = findings.candidates.drop(columns=["seconds", "began", "worker"])
    scores = findings.scores.drop(columns=["seconds", "true_accuracy"])
    return table, scores, [replace(each, command="") for each in findings.choices]


def assert_same(first, second):
    for one, other in zip(outcome(first)[:2], outcome(second)[:2], strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert outcome(first)[2] == outcome(second)[2]


# --------------------------------------------------------------------- who chooses


def test_those_who_choose_are_not_tested(data):
    found = planned(data, development=3)
    chosen = set(found.settings.development)
    assert len(chosen) == 3
    assert {fold.name for fold in found.tested.folds} == {
        f"subject {name}" for name in set("12345") - chosen
    }
    theirs = found.choosing[""].inputs.windows["subject"].astype(str)
    assert set(theirs) == chosen
    named = planned(data, development=("2", "5"))
    assert named.settings.development == ("2", "5")
    drawn = {planned(data, seed=seed).settings.development for seed in range(12)}
    assert len(drawn) > 4


@pytest.mark.parametrize("people", [3, 5, 8])
def test_unless_told_otherwise_half_of_the_people_choose_and_two_at_least(people):
    few = Simulated(subjects=people, sessions=1, trials=3, windows=(1, 1)).load()
    chosen = planned(few).settings.development
    assert len(chosen) == max(people // 2, 2)


def test_a_fold_that_tests_one_of_those_who_choose_is_not_tested():
    """Of groups of two, none is tested of whom either chooses."""
    people = Simulated(subjects=9, sessions=1, trials=3, windows=(1, 1)).load()
    chosen = {"2", "5", "8"}
    protocol = {"protocol": CrossSubject(leave_out=2)}
    found = planned(people, protocol, development=tuple(chosen))
    everybody = plan(people, found.experiment)

    def tested(planned):
        who = planned.windows["subject"].astype(str)
        return [set(who.iloc[fold.test]) for fold in planned.folds]

    assert any(each & chosen and each - chosen for each in tested(everybody))
    left = [each for each in tested(everybody) if not each & chosen]
    assert left and tested(found.tested) == left


def test_what_a_process_is_handed_holds_no_label_of_the_tested(data):
    found = planned(data, development=2)
    secret = relabelled(data, set("12345") - set(found.settings.development))
    again = plan_study(secret, found.space, found.settings)
    assert pickle.dumps(found.jobs("")) == pickle.dumps(again.jobs(""))


def test_a_fold_that_chooses_for_itself_sees_its_source_only(data):
    found = planned(data, select="per-fold")
    assert set(found.choosing) == {f"subject {name}" for name in "12345"}
    for name, alone in found.choosing.items():
        secret = relabelled(data, {name.removeprefix("subject ")})
        again = plan_study(secret, found.space, found.settings)
        assert pickle.dumps(found.jobs(name)) == pickle.dumps(again.jobs(name))
        assert [fold.name for fold in alone.folds] == [name]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"development": 5}, "at least one more to be tested"),
        ({"development": 1}, "at least 2 subjects"),
        ({"development": ("1", "9")}, "names 9"),
        ({"development": ("1", "2", "3", "4", "5")}, "none is left"),
        ({"sampler": "grid"}, "study.sampler is 'grid'"),
        ({"objectives": ("seconds",)}, "expected validator, then"),
        ({"candidates": 0}, "at least 1"),
    ],
)
def test_impossible_studies_are_explained(data, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        planned(data, **settings)


def test_a_validator_that_compares_nothing_is_refused(data, tmp_path):
    for name in ("last", "oracle"):
        with pytest.raises(ConfigurationError, match=f"found '{name}'"):
            tune(data, tmp_path / name, validator=name)


def test_settings_are_read_and_misspelt_ones_told():
    assert StudySettings.of({"development": [1, 2]}).development == ("1", "2")
    assert StudySettings.of({"search": ["adapter"]}).search == ("adapter",)
    with pytest.raises(ConfigurationError, match="Did you mean 'sampler'"):
        StudySettings.of({"samplr": "tpe"})
    with pytest.raises(ConfigurationError, match="expected int"):
        StudySettings.of({"candidates": "many"})
    with pytest.raises(ConfigurationError, match=r"final_seeds.*all different"):
        StudySettings.of({"final_seeds": [0, 0]})


# ------------------------------------------------------------------- what is chosen


def score(value, predicted=(0, 1), source=0.9, fold="a"):
    return {
        "fold": fold,
        "seed": 0,
        "epoch": 1,
        "score": value,
        "source_accuracy": source,
        "predicted": list(predicted),
        "parameters": 7,
        "seconds": 2.0,
    }


def study_of(*candidates, alone=None):
    study = optuna.create_study(direction="maximize")
    for value, scores in candidates:
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        study.add_trial(
            create_trial(state=state, value=value, user_attrs={"scores": scores})
        )
    if alone is not None:
        study.set_user_attr("source_only", [score(alone)])
    return study


def test_final_runs_have_seeds_that_candidates_were_not_chosen_by(data, tmp_path):
    with pytest.raises(ConfigurationError, match=r"final_seeds has 0, by which"):
        tune(data, tmp_path, final=True, final_seeds=(1, 0))


def test_a_refused_storage_leaves_a_study_as_it_is(data, tmp_path):
    tune(data, tmp_path, candidates=1, storage="sqlite")
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    for other in ("journal", "postgresql+psycopg://me@127.0.0.1:1/x"):
        with pytest.raises(ConfigurationError, match="candidates of this study are in"):
            tune(data, tmp_path, candidates=1, storage=other)
    after = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert after == before
    tune(data, tmp_path, candidates=2, storage="sqlite")


def test_who_chooses_is_refused_where_each_fold_does(data, tmp_path):
    with pytest.raises(ConfigurationError, match="each fold chooses for itself"):
        tune(data, tmp_path, select="per-fold", development=("1", "99"))


def test_the_labels_of_all_candidates_are_the_same(data, tmp_path):
    with pytest.raises(ConfigurationError, match=r"all candidates .* same labels"):
        tune(data, tmp_path, space={"training.label_share": [0.1, 1.0]})


def test_a_file_of_candidates_elsewhere_is_of_one_study_at_a_time(data, tmp_path):
    file = tmp_path / "shared.db"
    chosen = {"storage": f"sqlite:///{file}", "candidates": 1}
    with files.lock(tmp_path / "shared.db.lock", wait=False) as held:
        assert held
        with pytest.raises(ConfigurationError, match=r"shared\.db: another study is"):
            tune(data, tmp_path / "study", **chosen)
    tune(data, tmp_path / "study", **chosen)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_killed_study_shared_with_its_workers_is_gone(data, tmp_path, workers):
    tune(data, tmp_path, candidates=1)
    stale = tmp_path / ".work-0123"
    stale.mkdir()
    (stale / "0.npy").write_bytes(b"signals")
    tune(data, tmp_path, candidates=2, jobs=workers)
    assert not list(tmp_path.glob(".work-*"))


def test_the_highest_sound_candidate_is_chosen():
    low, high = (0.5, [score(0.5)]), (0.8, [score(0.8)])
    assert best_candidate(study_of(low, high, low), 2)[:2] == (1, 0.8)
    assert best_candidate(study_of(high, high), 2)[:2] == (0, 0.8)
    assert best_candidate(study_of((None, [score(2.0)]), low), 2)[:2] == (1, 0.5)
    # Confident, but of one class only; or no better than chance on the source.
    collapsed = (1.4, [score(1.4, predicted=[0])])
    fooled = (1.2, [score(1.2, source=0.5)])
    assert best_candidate(study_of(collapsed, low, fooled), 2)[:2] == (1, 0.5)
    divided = (1.4, [score(1.4, [0]), score(1.4, [1])])
    assert best_candidate(study_of(divided, low), 2)[:2] == (0, 1.4)


def test_candidates_are_compared_fold_by_fold_where_the_validator_compares():
    ranks = find("validator", "rank-average")()

    def candidate(*pairs):
        scores = [
            score(float(np.mean(pair)), fold=str(number)) | {"evidence": list(pair)}
            for number, pair in enumerate(pairs)
        ]
        return float(np.mean([each["score"] for each in scores])), scores

    # The first is far ahead by one score in one fold, and behind in all else.
    far = candidate((0.5, 9.0), (0.5, 0.1))
    steady = candidate((0.6, 0.4), (0.6, 0.2))
    study = study_of(far, steady, far)
    assert best_candidate(study, 2)[:2] == (0, far[0])
    assert best_candidate(study, 2, ranks)[:2] == (1, steady[0])
    # Source only is compared with them.
    study.set_user_attr("source_only", candidate((0.7, 0.5), (0.7, 0.3))[1])
    assert best_candidate(study, 2, ranks)[0] == -1
    # By the mean over folds: best in one and worst in the other is the middle.
    uneven = study_of(candidate((0.9, 0.9), (0.1, 0.1)), steady)
    assert judged(uneven, 2, ranks) == pytest.approx({0: 0.75, 1: 0.75})
    assert judged(study_of(far, steady), 2, ranks) == {0: 0.625, 1: 0.875}
    assert best_candidate(study_of(far, far), 2, ranks)[:2] == (0, far[0])


def test_a_study_keeps_by_what_its_candidates_were_compared(data, tmp_path):
    choices = {"validator": "guarded", "candidates": 2}
    found = tune(data, tmp_path, **choices)
    (study,) = found.studies.values()
    rows = [each for t in study.get_trials() for each in t.user_attrs["scores"]]
    rows += study.user_attrs["source_only"]
    # Whether it is sound, and three scores.
    assert {len(each["evidence"]) for each in rows} == {4}
    (choice,) = found.choices
    classes = len(data.classes)
    ranks = find("validator", "guarded")()
    assert best_candidate(study, classes, ranks)[:2] == (choice.candidate, choice.value)
    known = judged(study, classes, ranks)
    assert choice.standing == known
    assert max(known, key=known.get) == choice.candidate
    standing = found.candidates.set_index("candidate")["standing"].dropna().to_dict()
    assert standing == {n: each for n, each in known.items() if n >= 0}
    assert "evidence" not in found.scores
    assert "comparing all of them with one another" in what_was_chosen(found)


def test_not_to_adapt_is_a_candidate():
    low, high = (0.5, [score(0.5)]), (0.8, [score(0.8)])
    assert best_candidate(study_of(low, high, alone=0.7), 2)[:2] == (1, 0.8)
    assert best_candidate(study_of(low, high, alone=0.8), 2)[:2] == (-1, 0.8)
    # By the mean over folds, as every candidate.
    divided = study_of(low, high)
    divided.set_user_attr("source_only", [score(0.9), score(0.5)])
    assert best_candidate(divided, 2)[:2] == (1, 0.8)
    divided.set_user_attr("source_only", [score(0.7), score(0.95)])
    assert best_candidate(divided, 2)[:2] == (-1, pytest.approx(0.825))
    assert best_candidate(study_of(), 2) is None


def test_nothing_is_chosen_where_no_candidate_was_completed():
    """Though source only was scored: it was compared with nothing."""
    pruned = create_trial(state=TrialState.PRUNED)
    failed = create_trial(state=TrialState.FAIL, user_attrs={"reason": "diverged"})
    for tried, said in (
        ([], "before time was up"),
        ([failed], "All 1 candidates failed"),
        ([failed, pruned], "1 failed, 1 fell behind"),
    ):
        study = study_of(alone=0.9)
        study.add_trials(tried)
        assert best_candidate(study, 2) is None
        with pytest.raises(RunError, match=said) as raised:
            searching._require_success({"": study})
        bullets = str(raised.value).splitlines()[1:]
        assert all(len(bullet) > 3 for bullet in bullets), bullets


def test_progress_tells_the_best_so_far():
    task = SimpleNamespace(settings=StudySettings(candidates=4))
    studies = {"a": study_of((0.5, []), (0.8, []), (0.3, [])), "b": study_of((0.7, []))}
    studies["b"].add_trial(create_trial(state=TrialState.FAIL))
    found = searching._progress(studies, task)
    assert (found.finished, found.total, found.best) == (5, 8, 0.8)
    assert np.isnan(searching._progress({"": study_of()}, task).best)


def test_objectives_are_means_and_sums_over_folds():
    scores = [Score("a", 0, 1, 0.5, 0.6, (0, 1), 7, 2.0)]
    scores.append(Score("b", 0, 1, 0.7, 0.8, (0, 1), 7, 3.0))
    wanted = ("validator", "source_accuracy", "seconds", "parameters")
    assert values_of(scores, wanted) == pytest.approx([0.6, 0.7, 5.0, 7.0])
    none = [replace(scores[0], source_accuracy=None)]
    with pytest.raises(RunError, match="held out"):
        values_of(none, wanted)


# ------------------------------------------------------------------------- repeatable


class Told:
    """In place of Optuna's trial: remembers what it is told, and prunes nothing."""

    def __init__(self):
        self.told = {}

    def report(self, value, step):
        self.told[step] = value

    def should_prune(self):
        return False

    def set_user_attr(self, name, value):
        pass


def ask(study, count):
    """Ask for candidates; return their options by number."""
    distribution = {"x": optuna.distributions.FloatDistribution(0, 1)}
    return [study.ask(distribution) for _ in range(count)]


@pytest.mark.parametrize("sampler", ["random", "tpe", "gaussian-process"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_killed_candidate_changes_nothing_that_follows(sampler):
    settings = StudySettings(sampler=sampler)

    def run(killed):
        study = optuna.create_study(sampler=Repeatable(settings, 1))
        found = []
        for number in range(14):
            (trial,) = ask(study, 1)
            if number in killed:
                study.tell(trial.number, state=TrialState.FAIL)
                frozen = study.get_trials()[trial.number]
                study.enqueue_trial(
                    frozen.params, user_attrs={"retry_of": frozen.number}
                )
                (trial,) = ask(study, 1)
            study.tell(trial, (trial.params["x"] - 0.3) ** 2)
            found.append(trial.params["x"])
        return found

    assert run(killed=()) == run(killed=(0, 3, 12))
    assert len(set(run(()))) > 10


def test_each_seed_draws_its_own():
    settings = StudySettings(sampler="random")
    drawn = [
        ask(optuna.create_study(sampler=Repeatable(replace(settings, seed=seed), 1)), 3)
        for seed in range(4)
    ]
    values = {trial.params["x"] for each in drawn for trial in each}
    assert len(values) == 12


def test_pruners_follow_the_settings():
    def name(**settings):
        return type(make_pruner(StudySettings(**settings), 3, 4)).__name__

    assert name(pruner="median") == "MedianPruner"
    assert name(pruner="hyperband") == "RepeatableHyperband"
    assert name(pruner="none") == "NopPruner"
    several = ("validator", "seconds")
    assert name(pruner="median", objectives=several) == "NopPruner"


@pytest.mark.parametrize(
    ("folds", "epochs", "from_step"), [(12, 10, 30), (1, 10, 5), (1, 1, 1), (3, 4, 3)]
)
def test_the_median_prunes_from_the_sixth_candidate_and_a_quarter_of_its_steps_on(
    folds, epochs, from_step
):
    """The worst of all is told at every step, and pruned from a certain one on."""
    pruner = make_pruner(StudySettings(pruner="median"), folds, epochs)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    steps, pruned = range(1, folds * epochs + 1), []
    for number in range(6):
        trial = study.ask()
        for step in steps:
            trial.report(1.0 - number / 10, step)
            if trial.should_prune():
                pruned.append((number, step))
        study.tell(trial, 1.0 - number / 10)
    assert pruned == [(5, step) for step in steps if step >= from_step]


def test_a_pruner_is_told_the_mean_of_what_is_over_and_the_best_of_what_trains():
    trial = Told()
    scores = [Score("a", 0, 1, 0.9, 0.6, (0, 1), 7, 2.0)]
    watch = _Pruning(trial, StudySettings(pruner="median"), 4, [None] * 3)
    watch.epoch([], [0.5], 1)
    watch.epoch(scores, [0.3], 2)
    watch.epoch(scores, [0.3, 0.6], 2)
    assert trial.told == pytest.approx({1: 0.5, 6: 0.6, 8: 0.6})
    # Fold by fold, each by itself.
    trial = Told()
    watch = _Pruning(trial, StudySettings(pruner="wilcoxon"), 4, [None] * 3)
    watch.epoch(scores, [0.3], 2)
    watch.fold(scores)
    watch.fold([*scores, replace(scores[0], score=0.7)])
    assert trial.told == {0: 0.9, 1: 0.7}


def test_a_program_tells_of_an_epoch_once_all_have_ended_it_by_their_best_so_far():
    told = []
    epochs = _Epochs(lambda best, ended: told.append((ended, best)), 2)
    for member, epoch, each in (
        (0, 1, 0.5),
        (0, 2, 0.3),
        (1, 1, 0.2),
        (1, 1, 0.9),  # told again, as a training went on
        (1, 2, 0.4),
    ):
        epochs.take(member, {"epoch": epoch, "score": each})
    assert told == [(1, [0.5, 0.2]), (2, [0.5, 0.4])]


# ---------------------------------------------------------------------- whole studies


def test_noise_for_target_labels_changes_no_bit_of_a_study(data, tmp_path):
    choices = {"sampler": "tpe", "pruner": "median", "candidates": 8}
    training = Training(epochs=2, batch_size=16)
    first = tune(data, tmp_path / "a", training=training, **choices)
    tested = set("12345") - set(first.description["study"]["development"])
    noise = relabelled(data, tested)
    second = tune(noise, tmp_path / "b", training=training, **choices)
    assert not np.array_equal(noise.labels, data.labels)
    assert_same(first, second)
    assert first.candidates["state"].eq("complete").any()


def test_a_folds_own_labels_change_no_bit_of_its_choice(data, tmp_path):
    choices = {"select": "per-fold", "candidates": 3, "development": 0}
    choices["training"] = Training(epochs=3, batch_size=8, learning_rate=0.03)
    few = data.take(np.flatnonzero(data.inputs.windows["subject"].astype(int) < 4))
    first = tune(few, tmp_path / "a", **choices)
    second = tune(relabelled(few, {"2"}), tmp_path / "b", **choices)
    assert len(first.choices) == 3

    def about(findings, fold):
        table, scores, chosen = outcome(findings)
        return (
            table[table["study"] == fold].reset_index(drop=True),
            scores[scores["study"] == fold].reset_index(drop=True),
            [each for each in chosen if each.fold == fold],
        )

    for one, other in zip(
        about(first, "subject 2"), about(second, "subject 2"), strict=True
    ):
        if isinstance(one, pd.DataFrame):
            pd.testing.assert_frame_equal(one, other, check_exact=True)
        else:
            assert one == other
    # It is the labels that make the others differ: they are source there.
    assert any(
        not about(first, name)[1].equals(about(second, name)[1])
        for name in ("subject 1", "subject 3")
    )


def test_the_choice_is_run_with_fresh_seeds_beside_the_defaults(data, tmp_path):
    found = tune(
        data, tmp_path, final=True, development=("1", "2", "3"), space=RANGE, seeds=(0,)
    )
    assert found.final is not None
    table = found.final.table
    assert set(table["method"]) >= {"tuned", "defaults", "source only"}
    # The first candidate is what the experiment has.
    first = found.candidates.iloc[0]
    assert first["default"] and first["adapter.weight"] == 1.0
    assert not found.candidates["default"].iloc[1:].any()
    # Source only was run once, beside the defaults.
    rows = ["method", "fold", "seed", "subject", "level"]
    assert not table.duplicated(rows).any()
    assert set(table["subject"].astype(str)) == {"4", "5"}
    assert set(table.loc[table["method"] == "tuned", "seed"]) == {1, 2, 3}
    # The very same numbers, from the command that the study gives.
    chosen = found.choices[0]
    config = (tmp_path / "chosen.toml").read_text()
    for name, value in chosen.options.items():
        assert f'"{name}" = ' in config and (
            isinstance(value, str) or repr(value) in config
        )
    # After the fact, each score is joined by the accuracy of the same predictions.
    scores = found.scores
    assert scores["true_accuracy"].between(0, 1).all()
    assert len(scores) == (5 + 1) * 3


def test_an_accuracy_is_the_mean_over_the_people_who_have_one():
    """A person of one class has none; one of many windows counts like the others."""
    answers = {"1": [1, 1, 0, 0, 0, 0], "2": [1, 1, 1], "3": [0, 1]}
    labels = {"1": [1, 1, 0, 0, 1, 1], "2": [0, 0, 0], "3": [0, 1]}
    rows = [
        {"subject": who, "label": label, "p_a": 1.0 - said, "p_b": float(said)}
        for who in answers
        for said, label in zip(answers[who], labels[who], strict=True)
    ]
    # By class two of four and two of two are right; then all.
    assert _balanced_accuracy(pd.DataFrame(rows)) == pytest.approx((0.75 + 1) / 2)
    nobody = [row for row in rows if row["subject"] == "2"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(_balanced_accuracy(pd.DataFrame(nobody)))


def test_a_given_group_that_does_not_choose_is_told_and_can_choose_for_itself(tmp_path):
    data = domainemo.load("simulated", subjects=6, sessions=1, trials=4, classes=2)
    chosen = {
        "backbone": "concatenation-mlp",
        "adapter": "mcc",
        "candidates": 1,
        "epochs": 1,
        "options": {"protocol.test": [1]},
        "device": "cpu",
    }
    with pytest.raises(
        domainemo.DomainemoError, match=r"who choose.*--select per-fold"
    ):
        domainemo.tune(data, output=tmp_path / "all", **chosen)
    assert domainemo.tune(
        data, output=tmp_path / "each", select="per-fold", final=False, **chosen
    )


def test_true_accuracies_are_those_of_the_runs(data, tmp_path):
    """The study's defaults on a fold are `run` on the development subjects."""
    training = Training(epochs=6, batch_size=8, learning_rate=0.1)
    alike = {"validator": "source-and-information", "training": training}
    alike["seeds"] = (0, 2)
    found = tune(
        data, tmp_path / "s", final=True, final_seeds=(1,), candidates=1, **alike
    )
    names = found.description["study"]["development"]
    results = domainemo.run(
        data,
        backbone="concatenation-mlp",
        adapter="marginal",
        options=OPTIONS,
        exclude=[name for name in "12345" if name not in names],
        device="cpu",
        baselines=False,
        output=tmp_path / "run",
        **alike,
    )
    place = ["fold", "seed"]
    whole = results.table[results.table["level"] == results.level].set_index(place)
    mine = found.scores[found.scores["candidate"] == 0].set_index(place)
    expected = whole["balanced_accuracy"].to_dict()
    assert mine["true_accuracy"].to_dict() == pytest.approx(expected)
    assert len(expected) == 6 and mine["true_accuracy"].nunique() > 3
    # What the validator saw stands in the records of these runs.
    for path in (tmp_path / "run").rglob("record.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        row = mine.loc[(facts["fold"], facts["seed"])]
        assert row["score"] == pytest.approx(facts["score"])
        assert row["source_accuracy"] == pytest.approx(facts["held_out"])
        assert row["source_accuracy"] != row["score"]


def test_an_interrupted_study_goes_on_as_if_nothing_had_happened(data, tmp_path):
    choices = {"sampler": "tpe", "pruner": "median", "candidates": 7}
    choices["storage"] = None
    training = Training(epochs=2, batch_size=16)
    whole = tune(data, tmp_path / "whole", training=training, **choices)
    original = trying.train_candidates
    counted = itertools.count()

    def interrupt(inputs, candidates, jobs, processes):
        if next(counted) in (2, 5):
            original(inputs, candidates, jobs[:1], processes)
            raise KeyboardInterrupt
        original(inputs, candidates, jobs, processes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trying, "train_candidates", interrupt)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                tune(data, tmp_path / "cut", training=training, **choices)
        resumed = tune(data, tmp_path / "cut", training=training, **choices)
    table = resumed.candidates
    cut = table[table["reason"] == "interrupted"]
    assert len(cut) == 2 and (cut["state"] == "failed").all()
    assert set(table["retry_of"].dropna()) == set(cut["candidate"])
    kept = table[table["reason"] != "interrupted"].drop(columns="default")
    order = kept["retry_of"].fillna(kept["candidate"]).to_numpy().argsort()
    values = kept["value"].to_numpy()[order]
    np.testing.assert_array_equal(values, whole.candidates["value"])
    assert resumed.choices[0].options == whole.choices[0].options


def test_more_candidates_go_on_from_those_there_are(data, tmp_path):
    tune(data, tmp_path / "a", candidates=2, storage=None)
    more = tune(data, tmp_path / "a", candidates=4, storage=None)
    assert_same(more, tune(data, tmp_path / "b", candidates=4))
    with pytest.raises(ConfigurationError, match=r"study\.sampler"):
        tune(data, tmp_path / "a", candidates=4, sampler="tpe", storage=None)
    assert_same(more, load_findings(tmp_path / "a"))


def test_failed_candidates_say_why_and_all_failing_is_an_error(data, tmp_path):
    ranges = {"training.learning_rate": {"choices": [1e-3, 1e30]}}
    found = tune(data, tmp_path / "a", space=ranges, candidates=6)
    table = found.candidates
    wild = table["training.learning_rate"] > 1
    assert wild.any() and not wild.all()
    assert (table.loc[wild, "state"] == "failed").all()
    assert table.loc[wild, "reason"].str.contains("diverged|not finite").all()
    assert (table.loc[~wild, "state"] == "complete").all()
    with pytest.raises(RunError, match="All 2 candidates failed"):
        tune(
            data,
            tmp_path / "b",
            adapter="none",
            search=("training",),
            space={"training.learning_rate": {"choices": [1e30]}},
            candidates=2,
        )


def test_a_fold_without_a_completed_candidate_is_told(
    data, tmp_path, monkeypatch, fast
):
    """What the others chose is kept, and no final test leaves it out in silence."""
    train = trying.train_candidates

    def diverge(inputs, candidates, jobs, processes):
        if candidates[0].watch is not None and jobs[0].fold.name == "subject 2":
            raise RunError("subject 2: Training diverged in epoch 1.")
        train(inputs, candidates, jobs, processes)

    few = data.take(np.flatnonzero(data.inputs.windows["subject"].astype(int) < 4))
    choices = {"select": "per-fold", "development": 0, "final": True}
    choices["final_seeds"] = (1,)
    with monkeypatch.context() as patch:
        patch.setattr(trying, "train_candidates", diverge)
        with pytest.raises(RunError) as raised:
            tune(few, tmp_path, candidates=1, **choices)
    said = str(raised.value)
    assert said.startswith("1 of 3 folds chose nothing")
    assert "- subject 2: none of 1 candidate was completed" in said
    assert "Training diverged in epoch 1" in said and "- subject 1" not in said
    found = load_findings(tmp_path)
    assert [each.fold for each in found.choices] == ["subject 1", "subject 3"]
    assert found.final is None
    assert "subject 2 chose nothing" in what_was_chosen(found)
    write_study_report(tmp_path)

    found = tune(few, tmp_path, candidates=2, **choices)
    assert len(found.choices) == 3 and found.final is not None
    assert "chose nothing" not in what_was_chosen(found)


def test_a_final_test_that_fails_altogether_is_told(data, tmp_path, monkeypatch, fast):
    train = jobs.run_job

    def fail(inputs, made, job, report=None):
        if "candidates" not in Path(job.folder).parts:
            raise RunError(f"{job.name}: Training diverged in epoch 1.")
        train(inputs, made, job, report)

    choices = {"candidates": 1, "final": True, "final_seeds": (1,)}
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "run_job", fail)
        with pytest.raises(RunError, match=r"jobs failed, so .* nothing to score"):
            tune(data, tmp_path, **choices)
        with pytest.raises(ConfigurationError, match="this run is not finished"):
            Results.load(tmp_path / "final" / "defaults")
    found = load_findings(tmp_path)
    assert len(found.choices) == 1 and found.final is None
    assert "final runs are not done" in what_is_open(found)
    write_study_report(tmp_path)
    assert tune(data, tmp_path, **choices).final is not None


@pytest.mark.parametrize("workers", [1, 2])
def test_source_only_that_diverges_is_told_however_many_processes(
    data, tmp_path, workers
):
    with pytest.raises(RunError) as raised:
        tune(
            data,
            tmp_path,
            training=Training(epochs=1, batch_size=16, learning_rate=1e30),
            candidates=2,
            jobs=workers,
        )
    said = str(raised.value)
    assert said.startswith("Source only") and "diverged in epoch 1" in said
    assert "died" not in said and "memory" not in said


def test_several_objectives_and_a_journal(data, tmp_path):
    wanted = ("validator", "source_accuracy", "seconds")
    found = tune(
        data,
        tmp_path,
        objectives=wanted,
        sampler="tpe",
        candidates=4,
    )
    assert (tmp_path / "study.journal").exists()
    values = found.candidates[["value", "source_accuracy", "seconds"]]
    assert values.notna().all(axis=None)
    ways = [each.name for each in found.studies[""].directions]
    assert ways == ["MAXIMIZE", "MAXIMIZE", "MINIMIZE"]
    alone = found.scores.loc[found.scores["candidate"] == -1, "score"].mean()
    known, value = [*found.candidates["value"], alone], found.choices[0].value
    # Of so short a training some predict a single class: the best one may be passed by.
    assert any(value == pytest.approx(each) for each in known)
    assert value <= max(known)


def test_wilcoxon_prunes_fold_by_fold(data, tmp_path):
    found = tune(
        data,
        tmp_path,
        pruner="wilcoxon",
        development=4,
        space={"training.learning_rate": {"choices": [1e-7, 3e-2]}},
        training=Training(epochs=10, batch_size=8),
        candidates=4,
    )
    pruned = found.candidates["state"] == "pruned"
    assert pruned.any()
    assert (found.candidates.loc[pruned, "reason"].str.startswith("fell behind")).all()
    # What such a one scored so far is no value: it is the mean of fewer folds.
    assert found.candidates["value"].isna().equals(pruned)
    trials = found.studies[""].get_trials()
    assert all(set(trial.intermediate_values) <= set(range(4)) for trial in trials)


# ------------------------------------------------------------------ as one program

SMALL = {"training": Training(epochs=1, batch_size=4)}
"""Batches that every fold's source fills: programs have batches of one shape."""


def close(first, second):
    """Demand the same candidates, with scores that differ by rounding at most."""
    one, other = first.candidates, second.candidates
    same = ["candidate", "state", "adapter.weight"]
    pd.testing.assert_frame_equal(one[same], other[same], check_exact=True)
    np.testing.assert_allclose(one["value"], other["value"], atol=1e-4)
    columns = ["candidate", "fold", "seed"]
    one, other = (
        each.scores.sort_values(columns).reset_index(drop=True)
        for each in (first, second)
    )
    assert one[columns].equals(other[columns])
    np.testing.assert_allclose(one["score"], other["score"], atol=1e-4)
    assert first.choices[0].options == second.choices[0].options


@pytest.fixture
def programs(monkeypatch):
    """How many trainings each program had, noted as they begin."""
    sizes, together = [], population.train_together

    def noted(members):
        sizes.append(len(members))
        return together(members)

    monkeypatch.setattr(population, "train_together", noted)
    return sizes


MMD = {"options": {**OPTIONS, "adapter.distance": "mmd"}}
"""Candidates apart in the weight alone, which each member of a program has its own."""


def test_folds_seeds_and_candidates_train_as_one_program(data, tmp_path, programs):
    choices = {"candidates": 5, "seeds": [0, 1], "validator": "guarded"}
    choices |= {**SMALL, **MMD}
    alone = tune(data, tmp_path / "alone", **choices)
    assert not programs
    found = tune(data, tmp_path / "together", engine="population", **choices)
    assert programs == [6, 12, 12, 6]  # source only; 3 folds, 2 seeds, 2 candidates
    close(found, alone)
    assert 'engine = "population"' in (tmp_path / "together/config.toml").read_text()


def test_candidates_that_are_no_program_train_beside_each_other(
    data, tmp_path, programs
):
    """Apart in more than numbers; what one draws twice is trained once."""
    space = {
        "adapter.distance": {"choices": ["mmd", "coral"]},
        "adapter.weight": {"choices": [0.5, 2.0]},
    }
    choices = {"candidates": 5, "space": space, **SMALL}
    alone = tune(data, tmp_path / "alone", **choices)
    found = tune(data, tmp_path / "together", engine="population", **choices)
    close(found, alone)
    drawn = {tuple(o.items()) for o in alone.candidates[[*space]].to_dict("records")}
    assert 1 < len(drawn) < 5 and sum(programs) == 3 + 3 * len(drawn)
    assert sum(each > 0 for each in programs) == 3  # one for each distance


def test_a_study_s_automatic_engine_is_one_however_many_candidates(
    data, tmp_path, programs
):
    choices = {"engine": "auto", **SMALL, **MMD}
    tune(data, tmp_path, candidates=1, **choices)
    assert programs == [3, 3]
    tune(data, tmp_path, candidates=3, **choices)  # joins what it began
    assert programs == [3, 3, 6]


def test_numbers_that_do_not_stack_are_tried_one_by_one(data, tmp_path, programs):
    choices = {"adapter": "mixup", "candidates": 2, **SMALL}
    alone = tune(data, tmp_path / "alone", **choices)
    with pytest.warns(DomainemoWarning, match="candidates with mixup.* one by one"):
        found = tune(data, tmp_path / "together", engine="population", **choices)
    assert programs == [3, 6, 3, 3]
    close(found, alone)


def test_one_candidate_s_fault_is_not_the_others(data, tmp_path, monkeypatch):
    """Something unforeseen ends a program; the others are tried again, without it."""
    begun, heavy = jobs._begun, []

    def broken(inputs, experiment, job, report):
        if job.adapter.options.get("weight", 0.0) > 0.9:
            heavy.append(job.adapter.options["weight"])
            raise ZeroDivisionError("a fault of this one")
        return begun(inputs, experiment, job, report)

    monkeypatch.setattr(jobs, "_begun", broken)
    found = tune(data, tmp_path, engine="population", **SMALL, **MMD).candidates
    failed = found[found["state"] == "failed"]
    assert 0 < len(failed) < 5 and set(failed["adapter.weight"]) == set(heavy)
    assert failed["reason"].str.contains("a fault of this one").all()
    assert set(found["state"]) == {"failed", "complete"}


def test_a_program_is_compared_by_the_mean_of_its_folds_after_every_epoch(
    data, tmp_path
):
    found = tune(
        data,
        tmp_path,
        engine="population",
        pruner="median",
        candidates=3,
        training=Training(epochs=3, batch_size=4),
    )
    for trial in found.studies[""].get_trials():
        place = candidate_folder(tmp_path, trial.user_attrs["options"])
        folds = [pd.read_csv(each) for each in place.rglob("history.csv")]
        assert len(folds) == 3
        best = np.mean([each["score"].cummax() for each in folds], axis=0)
        told = trial.intermediate_values
        assert [*told] == [3, 6, 9]  # epochs of three trainings
        np.testing.assert_allclose([*told.values()], best, rtol=1e-6)


def test_a_program_that_falls_behind_ends_as_a_whole(data, tmp_path, programs):
    found = tune(
        data,
        tmp_path,
        engine="population",
        pruner="median",
        validator="information-maximisation",
        candidates=9,
        space={"training.learning_rate": {"choices": [1e-7, 3e-2]}},
        training=Training(epochs=4, batch_size=4),
        **MMD,
    )
    table = found.candidates
    pruned = table[table["state"] == "pruned"]
    assert len(pruned) and set(table["state"]) == {"pruned", "complete"}
    assert pruned["reason"].str.contains(r"trainings 1 to 3 of 3, epoch [1-3]").all()
    assert programs == [3, 15, 12]
    finished = len(list((tmp_path / "candidates").rglob("record.json")))
    assert finished == 3 * (10 - len(pruned))
    assert not list((tmp_path / "candidates").rglob("*.partial"))


def test_a_study_of_programs_that_was_interrupted_goes_on(data, tmp_path, monkeypatch):
    choices = {"engine": "population", "candidates": 3, "pruner": "median", **SMALL}
    whole = tune(data, tmp_path / "whole", **choices)
    finish, calls = jobs._Training.finish, []

    def interrupted(self, together=1):
        calls.append(self)
        if len(calls) == 8:  # the second fold of the second candidate
            raise KeyboardInterrupt
        finish(self, together)

    with monkeypatch.context() as patch:
        patch.setattr(jobs._Training, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(data, tmp_path / "stopped", **choices)
    again = tune(data, tmp_path / "stopped", **choices)
    table = again.candidates[again.candidates["state"] == "complete"]
    np.testing.assert_allclose(table["value"], whole.candidates["value"], atol=1e-4)
    assert again.choices[0].options == whole.choices[0].options


def test_a_storage_that_fails_ends_a_study_of_programs(data, tmp_path, monkeypatch):
    """And is no candidate's fault: the next one would fail alike, for ever."""
    ask, asked = optuna.Study.ask, []

    def failing(study):
        asked.append(study)
        if len(asked) in (3, 4):
            raise StorageInternalError("the disk is full")
        return ask(study)

    choices = {"engine": "population", **SMALL, **MMD}
    whole = tune(data, tmp_path / "whole", **choices)
    monkeypatch.setattr(optuna.Study, "ask", failing)
    for count in (3, 4):
        with pytest.raises(Exception, match="the disk is full"):
            tune(data, tmp_path / "failed", **choices)
        assert len(asked) == count
    again = tune(data, tmp_path / "failed", **choices)
    table = again.candidates[again.candidates["state"] == "complete"]
    np.testing.assert_allclose(
        sorted(table["value"]), sorted(whole.candidates["value"]), atol=1e-4
    )


def test_a_candidate_that_is_trained_is_complete_whatever_its_storage_says(
    data, tmp_path, monkeypatch
):
    """Where it fails as it is told of the second, resuming tells it again."""
    tell, told = optuna.Study.tell, []

    def failing(study, *given, **more):
        told.append(given)
        if len(told) == 2:
            raise StorageInternalError("the disk is full")
        return tell(study, *given, **more)

    choices = {"engine": "population", **SMALL, **MMD}
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", failing)
        with pytest.raises(Exception, match="the disk is full"):
            tune(data, tmp_path, **choices)
    found = tune(data, tmp_path, **choices).candidates
    assert (found["state"] == "complete").sum() == 5
    assert not found["reason"].str.contains("disk").any()
    assert found["state"][:2].eq("complete").all()


def test_a_fold_that_diverges_in_a_program_fails_its_candidate(data, tmp_path):
    found = tune(
        data,
        tmp_path,
        engine="population",
        candidates=4,
        space={"training.learning_rate": {"choices": [1e30, 1e-3]}},
        **SMALL,
    )
    failed = found.candidates.query("state == 'failed'")
    assert 0 < len(failed) < 4
    assert failed["reason"].str.contains("subject .*diverged in epoch 1").all()


def test_an_adapter_that_is_no_program_is_tuned_fold_by_fold(data, tmp_path, programs):
    with pytest.warns(DomainemoWarning, match="one by one"):
        found = tune(
            data,
            tmp_path,
            engine="population",
            adapter="deep-jdot",
            candidates=1,
            **SMALL,
        )
    assert programs == [3]  # source only alone
    assert (found.candidates["state"] == "complete").all()


@pytest.mark.parametrize(
    ("first", "waiting", "expected"),
    [(0, 0, 5), (1, 1, 5), (3, 3, 5), (5, 5, 5), (5, 2, 2), (8, 0, 2), (10, 10, 5)],
)
def test_so_many_candidates_are_begun_as_make_a_program(first, waiting, expected):
    """Of three trainings each; those of several processes are divided among them."""
    study = optuna.create_study()
    for _ in range(first):
        study.tell(study.ask(), 0.0)
    for number in range(waiting):
        study.enqueue_trial({}, user_attrs={RETRY_OF: number} if first > 1 else {})
    task = SimpleNamespace(settings=StudySettings(candidates=20), workers=2)
    if first == 1:  # what begins a study counts itself
        study = optuna.create_study()
        study.enqueue_trial({})
    assert trying._at_once(study, task, 3) == expected


def test_candidates_whose_process_was_killed_are_begun_one_by_one():
    """One of them may have killed it; but what was to be drawn at once is drawn so."""
    task = SimpleNamespace(settings=StudySettings(candidates=5), workers=1)
    drawn = {RETRY_OF: 0, "options": {}, "deaths": 1}
    for last, expected in ((drawn, 1), ({RETRY_OF: 0}, 2), ({**drawn, "deaths": 0}, 2)):
        study = optuna.create_study()
        for _ in range(5):
            study.tell(study.ask(), 0.0)
        study.enqueue_trial({}, user_attrs=drawn)
        study.enqueue_trial({}, user_attrs=last)
        assert trying._at_once(study, task, 3) == expected


def test_candidates_that_do_not_vectorise_are_each_trained(data, tmp_path):
    """Where the configuration does, several are drawn; none stands for another."""
    space = {
        "adapter.distance": {"choices": ["mmd", "transport"]},
        "adapter.weight": {"low": 0.1, "high": 3.0},
    }
    choices = {"space": space, "seed": 4, **SMALL}
    alone = tune(data, tmp_path / "alone", **choices)
    assert (alone.candidates["adapter.distance"] == "transport").sum() > 1
    with pytest.warns(DomainemoWarning, match="does not vectorise"):
        found = tune(data, tmp_path / "together", engine="population", **choices)
    close(found, alone)


# ------------------------------------------------------------------ several at once


@contextmanager
def killing_children(moments):
    """Kill random workers that start in this block, at random moments.

    Not those of before: the processes that other tests share are children, too.
    """
    before = {child.pid for child in multiprocessing.active_children()}
    chance, stop, killed = random.Random(3), threading.Event(), []

    def kill():
        while len(killed) < moments and not stop.wait(chance.uniform(0.05, 0.5)):
            now = {child.pid for child in multiprocessing.active_children()}
            if started := sorted(now - before):
                pid = chance.choice(started)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        stop.set()
        killer.join()


@pytest.mark.campaign
def test_killing_workers_loses_nothing(data, tmp_path):
    choices = {"candidates": 12, "development": 4}
    whole = tune(data, tmp_path / "whole", **choices)
    with killing_children(20) as killed:
        found = tune(data, tmp_path / "killed", jobs=2, **choices)
    table = found.candidates
    assert len(killed) >= 3
    assert table["state"].isin(["complete", "failed"]).all()
    lost = table[table["state"] == "failed"]
    assert (lost["reason"] == "its process was killed").all()
    first = table["retry_of"].fillna(table["candidate"])
    complete = table[table["state"] == "complete"].assign(first=first)
    assert len(complete) == 12 and complete["first"].is_unique
    drawn = complete.sort_values("first")["adapter.weight"].to_numpy()
    np.testing.assert_array_equal(drawn, whole.candidates["adapter.weight"])
    assert found.choices[0].options == whole.choices[0].options
    assert found.choices[0].value == whole.choices[0].value


DEADLY = """import os, signal
from domainemo import register
from domainemo.adapters.marginal import Marginal
from domainemo.studies import trying

known = trying.worker_name


def worker_name():
    if os.getpid() != {parent}:
        try:
            os.close(os.open({noted!r}, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return known()


trying.worker_name = worker_name


@register
class Deadly(Marginal):
    pass
"""


@pytest.mark.parametrize("several", [False, True])
def test_what_dies_before_it_has_a_name_is_tried_again(
    data, tmp_path, monkeypatch, several
):
    """Between the moment at which it is begun and the one at which it says by whom."""
    monkeypatch.setattr(searching, "_NAMING_SECONDS", 0.1)
    monkeypatch.setattr(trying, "worker_name", trying.worker_name)
    code = DEADLY.format(parent=os.getpid(), noted=str(tmp_path / "died"))
    (tmp_path / "deadly.py").write_text(code, encoding="utf-8")
    load_plugin(tmp_path / "deadly.py")
    whole = tune(data, tmp_path / "whole", adapter="deadly")
    with postgres_server() if several else nullcontext("journal") as storage:
        choices = {"adapter": "deadly", "jobs": 2, "storage": storage}
        found = tune(data, tmp_path / "killed", **choices).candidates
    assert (tmp_path / "died").exists() and len(found) == 6
    complete = found[found["state"] == "complete"]
    assert sorted(complete["value"]) == sorted(whole.candidates["value"])


def test_a_postgresql_server_serves_several_workers(data, tmp_path):
    with postgres_server() as address:
        with killing_children(2):
            found = tune(data, tmp_path, storage=address, jobs=2, candidates=6)
        complete = found.candidates[found.candidates["state"] == "complete"]
        assert len(complete) == 6
        assert found.description["study"]["storage"] == address
        with pytest.raises(ConfigurationError, match="searches something else"):
            tune(data, tmp_path / "b", storage=address, sampler="tpe")
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        tune(data, tmp_path / "c", storage=address)


@pytest.mark.parametrize(
    "given", ["sqllite", "some/place.db", "sqlite://", "sqlite:///:memory:"]
)
def test_a_storage_that_is_none_is_told(data, tmp_path, given):
    with pytest.raises(ConfigurationError, match=f"The storage is '{given}'.*Expected"):
        tune(data, tmp_path / "a", storage=given)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_a_damaged_storage_is_told_as_a_file(data, tmp_path, storage):
    tune(data, tmp_path, storage=storage, candidates=2, final=False)
    (file,) = (*tmp_path.glob("study.db"), *tmp_path.glob("study.journal"))
    file.write_bytes(b"no study's at all\n")
    with pytest.raises(DomainemoError, match=f"{file}: .*Put back a copy"):
        tune(data, tmp_path, storage=storage, candidates=3, final=False)


def test_passwords_stay_out_of_the_folder(tmp_path):
    from domainemo.studies.storage import name_of

    assert "secret" not in name_of("postgresql+psycopg://me:secret@host/base")
    assert name_of("sqlite:////somewhere/study.db") == "sqlite"


def test_a_folder_without_a_study_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="no such configuration"):
        load_findings(tmp_path)
