"""A study that is killed at any moment goes on as if nothing had happened.

Its process is killed before each thing that it writes to the storage, one after the
other; nothing is trained, as a formula says what each fold and epoch scores.
"""

import copy
import math
from dataclasses import replace
from functools import cache

import optuna
import pytest
from optuna.trial import TrialState
from studies_told import candidates_of

from domainemo.data.simulator import Simulated
from domainemo.errors import RunError
from domainemo.evaluation.experiment import experiment
from domainemo.studies import search as searching
from domainemo.studies.candidate import Score
from domainemo.studies.plan import plan_study
from domainemo.studies.search import Task, search
from domainemo.studies.settings import StudySettings
from domainemo.studies.space import search_space
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


def train(inputs, experiment, jobs, folder, watch=None):
    """Score a candidate by a formula; some fail, where they must."""
    scores = []
    for fold, job in enumerate(jobs):
        for epoch in range(1, EPOCHS + 1):
            score = score_of(experiment, fold, epoch)
            if watch is not None:
                watch.epoch(scores, {"epoch": epoch, "score": score})
        if fold == 1 and math.log10(experiment.training.learning_rate) > -1.9:
            raise RunError(f"{job.fold.name}: diverged.")
        best = score_of(experiment, fold, EPOCHS)
        scores.append(Score(job.fold.name, 0, EPOCHS, best, 0.9, (0, 1), 10, 1.0))
        if watch is not None:
            watch.fold(scores)
    return scores


@pytest.fixture(scope="module")
def recordings():
    return Simulated(subjects=5, sessions=1, trials=3, windows=(3, 5)).load()


@pytest.fixture
def study_of(recordings, tmp_path, monkeypatch):
    """Return a function that runs a study in a given storage to a number of tries."""
    monkeypatch.setattr(searching, "train_candidate", train)
    made = experiment(
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
    def planned(**choices):
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
        monkeypatch.setattr(searching, "open_storage", lambda address: storage)
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
    ("sampler", "begun", "candidates"),
    [("random", 0, 2), ("tpe", 12, 14), ("cma-es", 12, 14)],
)
def test_killed_before_each_write_a_study_ends_the_same(
    study_of, sampler, begun, candidates
):
    """From its beginning, and where the sampler has learnt and the pruner prunes."""
    choices = {"sampler": sampler, "pruner": "median"}
    storage = Mortal()
    if begun:
        study_of(storage, begun, **choices)
    whole = copy.deepcopy(storage)
    whole.written = 0
    expected = candidates_of(study_of(whole, candidates, **choices))
    assert len(expected) == candidates and whole.written > 20
    if begun:
        kinds = {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
        assert {each[0] for each in expected} == kinds
    for dies_at in range(1, whole.written + 1):
        found = survives(study_of, storage, dies_at, candidates, **choices)
        assert found == expected, dies_at
