"""Which jobs are run as one program: trainings that differ in fold and seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard, TypeVar

from ..core import Inputs
from .experiment import Experiment, Setup
from .job import Job, Work
from .memory import available_memory, memory_needed

__all__ = ["is_population", "stackable", "units"]

_MOST = 16
"""Of one program; beyond, a step takes longer in proportion."""

_SHARE = 0.5
"""Of the free memory, for the recordings of trainings that run as one program."""

State = TypeVar("State")


def is_population(chosen: Setup) -> TypeGuard[Experiment]:
    """Return whether trainings are to be run as one program."""
    return isinstance(chosen, Experiment) and chosen.more["engine"] == "population"


def stackable(
    chosen: Experiment, jobs: Sequence[Work[Any]]
) -> TypeGuard[Sequence[Job]]:
    """Return whether jobs are trainings of which one program can be made."""
    if chosen.outside:
        return False  # each in a process of its own, so that nothing is kept
    for job in jobs:
        if not isinstance(job, Job) or job.adapter is None:
            return False
        if not chosen.build_adapter(job.adapter).vectorises:
            return False
    return True


def units(
    inputs: Inputs,
    chosen: Setup,
    waiting: Sequence[tuple[Work[Any], State]],
    workers: int,
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
        How many units run at once.
    """
    if not is_population(chosen):
        return [[each] for each in waiting]
    alike: dict[str, list[tuple[Work[Any], State]]] = {}
    for job, state in waiting:
        name = job.method if stackable(chosen, [job]) else job.name
        alike.setdefault(name, []).append((job, state))
    found = []
    for group in alike.values():
        size = _at_once(inputs, [job for job, _ in group], workers)
        found += [group[at : at + size] for at in range(0, len(group), size)]
    return found


def _at_once(inputs: Inputs, jobs: Sequence[Work[Any]], workers: int) -> int:
    """Return how many trainings make one program, by the workers and the memory."""
    size, free = min(-(-len(jobs) // workers), _MOST), available_memory()
    if free is not None:
        needed = max(memory_needed(inputs, [job]) for job in jobs)
        size = min(size, int(_SHARE * free / workers / max(needed, 1)))
    return max(size, 1)
