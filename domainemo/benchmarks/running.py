"""Run the cells of a benchmark: each a run of its own, which is resumed by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from .. import files
from ..core import EmotionData
from ..errors import ConfigurationError, DomainemoError
from ..runs.execution import Monitor
from ..runs.folder import CONFIG, LOCK, locked
from ..runs.initialisation import read_initialisation
from ..runs.plan import plan
from ..runs.pretraining import plan_pretraining, run_pretraining
from ..runs.run import run_plan
from .cells import PLACES, STARTED, Cell, Outcome, check_cells

__all__ = ["Load", "run_cells", "with_data"]

Load = Callable[[str], EmotionData]
"""Reads and matches the data set that a benchmark calls so."""

OnCell = Callable[[Outcome], None]


def _check_root(root: Path) -> None:
    """Refuse a folder that holds anything but a benchmark."""
    if not root.is_dir():
        return
    ours = {files.RECORD, LOCK}
    names = {path.name for path in root.iterdir() if not files.is_partial(path)}
    if names <= ours or (names.intersection(PLACES) and CONFIG not in names):
        return
    found = f"files but no {PLACES[0]}, so this is no benchmark's folder"
    if CONFIG in names:
        found = f"a {CONFIG}, so this is the folder of a run"
    raise ConfigurationError(
        f"{root}: found {found}; nothing was written. Give an --output folder that is "
        f"new or empty."
    )


def run_cells(
    cells: Sequence[Cell],
    load: Load,
    root: Path,
    *,
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    on_cell: OnCell | None = None,
    plugins: Sequence[str] = (),
) -> list[Outcome]:
    """Run what is missing of every cell; one that cannot be run stops no other.

    Parameters
    ----------
    cells : sequence of Cell
    load : callable
        Called once for each data set.
    root : Path
        The benchmark's folder.
    executor, on_progress, plugins
        See :func:`~domainemo.runs.run.run_plan`.
    on_cell : callable, optional
        Told what came of each cell.

    Returns
    -------
    list of Outcome
        In the order of the cells.

    Raises
    ------
    ConfigurationError
        If the folder holds a cell of another configuration, or another process runs
        this benchmark there.
    """
    _check_root(root)
    check_cells(cells, root)
    with files.explained(root):
        root.mkdir(parents=True, exist_ok=True)

    def run(cell: Cell, data: EmotionData) -> Outcome:
        cell = _started(cell, data, root, executor, on_progress, plugins)
        results = run_plan(
            plan(data, cell.experiment),
            cell.folder(root),
            cell.description,
            executor,
            on_progress,
            plugins,
        )
        return Outcome(cell, results.table, results.how())

    outcomes = []
    with locked(root):
        for cell, data in with_data(cells, load):
            try:
                if isinstance(data, DomainemoError):
                    raise data
                outcome = run(cell, data)
            except DomainemoError as error:
                outcome = Outcome(cell, why=" ".join(str(error).split()))
            outcomes.append(outcome)
            if on_cell:
                on_cell(outcome)
    return outcomes


def _started(
    cell: Cell,
    data: EmotionData,
    root: Path,
    executor: Executor | None,
    on_progress: Callable[[Monitor], None] | None,
    plugins: Sequence[str],
) -> Cell:
    """Return a cell whose networks start from its pre-training, which is run."""
    if cell.pretraining is None:
        return cell
    folder = cell.pretraining_folder(root)
    planned = plan_pretraining(data, cell.pretraining)
    run_pretraining(planned, folder, cell.first_stage, executor, on_progress, plugins)
    start = read_initialisation(folder)
    told = dict(zip(STARTED, (start.folder, start.words), strict=True))
    return replace(
        cell,
        experiment=replace(cell.experiment, init_from=start),
        description={**told, **cell.description},
    )


def with_data(
    cells: Sequence[Cell], load: Load
) -> Iterator[tuple[Cell, EmotionData | DomainemoError]]:
    """Yield each cell with its recordings, or why there are none; each read once."""
    for dataset, own in groupby(cells, key=lambda cell: cell.dataset):
        data: EmotionData | DomainemoError
        try:
            data = load(dataset)
        except DomainemoError as error:
            data = error
        for cell in own:
            yield cell, data
