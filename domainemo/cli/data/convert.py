"""``domainemo data convert``: write recordings as a folder in the table format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import ConfigurationError
from ..options import Plugin
from ..stopping import interruptible
from ..terminal import echo
from .shared import (
    Jobs,
    Name,
    Root,
    Sets,
    at_once,
    open_dataset,
    progress,
)

__all__ = ["convert"]


def convert(
    dataset: Name,
    output: Annotated[
        Path, typer.Option(help="The folder to write; it must not exist.")
    ],
    data_root: Root = None,
    set_: Sets = None,
    plugin: Plugin = None,
    jobs: Jobs = "auto",
) -> None:
    """Write a data set as a table folder.

    It holds what the options make of the recordings, such as features of raw signals.
    The data sets mne and bids are folders of your own recordings.
    """
    import shlex

    from ... import __version__

    if output.exists():
        raise ConfigurationError(
            f"{output}: this exists, and nothing was written; name a folder that does "
            f"not exist yet."
        )
    count = at_once(jobs)
    with interruptible("No folder was left behind; the same command starts again."):
        opened = open_dataset(dataset, data_root, set_, plugin)
        from ...data.loading import load
        from ...data.table import write_table

        with progress() as tell:
            data = load(opened, jobs=count, on_read=tell)
        note = f"Converted by domainemo {__version__}."
        write_table(data, output, description=note)
    place = shlex.quote(str(output.resolve()))
    echo(f"{len(data):,} windows are in {output}. Use them with:")
    echo(f"domainemo adapt --dataset {place}")
