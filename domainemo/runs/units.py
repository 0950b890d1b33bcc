"""Which jobs are run as one program: trainings that differ in fold and seed alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, TypeGuard, TypeVar

from ..core import Inputs
from ..errors import DomainemoWarning
from .experiment import Experiment, Setup
from .job import Job, Work
from .memory import available_memory, memory_needed

__all__ = ["is_population", "units", "why_alone"]

_MOST = 16
"""Of one program; beyond, a step takes longer in proportion."""

_SHARE = 0.5
"""Of the free memory, for the recordings of trainings that run as one program."""

State = TypeVar("State")


def is_population(chosen: Setup) -> TypeGuard[Experiment]:
    """Return whether trainings are to be run as one program."""
    return isinstance(chosen, Experiment) and chosen.more["engine"] == "population"


def why_alone(chosen: Experiment, job: Work[Any]) -> str | None:
    """Return why a job cannot be part of a program, as a phrase; None where it can.

    Parameters
    ----------
    chosen : Experiment
    job : Work
    """
    if not isinstance(job, Job) or job.adapter is None:
        return ""  # no network that trains
    outside = [part.name for part in (*chosen.used, job.adapter) if part.outside]
    if outside:
        return f"{outside[0]} comes from outside and trains in a process of its own"
    if not chosen.build_adapter(job.adapter).vectorises:
        return f"the adapter {job.adapter.name} does not vectorise"
    return None


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
        why = why_alone(chosen, job)
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
