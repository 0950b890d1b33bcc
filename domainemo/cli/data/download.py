"""``domainemo data download``: fetch a data set that anybody may download."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ...errors import ConfigurationError
from ..names import check_dataset
from ..stopping import interruptible
from ..terminal import echo
from .shared import Name, Root, progress

__all__ = ["download"]


def download(
    dataset: Name,
    data_root: Root = None,
    url: Annotated[
        str | None, typer.Option(help="A mirror to fetch from, ending in a slash.")
    ] = None,
) -> None:
    """Fetch the files of a data set that is free to all.

    What is there and whole is not fetched again. For any other data set, it says who
    offers it.
    """
    import shlex

    from ...data.download import EEGMAT_URL
    from ...data.download import download as fetch

    check_dataset(dataset)
    place = data_root or os.environ.get("DOMAINEMO_DATA") or None
    if place is None:
        raise ConfigurationError(
            f"No place for the files of {dataset!r} was named. Say where they go with "
            f"--data-root FOLDER or the environment variable DOMAINEMO_DATA."
        )
    with (
        interruptible("Whole files are kept; the same command fetches the others."),
        progress("connecting") as tell,
    ):
        paths = fetch(dataset, place, tell, url=url or EEGMAT_URL)
    came = f"{len(paths)} file{'s are' if len(paths) > 1 else ' is'}"
    echo(f"{came} in {place}. Look at {dataset} with:")
    echo(f"domainemo data check {dataset} --data-root {shlex.quote(place)}")
