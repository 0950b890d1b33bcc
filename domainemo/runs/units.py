"""Which jobs are run as one program: trainings of one method."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..core import Inputs
from ..errors import DomainemoWarning
from ..words import count
from .experiment import Experiment, Setup, is_population
from .job import Job, Work
from .memory import free_on, held_by_a_step, memory_needed, step_needed

__all__ = ["MOST", "engine_for", "units"]

MOST = 16
"""Of one program; beyond, a step takes longer in proportion."""

_SHARE = 0.5
"""Of the free memory, for trainings that run as one program where nobody says more."""

_GIB = 2**30

_FEWEST = 8
"""On a CPU, so that two workers have four each: of small networks four took .75 to .87
of the time alone, two 1.3 times it (`benchmarks/speed.py OUTPUT --members 1 2 4 8`)."""

_KEPT = 16e6
"""Bytes that a network keeps for a step's gradients, where stacking on a CPU begins to
cost more than it saves: 1.4 times as fast at 13 MB; above, three of four networks lose
(docs/speed.md)."""

State = TypeVar("State")
Choices = TypeVar("Choices", bound=Setup)


def engine_for(inputs: Inputs, chosen: Choices, jobs: Sequence[Work[Any]]) -> Choices:
    """Return choices with the engine that ``"auto"`` is, and why; others as they are.

    It depends on the network, the recordings, the device and how many trainings there
    are, not on how many run at once or how much memory is free, so that the same
    command has the same numbers elsewhere.

    Parameters
    ----------
    inputs : Inputs
        All recordings.
    chosen : Setup
    jobs : sequence of Work
        All, whether or not they are finished.
    """
    if not isinstance(chosen, Experiment) or chosen.more["engine"] != "auto":
        return chosen
    networks = [job for job in jobs if isinstance(job, Job) and job.adapter]
    one = {job.method: job for job in networks}
    alone = {name: job.why_alone(chosen) for name, job in one.items()}
    trainings = [job for job in networks if alone[job.method] is None]
    most = max(Counter(job.method for job in trainings).values(), default=0)
    cuda = chosen.device.startswith("cuda")
    if networks and not trainings:
        engine, why = "single", next(each for each in alone.values() if each)
    elif most < (2 if cuda else _FEWEST):
        engine, why = "single", f"{count(most, 'training')} of a method are few"
    elif cuda:
        engine, why = "population", "a GPU has room for several trainings at once"
    else:
        _, kept = held_by_a_step(inputs, chosen, trainings[0])
        small = kept <= _KEPT
        engine = "population" if small else "single"
        told = f"{'at most' if small else 'more than'} {_KEPT / 1e6:.0f}"
        why = f"the network keeps {kept / 1e6:.1f} MB for a step's gradients, {told}"
    more = {"engine": engine, "engine_why": f"{engine}: {why}"}
    return replace(chosen, more={**chosen.more, **more})


def units(
    inputs: Inputs,
    chosen: Setup,
    waiting: Sequence[tuple[Work[Any], State]],
    workers: int,
    processes: int | None = None,
    whole: int = 1,
) -> list[list[tuple[Work[Any], State]]]:
    """Divide jobs into those that run as one program: each alone, unless asked for.

    Parameters
    ----------
    inputs : Inputs
        All recordings.
    chosen : Setup
    waiting : sequence of pair
        Jobs, each with something beside it.
    workers : int
        How many units of these run at once.
    processes : int, optional
        How many share the memory; by default as many.
    whole : int
        So many in a row belong together: they are divided only where a program does
        not hold them, and then all alike.
    """
    if not is_population(chosen):
        return [[each] for each in waiting]
    alike: dict[str, list[tuple[Work[Any], State]]] = {}
    told: set[str] = set()
    for job, state in waiting:
        why = job.why_alone(chosen)
        # The name of one that is alone may be another candidate's, too.
        key = job.method if why is None else job.folder
        alike.setdefault(key, []).append((job, state))
        if why and why not in told:
            told.add(why)
            warnings.warn(
                f"Some trainings are run one by one, and not as one program: {why}.",
                DomainemoWarning,
                stacklevel=2,
            )
    found = []
    for group in alike.values():
        jobs = [job for job, _ in group]
        size = _at_once(inputs, chosen, jobs, workers, processes or workers)
        together = max(size - size % whole, whole)
        for first in range(0, len(group), together):
            part = group[first : first + together]
            found += [part[at : at + size] for at in range(0, len(part), size)]
    return found


def _at_once(
    inputs: Inputs,
    chosen: Experiment,
    jobs: Sequence[Work[Any]],
    workers: int,
    processes: int,
) -> int:
    """Return how many trainings make one program, by the workers and the memory."""
    size = min(-(-len(jobs) // workers), MOST)
    allowed, free = chosen.more["memory"], free_on(chosen.device)
    if allowed is not None:
        room = allowed * _GIB
    elif free is not None:
        room = _SHARE * free
    else:
        return size
    if size > 1 and isinstance(jobs[0], Job):
        needed = max(memory_needed(inputs, [job]) for job in jobs)
        needed += step_needed(inputs, chosen, jobs[0])
        size = min(size, int(room / processes / needed))
    return max(size, 1)
