"""``domainemo data``: look at a data set, convert it, fetch it; one command a file."""

from __future__ import annotations

import typer

from .check import check
from .convert import convert
from .describe import describe
from .download import download

__all__ = ["app"]

app = typer.Typer(
    help="Check, describe, convert and download data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("check")(check)
app.command("describe")(describe)
app.command("convert")(convert)
app.command("download")(download)
