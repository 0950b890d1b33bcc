"""Optuna on a real PostgreSQL: several processes, killed ones, and its dashboard.

What is relied on of Optuna's storages is shown here, apart from what is built on them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import postgres
import pytest
import sqlalchemy
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from postgres import postgres_server

pytestmark = pytest.mark.filterwarnings(
    "ignore::optuna.exceptions.ExperimentalWarning"  # heartbeats are one
)
SECONDS = 120
WORKER = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
import optuna

address, count, interval, hold = sys.argv[1], *map(int, sys.argv[2:])

def objective(candidate):
    x = candidate.suggest_float("x", -3, 3)
    candidate.set_user_attr("process", os.getpid())
    print(candidate.number, flush=True)
    time.sleep(hold)
    return (x - 1) ** 2

storage = optuna.storages.RDBStorage(address, heartbeat_interval=interval)
study = optuna.load_study(study_name="study", storage=storage)
study.optimize(objective, n_trials=count)
"""


@pytest.fixture(scope="module")
def server():
    with postgres_server() as address:
        yield address


@pytest.fixture
def study(server):
    """A study whose candidates are taken as dead after two minutes of silence."""
    storage = RDBStorage(
        server,
        heartbeat_interval=60,
        grace_period=120,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=1),
    )
    made = optuna.create_study(
        study_name="study", storage=storage, sampler=optuna.samplers.RandomSampler(0)
    )
    yield made
    optuna.delete_study(study_name="study", storage=storage)
    storage.engine.dispose()


@contextmanager
def worker(address, *, count=1, interval=60, hold=0):
    """Run a process that works on the study; whatever is left of it is killed."""
    arguments = map(str, (address, count, interval, hold))
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def last_heard(study):
    """Return when each running candidate was last heard of."""
    with study._storage._backend.engine.connect() as connection:
        query = "SELECT trial_id, heartbeat FROM trial_heartbeats"
        return dict(map(tuple, connection.execute(sqlalchemy.text(query))))


def an_hour_passes(study):
    """Put every heartbeat back by an hour, as if the processes had been silent."""
    with study._storage._backend.engine.begin() as connection:
        moved = "UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'"
        connection.execute(sqlalchemy.text(moved))


# ----------------------------------------------------------------- the server itself


def test_nothing_is_left_of_a_server_after_a_failure():
    with pytest.raises(ZeroDivisionError), postgres_server() as address:
        folder = Path(sqlalchemy.make_url(address).query["host"])
        process = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(process, 0)
        raise ZeroDivisionError
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize(("strict", "outcome"), [("", pytest.skip), ("1", pytest.fail)])
def test_where_there_is_no_server_a_test_says_so(monkeypatch, strict, outcome):
    monkeypatch.setenv("CI_RUN", strict)
    monkeypatch.setattr(postgres, "_programs", lambda: None)
    with (
        pytest.raises(outcome.Exception, match="no PostgreSQL here"),
        postgres_server(),
    ):
        raise AssertionError("it went on")


# ------------------------------------------------------------------- Optuna upon it


def test_two_processes_share_a_study(server, study):
    with worker(server, count=12) as one, worker(server, count=12) as other:
        for process in (one, other):
            _, errors = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, errors
        processes = {one.pid, other.pid}
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(24))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert {trial.user_attrs["process"] for trial in trials} == processes
    for trial in trials:
        assert trial.value == (trial.params["x"] - 1) ** 2
    assert study.best_value == min(trial.value for trial in trials)


def test_a_killed_process_leaves_a_candidate_that_is_tried_again(server, study):
    with worker(server, hold=SECONDS) as process:
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGKILL)
        process.wait(SECONDS)
    assert process.returncode == -signal.SIGKILL
    optuna.storages.fail_stale_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]
    an_hour_passes(study)
    study.optimize(lambda candidate: candidate.suggest_float("x", -3, 3), n_trials=1)
    dead, again = study.trials
    assert (dead.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert again.params == dead.params
    assert again.value == dead.params["x"]
    assert RetryHeartbeatStaleTrialCallback.retried_trial_number(again) == dead.number
    assert RetryHeartbeatStaleTrialCallback.retried_trial_number(dead) is None


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used")
def test_a_candidate_is_tried_again_as_often_as_asked(study):
    for _ in range(2):
        number = study.ask()._trial_id
        study._storage.record_heartbeat(number)
        an_hour_passes(study)
        optuna.storages.fail_stale_trials(study)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, TrialState.FAIL]
    history = RetryHeartbeatStaleTrialCallback.retry_history(study.trials[1])
    assert history == [0]


def test_a_process_that_lives_is_left_alone(server, study):
    with worker(server, interval=1, hold=SECONDS) as process:
        assert process.stdout.readline() == "0\n"
        an_hour_passes(study)
        silent = last_heard(study)
        end = time.monotonic() + SECONDS
        while last_heard(study) == silent:
            assert time.monotonic() < end
            time.sleep(0.1)
        optuna.storages.fail_stale_trials(study)
        assert [trial.state for trial in study.trials] == [TrialState.RUNNING]


def test_the_dashboard_opens_a_study(server, study):
    study.optimize(lambda candidate: candidate.suggest_float("x", 0, 1), n_trials=5)
    dashboard = optuna_dashboard.wsgi(server)
    (listed,) = served(dashboard, "/api/studies")["study_summaries"]
    assert listed["study_name"] == "study"
    shown = served(dashboard, f"/api/studies/{listed['study_id']}")
    values = [(trial["number"], trial["values"]) for trial in shown["trials"]]
    assert values == [(trial.number, [trial.value]) for trial in study.trials]


def served(application, path):
    """Return what a web application answers to a browser's request."""
    request, status = {"PATH_INFO": path}, []
    setup_testing_defaults(request)
    parts = application(request, lambda line, *rest: status.append(line))
    answer = b"".join(parts)
    assert status == ["200 OK"], answer
    return json.loads(answer)
