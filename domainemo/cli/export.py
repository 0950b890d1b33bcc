"""``domainemo export``: a trained fold as a file that others run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..files import doubted
from . import options as use
from .completion import names_of
from .stopping import interruptible
from .terminal import echo

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a `train` or an `adapt`.")],
    to: Annotated[
        str, typer.Option(help="onnx, for ONNX runtimes; or torch, for torch alone.")
    ] = "onnx",
    fold: Annotated[str | None, typer.Option(help="Which fold's model.")] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="Whose network; else the run's adapter. none: source only.",
            autocompletion=names_of("adapter"),
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which seed's model.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The file, .onnx or .pt2; by default in the run's folder."),
    ] = None,
    recordings: Annotated[
        bool,
        typer.Option(
            help="Read the run's recordings again, to normalise its target as it was "
            "and to check the file on the test windows."
        ),
    ] = True,
    data_root: Annotated[
        str | None,
        typer.Option(help="Folder of the recordings, where it has been moved."),
    ] = None,
    plugin: use.Plugin = None,
    cache: use.Cache = True,
) -> None:
    """Write one file of a trained network that is run without domainemo.

    It takes windows as recorded and gives probabilities: normalisation, names of
    classes, channels and features, and how it came about are in it. It is run once and
    compared with the run before it is kept. A model card beside it says how its number
    was obtained.
    """
    from .exporting import export as write

    choices: dict[str, Any] = {"fold": fold, "adapter": adapter, "seed": seed}
    choices |= {"recordings": recordings, "data_root": data_root, "cache": cache}
    with interruptible(), doubted(run):
        use.import_plugins(plugin)
        told: list[str] = []
        path = write(run, to, output, **choices, tell=told.append)  # type: ignore[arg-type]
    echo(f"{path} is the network, {path}.md its card. {told[0]}")
