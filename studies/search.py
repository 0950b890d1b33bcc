"""Search a space with Optuna, in this process or several, and lose no candidate."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from .. import files
from ..core import Inputs
from ..errors import ConfigurationError, DomainemoError, DomainemoWarning, RunError
from ..places import foreseen, unforeseen
from ..processes import ending, follow_parent, starting
from ..runs.execution import forget_shared, load_shared, shared
from ..runs.folder import differences
from ..runs.memory import check_memory
from ..runs.units import MOST, engine_for
from ..words import count
from .integrity import named
from .sampling import RETRY_OF
from .storage import (
    WORKER,
    file_of,
    is_alive,
    is_local,
    name_worker,
    open_storage,
    quiet,
    reason_of,
    repeat_killed,
    worker_name,
)
from .trying import Task, is_enough, knows_source_only, open_studies, work

__all__ = [
    "Progress",
    "create_studies",
    "search",
    "why_incomplete",
]

_POLL_SECONDS = 0.5
# Processes that end in a row with no candidate finished, before something is wrong:
_DEATHS = 20  # where they are killed from outside
_FAILURES = 2  # where they fail by themselves, as the next one would
_NAMING_SECONDS = 10  # after them, what runs on no known process is dead
_EXPLAINED = 64  # exit code of a process that an error ended which is a sentence


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes
    ----------
    finished, total : int
        Candidates.
    best : float
        The highest value so far; NaN where there is none.
    """

    finished: int
    total: int
    best: float


OnProgress = Callable[[Progress], None]


def search(
    inputs: Inputs,
    task: Task,
    on_progress: OnProgress | None = None,
    plugins: Sequence[str] = (),
    executor: Executor | None = None,
) -> None:
    """Try candidates until there are enough.

    A process that dies is replaced, and what it was training is trained again.

    Parameters
    ----------
    inputs : Inputs
        Of those that choose, without labels.
    task : Task
    on_progress : callable, optional
    plugins : sequence of str
        Files to import in every process.
    executor : Executor, optional
        Of a cluster, in place of local processes.

    Raises
    ------
    ConfigurationError
        If the storage holds another study by that name.
    RunError
        If memory does not suffice, or source only or no candidate could be trained.
    """
    tell = on_progress or (lambda progress: None)
    with quiet(), _alone_on(task):
        forget_shared(task.folder)
        studies = create_studies(task)
        task = _settled(inputs, task)
        local = is_local(task.address)
        for study in studies.values():
            repeat_killed(study, (lambda _: True) if local else _is_dead)
        tell(_progress(studies, task))
        here = getattr(executor, "here", True)  # else nobody knows the memory
        if here and not all(is_enough(study, task) for study in studies.values()):
            # Several may be training the largest one at once.
            every = [job for jobs in task.jobs.values() for job in jobs]
            check_memory(inputs, every * task.workers, task.workers)
        if task.workers == 1 and executor is None:
            work(inputs, task, lambda: tell(_progress(studies, task)))
        else:
            with shared(inputs, task, task.folder, plugins) as context:
                start = _starter() if executor is None else partial(_Call, executor)
                _supervise(context, task, studies, tell, start)
        _require_success(studies)


@contextmanager
def _alone_on(task: Task) -> Iterator[None]:
    """Hold a file of candidates that lies elsewhere than in the study's own folder.

    Whoever finds a candidate running in a local file takes it for one that was killed.
    """
    file = file_of(task.address) if is_local(task.address) else None
    if file is None or file.resolve().parent == task.folder.resolve():
        yield
        return
    with files.lock(file.with_name(f"{file.name}.lock"), wait=False) as held:
        if not held:
            raise ConfigurationError(
                f"{file}: another study is being searched in this file. Wait for it, "
                f"give each study a file of its own, or a PostgreSQL database, which "
                f"several may share (--storage postgresql+psycopg://...)."
            )
        yield


def _settled(inputs: Inputs, task: Task) -> Task:
    """Return the task with the engine that an automatic one is.

    However many candidates are asked for: more of them may be, later.
    """
    jobs = next(iter(task.jobs.values()))
    every = [*jobs] * max(MOST // len(jobs), 1)
    made = engine_for(inputs, task.space.experiment, every)
    return replace(task, space=replace(task.space, experiment=made))


def create_studies(task: Task) -> dict[str, Study]:
    """Open the Optuna studies, made where they are not there yet.

    Each begins with the values that the experiment has, where the space holds them.

    Raises
    ------
    ConfigurationError
        If a study of that name searches something else.
    """
    storage = open_storage(task.address)
    described = json.dumps(_essential(task), sort_keys=True)
    studies = {}
    for key, name in task.names.items():
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=task.settings.directions,
            load_if_exists=True,
        )
        known = study.user_attrs.get("domainemo")
        if known is None:
            study.set_metric_names(list(task.settings.objectives))
            if not study.get_trials(deepcopy=False):
                start = task.space.defaults()
                whole = start.keys() == task.space.distributions().keys()
                study.enqueue_trial(start, user_attrs={"default": whole})
            # Last, so that one killed before it is begun again.
            study.set_user_attr("domainemo", described)
        elif known != described:
            raise ConfigurationError(
                f"The storage holds a study called {name!r} that searches something "
                f"else ({_difference(known, described)}). Give this one another --name."
            )
        studies[key] = study
    return studies


def _supervise(
    context: Path,
    task: Task,
    studies: Mapping[str, Study],
    tell: OnProgress,
    start: Callable[[Path], BaseProcess | _Call],
) -> None:
    """Keep the processes running until there is nothing left to try."""
    running: list[BaseProcess | _Call] = []
    deaths, failures, finished = 0, 0, 0
    try:
        while True:
            begun = all(is_enough(study, task) for study in studies.values())
            known = all(knows_source_only(each, task) for each in studies.values())
            # The last ones may still be at it; what is begun needs no more processes.
            done = begun and (known or bool(running))
            missing = 0 if done else task.workers - len(running)
            with starting():
                running += [start(context) for _ in range(missing)]
            if not running:
                for study in studies.values():
                    _repeat_unnamed(study, task)
                if all(is_enough(study, task) for study in studies.values()):
                    return
                continue
            time.sleep(_POLL_SECONDS)
            progress = _progress(studies, task)
            tell(progress)
            ended = [each for each in running if each.exitcode is not None]
            running = [each for each in running if each.exitcode is None]
            died = [each for each in ended if each.exitcode]
            if progress.finished != finished:
                deaths, failures, finished = 0, 0, progress.finished
            deaths += len(died)
            failures += sum((each.exitcode or 0) > 0 for each in died)
            for study in studies.values() if died else ():
                repeat_killed(study, partial(_was_of, died))
            for each in died:
                if each.exitcode == _EXPLAINED:  # the next one would find the same
                    raise RunError(_last_words(context, each))
            if deaths > _DEATHS or failures > _FAILURES:
                words = _last_words(context, died[-1]).rstrip(".")
                how = f"of this: {words}" if words else ending(died[-1].exitcode)
                raise RunError(
                    f"{deaths} worker processes died one after the other, the last "
                    f"one {how}. What is finished is kept; the same command resumes, "
                    f"with fewer --jobs."
                )
    finally:
        for each in running:
            each.kill()
            each.join()
        for study in studies.values() if running else ():
            repeat_killed(study, partial(_was_of, running))


class _Call:
    """A call that tries candidates on a cluster, told of as a process is.

    Parameters
    ----------
    executor : Executor
    context : Path
    """

    def __init__(self, executor: Executor, context: Path) -> None:
        self.pid = uuid4().hex
        self.call = executor.submit(_work_on_cluster, str(context), self.pid)
        self.known = 1

    @property
    def exitcode(self) -> int | None:
        """None as long as it is under way; else as a process would end."""
        workers: Sequence[str] = getattr(self.call, "workers", ())
        if len(workers) > self.known:
            self.known = len(workers)
            warnings.warn(
                f"The worker {workers[-2]} was lost; its candidate is tried again.",
                DomainemoWarning,
                stacklevel=2,
            )
        if not self.call.done():
            return None
        error = None if self.call.cancelled() else self.call.exception()
        if error is None:
            return 0
        explained = isinstance(error, DomainemoError) and len(workers) < 2
        return _EXPLAINED if explained else 1

    def kill(self) -> None:
        """Have the cluster drop it."""
        self.call.cancel()

    def join(self) -> None:
        """Do nothing: it is dropped by whoever still works on it."""


def _repeat_unnamed(study: Study, task: Task) -> None:
    """Have run again what died before it was noted whose it is; nobody is at work.

    Where other machines search as well, theirs have a name within moments.
    """
    local = is_local(task.address)
    unnamed = _unnamed(study)
    if unnamed and not local:
        time.sleep(_NAMING_SECONDS)
        for number in unnamed & _unnamed(study):
            with suppress(ValueError, RuntimeError):  # another process was faster
                study.tell(number, state=TrialState.FAIL)
    repeat_killed(study, lambda _: local)


def _unnamed(study: Study) -> set[int]:
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return {each.number for each in running if WORKER not in each.user_attrs}


def _was_of(processes: Sequence[BaseProcess | _Call], worker: str) -> bool:
    """Return whether a candidate was one of these processes', or of a dead one."""
    ours = {each.pid for each in processes if isinstance(each, _Call)}
    return worker.partition(":")[0] in ours or _is_dead(worker)


def _starter() -> Callable[[Path], BaseProcess]:
    """Return what starts a process of this search."""
    methods = multiprocessing.get_all_start_methods()
    context: Any
    if "forkserver" in methods:
        # Torch is imported once, for all processes and those that replace them.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
    else:
        context = multiprocessing.get_context("spawn")

    def start(folder: Path) -> BaseProcess:
        process: BaseProcess = context.Process(target=_work_in, args=(folder,))
        process.start()
        return process

    return start


def _work_in(context: Path) -> None:
    """Work in a process of its own; leave behind what ended it."""
    follow_parent()
    try:
        inputs, task = load_shared(str(context))
        with quiet(), named(task.address):
            work(inputs, task)
    except Exception as error:
        known = isinstance(error, DomainemoError)
        words = str(foreseen(error))
        (context / f"{os.getpid()}.error").write_text(words, encoding="utf-8")
        sys.exit(_EXPLAINED if known else 1)


def _work_on_cluster(context: str, call: str) -> None:
    """Work in a process of a cluster; a call that was lost goes on with its own."""
    if not Path(context).is_dir():
        raise ConfigurationError(
            f"{socket.gethostname()}, a machine of the cluster, does not see "
            f"{context}. Put the study's --output on a disk that all machines share."
        )
    inputs, task = load_shared(context)
    name_worker(call)
    with quiet(), named(task.address):
        own = worker_name()
        for study in open_studies(task).values():
            repeat_killed(study, lambda x: x.startswith(f"{call}:") and x != own)
        work(inputs, task)


def _last_words(context: Path, process: BaseProcess | _Call) -> str:
    """Return the error that ended a process; empty where a signal did."""
    if isinstance(process, _Call):
        error = process.call.exception()
        if error is None or isinstance(error, DomainemoError):
            return str(error or "")
        return unforeseen(error)
    try:
        return (context / f"{process.pid}.error").read_text(encoding="utf-8")
    except OSError:
        return ""


def _is_dead(worker: str) -> bool:
    return not is_alive(worker)


def _progress(studies: Mapping[str, Study], task: Task) -> Progress:
    finished, best = 0, math.nan
    for study in studies.values():
        for each in study.get_trials(deepcopy=False):
            ended = each.state.is_finished()
            finished += ended and RETRY_OF not in each.user_attrs
            if each.state == TrialState.COMPLETE:
                best = float(np.nanmax([best, each.values[0]]))
    return Progress(finished, len(studies) * task.settings.candidates, best)


def _require_success(studies: Mapping[str, Study]) -> None:
    """Raise where no candidate was completed, and say why.

    Not to adapt would be the choice by default then, and not by comparison.
    """
    trials = [t for study in studies.values() for t in study.get_trials(deepcopy=False)]
    states = [each.state for each in trials]
    if TrialState.COMPLETE in states:
        return
    ended = [each for each in trials if each.state.is_finished()]
    if not ended:
        raise RunError(
            "No candidate was tried before time was up, so nothing can be chosen. What "
            "is finished is kept; the same command goes on, with more --minutes."
        )
    failed = states.count(TrialState.FAIL)
    shown = "\n".join(f"- {reason}" for reason in _reasons(ended))
    if failed == len(ended):
        raise RunError(f"All {failed} candidates failed:\n{shown}")
    raise RunError(
        f"None of {len(ended)} candidates was completed, so nothing can be chosen "
        f"({failed} failed, {len(ended) - failed} fell behind):\n{shown}"
    )


def why_incomplete(study: Study) -> str:
    """Say why no candidate of a study is complete; empty where one is."""
    trials = study.get_trials(deepcopy=False)
    if any(each.state == TrialState.COMPLETE for each in trials):
        return ""
    ended = [each for each in trials if each.state.is_finished()]
    if not ended:
        return "no candidate has ended"
    reasons = "; ".join(reason.rstrip(".") for reason in _reasons(ended))
    return f"none of {count(len(ended), 'candidate')} was completed ({reasons})"


def _reasons(ended: Sequence[FrozenTrial]) -> list[str]:
    """Return the first few reasons why candidates did not finish, each once."""
    return list(dict.fromkeys(map(reason_of, ended)))[:3]


def _essential(task: Task) -> dict[str, object]:
    """Return what every machine must agree on, and no study changes on its way."""
    free = ("candidates", "final_seeds", "device")
    every = {
        **task.space.experiment.describe(),
        **task.settings.describe(),
        "space": task.space.describe(),
    }
    return {key: value for key, value in every.items() if key not in free}


def _difference(known: str, described: str) -> str:
    """Return in words where two descriptions differ."""
    return "; ".join(differences(json.loads(known), json.loads(described), "now"))
