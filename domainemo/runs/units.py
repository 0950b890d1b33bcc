"""Which jobs are run as one program: trainings that differ in fold and seed alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

from ..core import Inputs
from ..errors import DomainemoWarning
from .experiment import Setup, is_population
from .job import Work
from .memory import available_memory, memory_needed

__all__ = ["units"]

_MOST = 16
"""Of one program; beyond, a step takes longer in proportion."""

_SHARE = 0.5
"""Of the free memory, for the recordings of trainings that run as one program."""

State = TypeVar("State")


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
    told: set[str] = set()
    for job, state in waiting:
        why = job.why_alone(chosen)
        alike.setdefault(job.method if why is None else job.name, []).append(
            (job, state)
        )
        if why and why not in told:
            told.add(why)
            warnings.warn(
                f"{job.method}: {why}, so that its folds are run one by one, and not "
                f"as one program.",
                DomainemoWarning,
                stacklevel=2,
            )
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
