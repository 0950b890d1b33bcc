"""``domainemo benchmark``: data sets x protocols x backbones x adapters, to a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import RunError
from ..words import count
from . import options as use
from .completion import names_of
from .stopping import interruptible

if TYPE_CHECKING:
    from ..benchmarks.cells import Outcome
    from ..benchmarks.findings import Findings
    from ..benchmarks.running import Load
    from ..core import EmotionData
    from .grid import Grid

__all__ = ["benchmark"]


def benchmark(
    file: Annotated[
        str,
        typer.Argument(
            help="The benchmark: a TOML file, or its name.",
            autocompletion=names_of("benchmark"),
        ),
    ],
    *,
    data_root: Annotated[
        str | None, typer.Option(help="Folder of the recordings, of all data sets.")
    ] = None,
    datasets: Annotated[
        str | None,
        typer.Option(help="Only these of its data sets: names, with commas between."),
    ] = None,
    plugin: use.Plugin = None,
    jobs: use.Jobs = "auto",
    executor: use.Where = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Its folder; by default runs/benchmark-FILE."),
    ] = None,
    cache: use.Cache = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be trained only.")
    ] = False,
) -> None:
    """Run every combination that a file names, to one table and one page.

    The file says datasets, protocols, backbones and adapters, each a list of names or
    a table, and for all of them what a configuration of `adapt` says. Each combination
    is a run of its own in the folder's `cells`, beside source only and the controls,
    which run once. Ctrl-C keeps what is finished; the same command resumes.
    """
    from .benchmarking import default_folder
    from .grid import read_grid

    with interruptible():
        use.check_executing(executor, jobs)
        use.import_plugins(plugin)
        grid = read_grid(file, {"data_root": data_root, "plugins": plugin})
        if datasets is not None:
            grid = grid.only(use.names(datasets, "--datasets"))
        folder = output or default_folder(grid)
        if dry_run:
            _show_plan(grid, folder, _loading(grid, cache))
        else:
            _run(grid, folder, jobs, executor, _loading(grid, cache))


def _loading(grid: Grid, cache: bool) -> Load:
    """Return what reads a data set, and shows how far it is."""
    from .benchmarking import loading
    from .screens import Reading

    def read(name: str) -> EmotionData:
        with Reading() as reading:
            return loading(grid.only([name]), cache, reading.update)(name)

    loading(grid, cache)  # what cannot be read at all is refused at once
    return read


def _run(grid: Grid, folder: Path, jobs: str, where: str | None, load: Load) -> None:
    from .benchmarking import run_grid
    from .screens import Progress

    # The one of which the fewest can be trained at once.
    experiments = [cell.experiment for cell in grid.cells()]
    chosen = min(experiments, key=lambda each: use.at_once(jobs, each))
    opened = use.executing(where, jobs, chosen)
    with opened as executor, Progress() as progress:
        console = progress.console

        def tell(outcome: Outcome) -> None:
            done = f"no number: {outcome.why}" if outcome.why else "done"
            console.say(f"{outcome.cell.name}: {done}")

        findings = run_grid(
            grid,
            folder,
            load,
            executor=executor,
            # Elsewhere a line for each cell is enough.
            on_progress=progress.update if console.is_terminal else None,
            on_cell=tell,
        )
    _show_table(findings, folder)
    outcomes = findings.outcomes
    failed = sum(bool(each.why) for each in outcomes)
    if failed:
        raise RunError(
            f"{failed} of {count(len(outcomes), 'cell')} have no number; the table "
            f"says why. The same command tries them again."
        )


def _show_table(findings: Findings, folder: Path) -> None:
    """Print the table of each data set and protocol."""
    from ..benchmarks.printed import in_words
    from .console import Console, Table

    console = Console()
    for group in findings.groups:
        own = findings.table["dataset"].eq(group.dataset)
        own &= findings.table["protocol"].eq(group.protocol)
        rows = [in_words(row) for row in findings.table[own].to_dict("records")]
        # Where no cell has a number, none says what one would be of.
        of = f"per {group.level}" if group.methods else "no numbers"
        table = Table(title=f"{group.name}, {of}")
        # The table's file has these, for which a terminal is too narrow.
        left_out = ("less logistic regression", "p of that", "parameters")
        headings = [name for name in max(rows, key=len) if name not in left_out]
        for heading in headings:
            left = heading in ("backbone", "method")
            table.add_column(
                heading,
                justify="left" if left else "right",
                no_wrap=heading == "backbone",
            )
        for row in rows:
            table.add_row(*(row.get(heading, "-") for heading in headings))
        console.print(table)
    console.say(
        f"{folder / 'table.csv'} (.md, .parquet, .tex) is the table, "
        f"{folder / 'report.html'} the page."
    )


def _show_plan(grid: Grid, folder: Path, load: Load) -> None:
    """Print what each cell would train, and about how long all of it takes."""
    from ..benchmarks.planning import plan_cells
    from .console import Console, Table

    console = Console()
    planned = plan_cells(grid.cells(), load, folder)
    table = Table(title=grid.file)
    for heading in ("data set", "protocol", "backbone", "adapter"):
        table.add_column(heading, no_wrap=True)
    for heading in ("trainings", "finished"):
        table.add_column(heading, justify="right")
    for each in planned:
        numbers = str(each.trainings), str(each.finished)
        table.add_row(*each.cell.key, *(("-", "-") if each.why else numbers))
    console.print(table)
    for each in planned:
        if each.why:
            console.say(f"{each.cell.name}: no number: {each.why}")
    missing = sum(each.missing for each in planned)
    seconds = sum(each.missing * each.seconds for each in planned if each.missing)
    console.say(
        f"{count(len(planned), 'cell')}, {count(missing, 'training')} to run"
        + (f": about {_time(seconds)} or more in one process" if missing else "")
        + f"; folder {folder}."
    )
    if missing:
        console.say(
            "That is by two epochs of source only, measured here on the first fold of "
            "each data set, protocol and backbone; adapters take longer."
        )


def _time(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
