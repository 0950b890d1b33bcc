"""Run an experiment: plan it, train its folds, score them, write what they say."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from ..choices import RunChoices, choosing
from ..core import EmotionData
from ..places import naming_parts
from ..values import given_path
from .at_once import Jobs, running
from .execution import Monitor, check_call, execute
from .experiment import Experiment, experiment
from .folder import (
    fingerprint,
    identity,
    locked,
    open_folder,
    origin,
)
from .job import Job
from .plan import Plan, plan
from .results import Results, write_results
from .scorer import collect

__all__ = ["check_output", "described", "run", "run_plan", "trained"]


@choosing
@naming_parts()
def run(
    data: EmotionData,
    *,
    output: str | Path | None = None,
    jobs: Jobs = 1,
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    **choices: Unpack[RunChoices],
) -> Results:
    """Train and test an adapter on every fold of a protocol.

    Parameters
    ----------
    data : EmotionData
    **choices
        See `domainemo.choices.RunChoices`.
    output : path, optional
        The run's folder. Where it holds part of this very run, the rest is run.
    jobs : int or "auto"
        How many folds are trained at once, each in a process of this machine.
    executor : concurrent.futures.Executor, optional
        Where folds are trained instead, such as :func:`domainemo.cluster`'s.
    on_progress : callable, optional
        Called now and then with the state of all jobs.

    Returns
    -------
    Results

    Raises
    ------
    ConfigurationError, DataError
        Before anything is trained.
    RunError
        If a fold fails; the finished ones are kept in `output`.
    """
    chosen = experiment(**choices)
    place = check_output(output)
    check_call(executor, on_progress, jobs)
    planned = plan(data, chosen)
    description = described(data.inputs.name, chosen)
    most = len(planned.jobs(Path()))
    with place as folder, running(executor, jobs, chosen, most) as pool:
        results = run_plan(
            planned, Path(folder), description, pool, on_progress, chosen.plugins
        )
    return replace(results, folder=None if output is None else Path(output))


def check_output(output: Any) -> AbstractContextManager[str | Path]:
    """Return the folder to write to, for as long as a block runs where it is None.

    Raises
    ------
    ConfigurationError
        If it is no folder.
    """
    if output is None:
        return tempfile.TemporaryDirectory()
    return nullcontext(given_path("output", output))


def described(recordings: str, chosen: Experiment) -> dict[str, Any]:
    """Return the full configuration of a run that is made from Python."""
    description = {"recordings": recordings, **chosen.describe()}
    if chosen.plugins:
        description["plugins"] = list(chosen.plugins)
    return description


def run_plan(
    planned: Plan,
    folder: Path,
    description: Mapping[str, Any],
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    plugins: Sequence[str] = (),
) -> Results:
    """Run what is missing of a plan in its folder; score it and write the tables.

    Parameters
    ----------
    planned : Plan
    folder : Path
    description : mapping
        The full configuration, written as ``config.toml``.
    executor, on_progress
        See :func:`run`.
    plugins : sequence of str
        Files to import in every process.
    """
    with trained(planned, folder, description, executor, on_progress, plugins) as jobs:
        results = collect(planned, jobs, description)
        write_results(folder, results)
    return results


@contextmanager
def trained(
    planned: Plan,
    folder: Path,
    description: Mapping[str, Any],
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    plugins: Sequence[str] = (),
) -> Iterator[list[Job]]:
    """Train what is missing of a plan, and hold its folder while the block runs.

    Parameters
    ----------
    planned, folder, description, executor, on_progress, plugins
        See :func:`run_plan`.

    Yields
    ------
    list of Job
        All finished.
    """
    start = planned.experiment.init_from
    known = identity(planned.fingerprint(), plugins, planned.experiment.texts)
    known |= {"pre-training": start.content} if start else {}
    signals = fingerprint(planned.inputs)
    open_folder(folder, description, known, {"signals": signals})
    begun = origin(folder)
    jobs = [replace(job, origin=begun) for job in planned.jobs(folder)]
    with locked(folder):
        execute(
            planned.inputs,
            planned.experiment,
            jobs,
            folder=folder,
            executor=executor,
            on_progress=on_progress,
            plugins=plugins,
        )
        yield jobs
