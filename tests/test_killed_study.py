"""A study that is killed at any moment goes on as if nothing had happened.

Its process is killed before each thing that it writes to the storage, one after the
other; nothing is trained, as a formula says what each fold and epoch scores.
"""

import copy
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from studies_told import candidates_of

from domainemo.data.simulator import Simulated
from domainemo.errors import RunError
from domainemo.runs.experiment import experiment
from domainemo.studies import search as searching
from domainemo.studies import trying
from domainemo.studies.candidate import Score
from domainemo.studies.plan import plan_study
from domainemo.studies.search import search
from domainemo.studies.settings import StudySettings
from domainemo.studies.space import search_space
from domainemo.studies.storage import open_storage
from domainemo.studies.trying import Task
from domainemo.training.settings import Training

WRITES = (
    "create_new_study",
    "create_new_trial",
    "set_study_system_attr",
    "set_study_user_attr",
    "set_trial_intermediate_value",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_system_attr",
    "set_trial_user_attr",
)
EPOCHS = 3


class Killed(BaseException):
    """No `except` stops it, as none stops a kill."""


class Mortal(optuna.storages.InMemoryStorage):
    """A storage whose process dies before a given write."""

    def __init__(self):
        super().__init__()
        self.written, self.dies_at = 0, math.inf

    def __deepcopy__(self, memo):
        other = Mortal.__new__(Mortal)
        locked = {k: v for k, v in vars(self).items() if k != "_lock"}
        vars(other).update(copy.deepcopy(locked, memo), _lock=type(self._lock)())
        return other


def _dying(name):
    write = getattr(optuna.storages.InMemoryStorage, name)

    def before_writing(self, *arguments, **options):
        self.written += 1
        if self.written >= self.dies_at:
            raise Killed
        return write(self, *arguments, **options)

    return before_writing


for name in WRITES:
    setattr(Mortal, name, _dying(name))


def score_of(experiment, fold, epoch):
    weight = math.log10(experiment.adapter.options.get("weight", 1.0))
    rate = math.log10(experiment.training.learning_rate)
    miss = (weight + 0.3) ** 2 + (rate + 2.5) ** 2
    return 0.9 - 0.1 * miss + 0.02 * epoch - 0.013 * fold


def train(inputs, candidates, jobs, processes):
    """Score candidates by a formula; some fail, where they must."""
    for each in candidates:
        try:
            score(each, jobs)
        except Exception as error:
            each.failure = error


def score(candidate, jobs):
    made, watch = candidate.experiment, candidate.watch
    for fold, job in enumerate(jobs):
        for epoch in range(1, EPOCHS + 1):
            candidate.take([score_of(made, fold, epoch)], epoch)
        if fold == 1 and math.log10(made.training.learning_rate) > -1.9:
            raise RunError(f"{job.fold.name}: diverged.")
        best = score_of(made, fold, EPOCHS)
        found = Score(job.fold.name, 0, EPOCHS, best, 0.9, (0, 1), 10, 1.0)
        candidate.scores.append(found)
        if watch is not None:
            watch.fold(candidate.scores)


@pytest.fixture(scope="module")
def recordings():
    return Simulated(subjects=5, sessions=1, trials=3, windows=(3, 5)).load()


@pytest.fixture
def study_of(recordings, tmp_path, monkeypatch):
    """Return a function that runs a study in a given storage to a number of tries."""
    monkeypatch.setattr(trying, "train_candidates", train)
    single = experiment(
        backbone="concatenation-mlp",
        adapter="marginal",
        validator="source-and-information",
        device="cpu",
        training=Training(epochs=EPOCHS),
    )
    ranges = {
        "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "adapter.weight": {"low": 0.01, "high": 10.0, "log": True},
    }

    @cache
    def planned(engine="single", **choices):
        made = replace(single, more={**single.more, "engine": engine})
        settings = StudySettings(development=3, candidates=99, **choices)
        space = search_space(made, settings.search, ranges, {})
        return plan_study(recordings, space, settings)

    def run(storage, candidates, **choices):
        plan = planned(**choices)
        task = Task(
            space=plan.space,
            settings=replace(plan.settings, candidates=candidates),
            address="sqlite:///nowhere",
            names={"": "study"},
            jobs={"": plan.jobs("")},
            folder=tmp_path,
        )
        for module in (searching, trying):
            monkeypatch.setattr(module, "open_storage", lambda address: storage)
        search(recordings.inputs, task)
        return storage

    return run


def survives(study_of, storage, dies_at, candidates, **choices):
    """Kill a study before a write, and run it again; return what it found."""
    storage = copy.deepcopy(storage)
    storage.written, storage.dies_at = 0, dies_at
    # Optuna's own `finally` trips over what it has not been told.
    with pytest.raises((Killed, UnboundLocalError)):
        study_of(storage, candidates, **choices)
    storage.dies_at = math.inf
    return candidates_of(study_of(storage, candidates, **choices))


@pytest.mark.parametrize(
    ("sampler", "pruner", "engine", "begun", "candidates"),
    [
        ("random", "median", "single", 0, 2),
        ("tpe", "median", "single", 12, 14),
        ("tpe", "hyperband", "single", 12, 14),
        ("cma-es", "median", "single", 12, 14),
        ("random", "none", "population", 0, 3),
        ("tpe", "none", "population", 15, 18),  # five at once
        ("cma-es", "none", "population", 15, 18),
    ],
)
def test_killed_before_each_write_a_study_ends_the_same(
    study_of, sampler, pruner, engine, begun, candidates
):
    """From its beginning, and where the sampler has learnt and the pruner prunes."""
    choices = {"sampler": sampler, "pruner": pruner, "engine": engine}
    storage = Mortal()
    if begun:
        study_of(storage, begun, **choices)
    whole = copy.deepcopy(storage)
    whole.written = 0
    expected = candidates_of(study_of(whole, candidates, **choices))
    assert len(expected) == candidates and whole.written > 20
    if begun:
        kinds = {TrialState.COMPLETE, TrialState.FAIL}
        kinds |= {TrialState.PRUNED} if pruner != "none" else set()
        assert {each[0] for each in expected} == kinds
    for dies_at in range(1, whole.written + 1):
        found = survives(study_of, storage, dies_at, candidates, **choices)
        assert found == expected, dies_at


def test_a_killed_writer_of_a_journal_holds_up_nobody(tmp_path, monkeypatch):
    """It leaves its lock's file, and half a line that the next would join."""
    journal = tmp_path / "study.journal"
    storage = open_storage(str(journal))
    optuna.create_study(storage=storage, study_name="s").add_trial(
        create_trial(value=1)
    )
    hold = (
        "import os, sys; from domainemo.studies.storage import open_storage\n"
        "journal = open_storage(sys.argv[1])._backend\n"
        "journal._lock.acquire()\n"
        "with open(sys.argv[1], 'ab') as file: file.write(b'{\"op_code\":4,\"st')\n"
        "os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", hold, journal], check=False)
    assert done.returncode == 9 and journal.read_bytes().endswith(b"st")

    def wait(seconds):
        raise AssertionError("waited for the dead")

    monkeypatch.setattr(time, "sleep", wait)
    for _ in range(2):
        opened = open_storage(str(journal))
        study = optuna.load_study(study_name="s", storage=opened)
        study.add_trial(create_trial(value=2))
    again = optuna.load_study(study_name="s", storage=open_storage(str(journal)))
    assert [each.value for each in again.get_trials()] == [1, 2, 2]


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_no_candidate_is_drawn_twice(study_of, pruner):
    """Hyperband shows a sampler some candidates; its place is among all."""
    storage = study_of(Mortal(), 14, sampler="random", pruner=pruner)
    drawn = [json.dumps(each[2]) for each in candidates_of(storage)]
    assert len(set(drawn)) == len(drawn) == 14
