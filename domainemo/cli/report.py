"""``domainemo report``: a finished run, or a study, as one page that people read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..files import doubted
from . import options as use
from .stopping import interruptible
from .terminal import echo

__all__ = ["report"]


def report(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a finished `adapt`, or of a `tune`.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The page to write; by default report.html in the folder."),
    ] = None,
    data_root: Annotated[
        str | None,
        typer.Option(help="Folder of the recordings, where it has been moved."),
    ] = None,
    recordings: Annotated[
        bool,
        typer.Option(help="Read a run's recordings again, for what needs them."),
    ] = True,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where a study is kept, if not in its folder; it is only read."
        ),
    ] = None,
    plugin: use.Plugin = None,
    cache: use.Cache = True,
) -> None:
    """Write a report: one self-contained HTML file, and its figures and tables.

    Figures (SVG and PDF) and tables (CSV) go to a folder beside the page, of the same
    name. Nothing is trained. Without its recordings, a run's report lacks embeddings
    and attention, and says so. That of people whose labels nobody knows never reads
    any, and has no figure that would need a label.
    """
    from .reporting import report as write

    with interruptible(), doubted(folder):
        use.import_plugins(plugin)
        page = write(
            folder,
            output,
            recordings=recordings,
            data_root=data_root,
            storage=storage,
            cache=cache,
            tell=lambda text: echo(text, err=True, lines=True),
        )
    echo(f"{page} is the report; its figures and tables are in {page.with_suffix('')}.")
