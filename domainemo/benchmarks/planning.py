"""What a benchmark would train, and about how long that takes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..core import EmotionData
from ..errors import DomainemoError
from ..parts import part
from ..runs.execution import execute
from ..runs.plan import Plan, plan
from ..runs.pretraining import PretrainingJob, plan_pretraining
from ..runs.record import load_record
from .cells import Cell, check_cells
from .running import Load, with_data

__all__ = ["Planned", "plan_cells"]


@dataclass(frozen=True)
class Planned:
    """What would be run of a cell.

    Attributes
    ----------
    cell : Cell
    why : str
        Why it cannot be run; empty where it can.
    trainings, finished : int
        All trainings, and those that are there already. Pre-trainings count among those
        of source only.
    seconds : float
        What a training of source only takes, by two epochs that were measured on the
        first fold. NaN where no training is missing.
    """

    cell: Cell
    why: str = ""
    trainings: int = 0
    finished: int = 0
    seconds: float = float("nan")

    @property
    def missing(self) -> int:
        """Trainings that are not there yet."""
        return self.trainings - self.finished


def plan_cells(cells: Sequence[Cell], load: Load, root: Path) -> list[Planned]:
    """Check every cell against its recordings; train but two epochs of each network.

    Parameters
    ----------
    cells, load, root
        See :func:`~domainemo.benchmarks.running.run_cells`.
    """
    check_cells(cells, root)
    measured: dict[tuple[str, ...], float] = {}
    found = []
    for cell, data in with_data(cells, load):
        try:
            if isinstance(data, DomainemoError):
                raise data
            planned = plan(data, cell.experiment)
            before = _first_stage(cell, data, root)
        except DomainemoError as error:
            found.append(Planned(cell, " ".join(str(error).split())))
            continue
        jobs = planned.jobs(cell.folder(root))
        places = [job.folder for job in before] + [job.folder for job in jobs]
        finished = sum(Path(place).is_dir() for place in places)
        network = cell.key[:-1]
        if finished < len(places) and network not in measured:
            measured[network] = _estimate(planned)
        seconds = measured.get(network, float("nan"))
        found.append(Planned(cell, "", len(places), finished, seconds))
    return found


def _first_stage(cell: Cell, data: EmotionData, root: Path) -> list[PretrainingJob]:
    """Return the pre-trainings that a network's cells share, at the first of them."""
    if cell.pretraining is None or cell.adapter != "none":
        return []
    planned = plan_pretraining(data, cell.pretraining)
    return planned.jobs(cell.pretraining_folder(root))


def _estimate(planned: Plan) -> float:
    """Return what a training of source only takes, by few epochs of the first fold."""
    epochs = planned.experiment.training.epochs
    _seconds(planned, 1)  # what a process's first training imports is no part of it
    once = _seconds(planned, 1)
    return once + (epochs - 1) * max(_seconds(planned, 2) - once, 0.0)


def _seconds(planned: Plan, epochs: int) -> float:
    """Return the seconds that so many epochs take."""
    chosen = planned.experiment
    short = replace(
        chosen,
        adapter=part("adapter", "none"),
        training=replace(chosen.training, epochs=epochs),
        baselines=False,
        seeds=chosen.seeds[:1],
    )
    fold = replace(planned, experiment=short, folds=planned.folds[:1])
    with tempfile.TemporaryDirectory() as folder:
        (job,) = fold.jobs(Path(folder))
        execute(
            planned.inputs,
            short,
            [job],
            folder=Path(folder),
            executor=None,
            on_progress=None,
            plugins=(),
        )
        seconds: float = load_record(Path(job.folder)).facts["seconds"]
    return seconds
