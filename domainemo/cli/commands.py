"""The commands: one a file."""

from __future__ import annotations

import typer

from .adapt import adapt
from .benchmark import benchmark
from .compare import compare
from .data import app as data
from .doctor import doctor
from .export import export
from .interpret import interpret
from .listing import list_parts
from .new import new
from .predict import predict
from .pretrain import pretrain
from .report import report
from .select import select
from .show import show
from .terminal import echo
from .train import train
from .tune import tune

__all__ = ["app"]

app = typer.Typer(
    name="domainemo",
    help="Cross-domain adaptation for multimodal emotion recognition.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("adapt")(adapt)
app.command("benchmark")(benchmark)
app.command("compare")(compare)
app.command("interpret")(interpret)
app.command("list")(list_parts)
app.command("show")(show)
app.command("new")(new)
app.command("predict")(predict)
app.command("export")(export)
app.command("pretrain")(pretrain)
app.command("train")(train)
app.command("tune")(tune)
app.command("report")(report)
app.command("select")(select)
app.command("doctor")(doctor)
app.add_typer(data, name="data")


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    if version:
        from .. import __version__

        echo(f"domainemo {__version__}")
        raise typer.Exit
