"""Run a benchmark and write its table and page: for the command, and from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..places import naming_parts
from ..values import check_value, given_path, plain
from .grid import grid_of, read_grid

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

    from ..benchmarks.cells import Outcome
    from ..benchmarks.findings import Findings
    from ..benchmarks.running import Load
    from ..data.reader import OnRead
    from ..runs.at_once import Jobs
    from ..runs.execution import Monitor
    from .grid import Grid

__all__ = ["benchmark", "default_folder", "loading", "run_grid"]


@naming_parts()
def benchmark(
    file: str | Path | Mapping[str, Any],
    *,
    output: str | Path | None = None,
    data_root: str | Path | None = None,
    datasets: Sequence[str] | None = None,
    jobs: Jobs = 1,
    executor: Executor | None = None,
    cache: bool = True,
    on_cell: Callable[[Outcome], None] | None = None,
) -> pd.DataFrame:
    """Run every combination that a benchmark names, to one table.

    This is ``domainemo benchmark``: the same keys, folder, table and page. What is
    finished there is kept, and the rest is run.

    Parameters
    ----------
    file : path or mapping
        The TOML file, the name of one that is shipped, such as ``uf-ama-ablation``, or
        what such a file holds: ``datasets``, ``protocols``,
        ``backbones`` and ``adapters``, for all of them what a configuration says, and
        the ``reference`` that others are compared with, if any.
    output : path, optional
        Its folder; by default ``runs/benchmark-FILE``. A mapping needs one.
    data_root : path, optional
        Where the recordings of all data sets lie; else ``DOMAINEMO_DATA``.
    datasets : sequence of str, optional
        Only these, by what the benchmark calls them; the table is of them alone.
    jobs : int or "auto"
        How many folds are trained at once, each in a process of this machine.
    executor : concurrent.futures.Executor, optional
        Where folds are trained instead, such as :func:`domainemo.cluster`'s.
    cache : bool
        Keep what was read on disk for the next time.
    on_cell : callable, optional
        Told what came of each combination.

    Returns
    -------
    DataFrame
        A row for each method on each data set under each protocol, as ``table.csv``
        has it. What could not be run has no number, and its column ``why`` says why.

    Raises
    ------
    ConfigurationError
        For anything unknown or ill-typed, before anything is read; and where the
        folder holds cells of another configuration.

    Examples
    --------
    >>> import domainemo as de
    >>> table = de.benchmark("benchmarks/example.toml", output="example")
    >>> table[["backbone", "method", "balanced_accuracy", "difference"]]
    """
    from ..runs.at_once import at_once, running
    from ..runs.execution import check_call

    check_call(executor, None, jobs)
    check_value("on_cell", on_cell, Callable | None)
    root = None if data_root is None else str(given_path("data_root", data_root))
    folder = None if output is None else given_path("output", output)
    said = {"data_root": root}
    if isinstance(file, Mapping):
        if folder is None:
            raise ConfigurationError(
                "This benchmark is a mapping, which has no file to name its folder "
                "after. Say where its table and runs go: output=FOLDER."
            )
        grid = grid_of(plain(dict(file)), said)
    else:
        grid = read_grid(str(given_path("file", file, "a file")), said)
    grid = grid if datasets is None else grid.only(datasets)
    load = loading(grid, cache)
    folder = folder or default_folder(grid)
    # The one of which the fewest can be trained at once.
    chosen = min((c.experiment for c in grid.cells()), key=partial(at_once, jobs))
    with running(executor, jobs, chosen) as pool:
        return run_grid(grid, folder, load, executor=pool, on_cell=on_cell).table


def default_folder(grid: Grid) -> Path:
    """Return where the table and the runs of a file go."""
    return Path("runs") / f"benchmark-{Path(grid.file).stem}"


def loading(grid: Grid, cache: bool, on_read: OnRead | None = None) -> Load:
    """Return what reads a data set; every reader is made at once, or refused.

    Parameters
    ----------
    grid : Grid
    cache : bool
        Keep what was read on disk for the next time.
    on_read : callable, optional
        Told of every recording that was read.
    """
    from ..data.loading import load
    from .configuration import load_dataset

    readers = {
        name: load_dataset(each.dataset, each.data_root)
        for name, each in grid.datasets.items()
    }
    return lambda name: load(readers[name], cache=cache, on_read=on_read)


def run_grid(
    grid: Grid,
    folder: Path,
    load: Load,
    *,
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    on_cell: Callable[[Outcome], None] | None = None,
) -> Findings:
    """Run what is missing of a benchmark; write its table and its page.

    Parameters
    ----------
    grid : Grid
    folder : Path
    load, executor, on_progress, on_cell
        See :func:`~domainemo.benchmarks.running.run_cells`.
    """
    from ..benchmarks.findings import gather, write_findings
    from ..benchmarks.running import run_cells
    from ..reports.benchmark import write_benchmark_report

    outcomes = run_cells(
        grid.cells(),
        load,
        folder,
        executor=executor,
        on_progress=on_progress,
        on_cell=on_cell,
        plugins=grid.plugins,
    )
    findings = gather(outcomes, grid.content, grid.reference)
    write_findings(folder, findings)
    write_benchmark_report(folder / "report.html", findings)
    return findings
