"""Run jobs here or on any executor; report how far they are; keep what is finished."""

from __future__ import annotations

import json
import os
import shutil
import socket
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..core import Inputs
from ..errors import ConfigurationError, DomainemoError, DomainemoWarning, RunError
from ..machines.beside import parcels
from ..places import unforeseen
from ..processes import check_executor, is_forking, pack, unpack
from ..registry import load_plugin
from ..training.loop import Report
from ..values import check_value
from ..words import count
from .at_once import check_jobs
from .experiment import Setup
from .job import (
    PROGRESS,
    Failed,
    Job,
    Work,
    begin_folder,
    give_away,
    is_finished,
    partial_folder,
    receive,
    run_jobs,
)
from .memory import check_memory
from .record import write_file
from .units import engine_for, units

__all__ = [
    "JobState",
    "Monitor",
    "check_call",
    "execute",
    "forget_shared",
    "load_shared",
    "shared",
]

_POLL_SECONDS = 0.25


@dataclass
class JobState:
    """How far one job is.

    Attributes
    ----------
    name : str
    epoch : int
    loss : float
    finished, resumed, failed : bool
        `resumed` where an earlier run had finished it.
    """

    name: str
    epoch: int = 0
    loss: float = float("nan")
    finished: bool = False
    resumed: bool = False
    failed: bool = False


@dataclass
class Monitor:
    """How far all jobs are."""

    epochs: int
    jobs: list[JobState] = field(default_factory=list)


Unit = Sequence[tuple[Work[Any], JobState]]
"""Jobs that are run together."""

Answer = tuple[Failed, Mapping[int, Mapping[str, bytes]]]
"""Which of them failed, and the files of the others where no disk is shared."""

OnProgress = Callable[[Monitor], None]


class Unseen(Exception):
    """A machine neither sees the run's folder nor was sent what is needed from it."""


def check_call(executor: Any, on_progress: Any, jobs: Any = 1) -> None:
    """Refuse what cannot train, and what cannot be told how far training is.

    Raises
    ------
    ConfigurationError
    """
    check_value("executor", executor, Executor | None)
    check_jobs(jobs, executor)
    if not (on_progress is None or callable(on_progress)):
        raise ConfigurationError(
            f"on_progress is {on_progress!r}; expected a function of one value."
        )


def execute(
    inputs: Inputs,
    experiment: Setup,
    jobs: Sequence[Work[Any]],
    *,
    folder: Path,
    executor: Executor | None,
    on_progress: OnProgress | None,
    plugins: Sequence[str],
) -> None:
    """Run every job that is not finished yet.

    A job that fails does not stop the others.

    Raises
    ------
    RunError
        At once where memory does not suffice; at the end, naming the jobs that failed
        and why.
    """
    monitor = Monitor(experiment.training.epochs)
    waiting = []
    for job in jobs:
        done = is_finished(job)
        monitor.jobs.append(JobState(job.name, finished=done, resumed=done))
        if not done:
            waiting.append((job, monitor.jobs[-1]))
    if executor is not None:
        check_executor(executor)
    workers = getattr(executor, "_max_workers", 1)
    if getattr(executor, "here", True):  # nobody knows the memory of other machines
        check_memory(inputs, [job for job, _ in waiting], workers)
    tell = on_progress or (lambda monitor: None)
    tell(monitor)
    forget_shared(folder)
    experiment = engine_for(inputs, experiment, jobs)
    divided = units(inputs, experiment, waiting, workers)
    if executor is None:
        failures = list(_run_here(inputs, experiment, divided, monitor, tell))
    else:
        forked = is_forking(executor)
        place = Path(os.path.abspath(folder))  # a worker may work in another one
        with shared(inputs, experiment, place, plugins, forked=forked) as context:
            failures = list(_run_there(context, executor, divided, monitor, tell))
    if failures:
        reasons = "\n".join(
            f"- {reason}" for reason in _grouped([_reason(*each) for each in failures])
        )
        kept = f"; the others are kept in {folder} and are not run again"
        if len(failures) == len(jobs):
            kept = f", so {folder} has nothing to score; the same command tries again"
        raise RunError(
            f"{len(failures)} of {count(len(jobs), 'job')} failed{kept}:\n{reasons}"
        ) from failures[0][1]


def _run_here(
    inputs: Inputs,
    experiment: Setup,
    divided: Sequence[Unit],
    monitor: Monitor,
    tell: OnProgress,
) -> Iterator[tuple[Work[Any], Exception]]:
    def reporting(state: JobState) -> Report:
        def report(row: Mapping[str, float]) -> None:
            state.epoch, state.loss = int(row["epoch"]), row["total"]
            tell(monitor)

        return report

    for unit in divided:
        several = [(experiment, job, reporting(state)) for job, state in unit]
        try:
            failed = run_jobs(inputs, several)
        except Exception as error:
            failed = [(place, error) for place in range(len(unit))]
        yield from _marked(unit, failed)
        tell(monitor)


def _run_there(
    context: Path,
    executor: Executor,
    divided: Sequence[Unit],
    monitor: Monitor,
    tell: OnProgress,
) -> Iterator[tuple[Work[Any], Exception]]:
    forked = is_forking(executor)
    calls = [pack(_placed(unit), forked=forked) for unit in divided]

    def begin(number: int) -> Future[Answer]:
        return executor.submit(_run_in_context, str(context), calls[number])

    futures = {begin(number): number for number in range(len(divided))}
    lost: set[Future[Answer]] = set()
    with _sending(context, executor) as send, _dropping(executor, futures):
        while futures:
            done = wait(futures, _POLL_SECONDS, return_when="FIRST_COMPLETED").done
            for future in futures.keys() - lost:
                workers: Sequence[str] = getattr(future, "workers", ())
                if len(workers) > 1:
                    lost.add(future)
                    _warn_of_loss(divided[futures[future]], workers[0])
            for future in done:
                number = futures.pop(future)
                try:
                    failed = _received(divided[number], future)
                except Unseen:
                    send(divided)
                    futures[begin(number)] = number
                else:
                    yield from _marked(divided[number], failed)
            for number in futures.values():
                for job, state in divided[number]:
                    _read_progress(job, state)
            tell(monitor)


@contextmanager
def _dropping(executor: Executor, futures: Iterable[Future[Any]]) -> Iterator[None]:
    """Have nothing go on elsewhere that is not done at this block's end."""
    try:
        yield
    finally:
        # A pool of this machine is killed, and stumbles over what was cancelled.
        local = isinstance(executor, ProcessPoolExecutor)
        for future in () if local else futures:
            future.cancel()


def _received(unit: Unit, future: Future[Answer]) -> Failed:
    """Return which jobs failed; put what others left on a machine of its own here."""
    try:
        failed, content = future.result()
        for place, files_of in content.items():
            receive(unit[place][0], files_of)
    except Unseen:
        raise
    except Exception as error:  # of the process, or of sending to it
        return [(place, error) for place in range(len(unit))]
    return failed


@contextmanager
def _sending(
    context: Path, executor: Executor
) -> Iterator[Callable[[Sequence[Unit]], None]]:
    """Give what sends, once, all that workers share to those that do not see it."""
    sent: list[Any] = []

    def send(divided: Sequence[Unit]) -> None:
        if sent:
            return
        sent.append(executor)
        for job in (job for unit in divided for job, _ in unit):
            if not is_finished(job):
                begin_folder(job)  # for its progress
        sent[0].send(context, PROGRESS, _keep_progress)

    try:
        yield send
    finally:
        for each in sent:
            each.take_back(context)


def _placed(unit: Unit) -> list[Work[Any]]:
    """Return jobs whose files a process finds, in whatever folder it works."""
    placed = [replace(job, folder=os.path.abspath(job.folder)) for job, _ in unit]
    return [
        replace(job, start=os.path.abspath(job.start))
        if isinstance(job, Job) and job.start is not None
        else job
        for job in placed
    ]


def _warn_of_loss(unit: Unit, worker: str) -> None:
    first, more = unit[0][0].name, len(unit) - 1
    jobs = f"{first} and {count(more, 'other')}" if more else first
    warnings.warn(
        f"The worker {worker} was lost; what it was at is run once more: {jobs}.",
        DomainemoWarning,
        stacklevel=2,
    )


def _keep_progress(path: str, text: str) -> None:
    """Write down what a machine that shares no disk with this one tells of a job."""
    place = Path(os.sep, path)
    if place.parent.is_dir():  # else it is finished
        write_file(place, text)


def _reason(job: Work[Any], error: Exception) -> tuple[str, str]:
    """Return the job's name, and why it failed."""
    if isinstance(error, DomainemoError):
        return job.name, str(error).removeprefix(f"{job.name}: ")
    if isinstance(error, BrokenProcessPool):
        return job.name, (
            "a worker process died, perhaps for want of memory. Run again to resume, "
            "with fewer --jobs."
        )
    return job.name, unforeseen(error)


def _grouped(failures: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield each reason once, with the jobs it stopped."""
    jobs: dict[str, list[str]] = {}
    for name, reason in failures:
        jobs.setdefault(reason, []).append(name)
    for reason, names in jobs.items():
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        yield f"{'; '.join(names[:2])}{more}: {reason}"


def _read_progress(job: Work[Any], state: JobState) -> None:
    """Take note of how far a job is; what cannot be read will be written again."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        text = (partial_folder(job) / PROGRESS).read_text(encoding="utf-8")
        content = json.loads(text)
        state.epoch, state.loss = content["epoch"], content["loss"]


def forget_shared(folder: Path) -> None:
    """Remove what a run or a study that was killed had laid out for its workers.

    Parameters
    ----------
    folder : Path
        Of the run or the study, which nobody else is at.
    """
    for stale in folder.glob(".work-*"):
        shutil.rmtree(stale, ignore_errors=True)


@contextmanager
def shared(
    inputs: Inputs,
    content: Any,
    folder: Path,
    plugins: Sequence[str],
    *,
    forked: bool = False,
) -> Iterator[Path]:
    """Lay out what all workers share, so that they map it instead of copying it.

    Parameters
    ----------
    inputs : Inputs
    content : object
        What else they need; it may be of a class of a plug-in.
    folder : Path
        Where it is laid out for as long as the block runs.
    plugins : sequence of str
        Files to import first.
    forked : bool
        Whether the workers are copies of this process.

    Yields
    ------
    Path
        To be handed to :func:`load_shared`.

    Raises
    ------
    ConfigurationError
        If the content cannot be sent to workers, see :func:`~domainemo.processes.pack`.
    """
    # A name of its own: workers keep what they have read under it.
    context = folder / f".work-{uuid.uuid4().hex}"
    try:
        with files.explained(context):
            context.mkdir(parents=True)
            # Numbered: a modality's name may be no file's, or that of one elsewhere.
            for number, name in enumerate(inputs.modalities):
                _lay_out(inputs.signals[name], context / f"{number}.npy")
            bare = replace(inputs, signals={}, modalities={})
            packed = pack((bare, dict(inputs.modalities), content), forked=forked)
            (context / "content.pickle").write_bytes(packed)
            listed = json.dumps([str(Path(plugin).resolve()) for plugin in plugins])
            (context / "plugins.json").write_text(listed, encoding="utf-8")
        yield context
    finally:
        shutil.rmtree(context, ignore_errors=True)


def _lay_out(array: np.ndarray, path: Path) -> None:
    """Put an array into a file; one that is mapped from a file is linked instead."""
    if isinstance(array, np.memmap) and _is_file(array):
        # A link, so that it stays when the cache makes the entry anew.
        try:
            os.link(str(array.filename), path)
        except OSError:  # on another disk
            pass
        else:
            return
    np.save(path, array)


def _is_file(array: np.memmap[Any, Any]) -> bool:
    """Return whether a mapped array is what NumPy reads from its file.

    Not where it was changed in memory, is a part or another shape of it, or the file is
    none of NumPy's.
    """
    if array.mode != "r" or not array.flags.c_contiguous or not array.filename:
        return False
    try:
        kept = np.load(array.filename, mmap_mode="r")
    except (OSError, ValueError):
        return False
    same = kept.shape == array.shape and kept.dtype == array.dtype
    return bool(same and kept.flags.c_contiguous and kept.offset == array.offset)


def _run_in_context(context: str, packed: bytes) -> Answer:
    sent = parcels()
    if sent is not None and not Path(context).is_dir():
        return _run_apart(sent / Path(context).name, packed)
    inputs, experiment = load_shared(context)
    # Only now, as a job may name a class of a plug-in that the context has loaded.
    jobs: list[Work[Any]] = unpack(packed)
    return run_jobs(inputs, [(experiment, job, None) for job in jobs]), {}


def _run_apart(context: Path, packed: bytes) -> Answer:
    """Do the same on a machine that shares no disk with the one that asks.

    Raises
    ------
    Unseen
        If this machine was not sent what it needs.
    """
    if not context.is_dir():
        raise Unseen
    _check_files(_plugins_of(context))
    inputs, experiment = load_shared(str(context))
    jobs: list[Work[Any]] = unpack(packed)
    _check_files([job.start for job in jobs if isinstance(job, Job)])
    ours = [replace(job, folder=str(_here(context, job.folder))) for job in jobs]
    failed = run_jobs(inputs, [(experiment, job, None) for job in ours])
    made = {place: job for place, job in enumerate(ours) if is_finished(job)}
    content = {place: give_away(job) for place, job in made.items()}
    return failed, content


def _here(context: Path, folder: str) -> Path:
    """Return a job's folder on a machine that shares no disk."""
    path = Path(folder)
    return context / path.relative_to(path.anchor)


def _check_files(paths: Iterable[str | None]) -> None:
    for path in paths:
        if path is not None and not Path(path).exists():
            raise ConfigurationError(
                f"{path}: there is no such file on {socket.gethostname()}, a machine "
                f"of the cluster. Recordings are sent to it; put this file there under "
                f"the same path, or give all machines a disk that they share."
            )


def _marked(unit: Unit, failed: Failed) -> Iterator[tuple[Work[Any], Exception]]:
    """Say of each job whether it is finished; yield those that failed."""
    errors = dict(failed)
    for place, (job, state) in enumerate(unit):
        state.finished = place not in errors
        state.failed = not state.finished
        if state.failed:
            yield job, errors[place]


@lru_cache(maxsize=1)
def load_shared(context: str) -> tuple[Inputs, Any]:
    """Return the recordings and the content that another process has laid out."""
    folder = Path(context)
    # The pickle is our own, of this run; plug-ins first, since it may name them.
    for plugin in _plugins_of(folder):
        load_plugin(plugin)
    packed = (folder / "content.pickle").read_bytes()
    bare, modalities, content = unpack(packed)
    signals = {
        name: np.load(folder / f"{number}.npy", mmap_mode="r")
        for number, name in enumerate(modalities)
    }
    return replace(bare, signals=signals, modalities=modalities), content


def _plugins_of(context: Path) -> list[str]:
    content = (context / "plugins.json").read_text(encoding="utf-8")
    plugins: list[str] = json.loads(content)
    return plugins
