"""How many trainings run at once on this machine, and what runs them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from numbers import Integral
from typing import Any, Literal

from .. import processes
from ..errors import ConfigurationError
from .experiment import Setup

__all__ = ["Jobs", "at_once", "check_jobs", "running"]

Jobs = int | Literal["auto"]
"""How many train at once, each in a process of this machine; auto: one a core."""


def check_jobs(jobs: Any, executor: Executor | None = None) -> None:
    """Refuse what is no number of processes, and processes beside an executor.

    Raises
    ------
    ConfigurationError
    """
    whole = isinstance(jobs, Integral) and not isinstance(jobs, bool)
    if jobs != "auto" and not (whole and jobs > 0):
        raise ConfigurationError(
            f"jobs is {jobs!r}; expected a number of processes, or 'auto'."
        )
    if executor is not None and jobs != 1:
        raise ConfigurationError(
            f"jobs is {jobs!r}, and an executor was given, which has the processes "
            f"that it has. Leave either out."
        )


def at_once(jobs: Jobs, chosen: Setup, most: int | None = None) -> int:
    """Return how many processes train: of auto a core each, and a single one on a GPU.

    Parameters
    ----------
    jobs : int or "auto"
    chosen : Setup
    most : int, optional
        How many trainings there are, where that is known.
    """
    if jobs == "auto":
        alone = chosen.device != "cpu"
        jobs = 1 if alone else processes.cores() // chosen.training.threads
    return int(max(1, jobs if most is None else min(jobs, most)))


@contextmanager
def running(
    executor: Executor | None, jobs: Jobs, chosen: Setup, most: int | None = None
) -> Iterator[Executor | None]:
    """Give a block what trains: the executor, processes of this machine, or neither.

    Parameters
    ----------
    executor : Executor or None
    jobs, chosen, most
        See :func:`at_once`.
    """
    count = at_once(jobs, chosen, most)
    if executor is not None or count == 1:
        yield executor
        return
    with processes.process_pool(count) as pool:
        yield pool
