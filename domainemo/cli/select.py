"""``domainemo select``: which of finished runs would be chosen, without a label."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import SELECTED_BY
from . import options as use
from .completion import names_of
from .data.shared import Json
from .names import check_run, options_of
from .stopping import interruptible
from .terminal import echo_json

if TYPE_CHECKING:
    from ..review.selection import Selected

__all__ = ["select"]


def select(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of finished `adapt`; one is enough.")
    ],
    validator: Annotated[
        str,
        typer.Option(
            help="Whose scores are compared.", autocompletion=names_of("validator")
        ),
    ] = SELECTED_BY,
    plugin: use.Plugin = None,
    json: Json = False,
) -> None:
    """Name the run that would be chosen, by which score, without opening a label.

    Every run's source only, which does not adapt, is among the choices.
    """
    from ..files import doubted

    for run in runs:
        check_run(run)
    use.import_plugins(plugin)
    options_of("validator", validator)
    from ..review.selection import select as select_runs

    with interruptible(), ExitStack() as stack:
        for run in runs:
            stack.enter_context(doubted(run))
        found = select_runs(*runs, validator=validator)
    if json:
        echo_json({**found.record(), "sentences": found.sentences()})
    else:
        _show(found)


def _show(found: Selected) -> None:
    from .console import Console, Table

    console, table = Console(), Table()
    for number, heading in enumerate(
        ("run", "method", found.validator, "each alone", "sound", "folds")
    ):
        table.add_column(heading, justify="right" if number > 1 else "left")
    for row in found.choices.itertuples():
        chosen = (found.folds["run"] == row.run) & (found.folds["method"] == row.method)
        table.add_row(
            str(row.run),
            str(row.method),
            f"{row.score:.3f}",
            f"{row.alone:.3f}",
            "yes" if row.sound else "no",
            str(int(chosen.sum())),
        )
    console.print(table)
    console.print()
    for line in found.sentences():
        console.say(line)
