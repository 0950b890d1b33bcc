"""What the commands on data sets share: their options, progress, lines of text."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import ConfigurationError, printable
from ..completion import names_of
from ..options import import_plugins, whole_number
from ..terminal import echo

if TYPE_CHECKING:
    from ...core import Dataset

__all__ = [
    "Jobs",
    "Json",
    "Name",
    "Root",
    "Sets",
    "at_once",
    "open_dataset",
    "print_lines",
    "progress",
]

Name = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A data set's name, or the path of a table folder.",
        autocompletion=names_of("dataset"),
    ),
]
Root = Annotated[
    str | None,
    typer.Option(
        "--data-root",
        help="Folder of the recordings; else the environment's DOMAINEMO_DATA.",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="An option of the data set: NAME=VALUE, may be repeated."
    ),
]
Jobs = Annotated[
    str,
    typer.Option("--jobs", help="Files read at once, each in a process; or auto."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the same as JSON, for scripts.")
]


def open_dataset(
    name: str,
    root: str | None,
    sets: Sequence[str] | None,
    plugins: Sequence[str] | None,
) -> Dataset:
    """Return the data set that the command line names, with its options."""
    from ...parts import part
    from ..configuration import dataset_place, load_dataset, parse_options

    import_plugins(plugins)
    name, root = dataset_place(name, root)
    options = {
        key.removeprefix("data."): value
        for key, value in parse_options(sets or [], {"dataset": name}).items()
    }
    dataset: Dataset = load_dataset(part("dataset", name, options), root)
    return dataset


def at_once(jobs: str) -> int | None:
    """Return how many recordings are read at once; None leaves it to the reader."""
    if jobs == "auto":
        return None
    number = whole_number(jobs)
    if not number:
        raise ConfigurationError(
            f"--jobs is {jobs!r}; expected a number of processes, or auto."
        )
    return number


@contextmanager
def progress(first: str = "reading") -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar on a terminal; the function is told how many, of how many, which."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from ..console import Console

    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bars:
        task = bars.add_task(first, total=None)

        def tell(done: int, total: int, what: str) -> None:
            bars.update(task, completed=done, total=total, description=what)

        yield tell


def print_lines(lines: Sequence[str]) -> None:
    """Print paragraphs, wrapped to the terminal; what follows ``- `` is set off."""
    width = max(shutil.get_terminal_size().columns, 40)
    for line in lines:
        filled = textwrap.fill(
            printable(line),
            width,
            subsequent_indent="  " if line.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        echo(filled, lines=True)
