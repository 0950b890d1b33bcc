"""``domainemo interpret``: what trained folds attend to, as tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from ..files import doubted
from . import options as use
from .names import check_run
from .stopping import interruptible
from .terminal import echo

if TYPE_CHECKING:
    from ..review.interpretation import Interpretation

__all__ = ["interpret"]

_TABLES = {
    "attention": "regions",
    "cross_modal": "moments",
    "cross_modal_lags": "lags",
}
_FORMATS = (".svg", ".png")


def interpret(
    run: Annotated[Path, typer.Argument(help="Folder of a finished `adapt`.")],
    fold: Annotated[str | None, typer.Option(help="One fold; else all.")] = None,
    adapter: Annotated[
        str | None,
        typer.Option(help="Whose networks; else the run's adapter. none: source only."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="One seed; else all.")] = None,
    data_root: Annotated[
        str | None,
        typer.Option(help="Folder of the recordings, where it has been moved."),
    ] = None,
    plugin: use.Plugin = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write; by default interpretation-ADAPTER there."),
    ] = None,
) -> None:
    """Show what trained folds attend to on their test windows.

    Writes attention.csv (brain regions by predicted class and subject), cross_modal.csv
    and cross_modal_lags.csv (EEG windows listening to other sensors), and the figures
    as SVG and PNG. No label is used.
    """
    check_run(run)
    from ..review import interpretation as evaluated
    from ..runs.folder import check_no_link, folder_name
    from .configuration import stored_experiment

    with interruptible(), doubted(run):
        use.import_plugins(plugin)
        experiment = stored_experiment(run)
        chosen = adapter or experiment.adapter.name
        folder = output or run / f"interpretation-{folder_name(chosen)}"
        if output is None:
            check_no_link(folder)
        if folder.exists() and any(folder.iterdir()):
            raise ConfigurationError(
                f"{folder}: this folder holds files, and nothing was overwritten; name "
                f"another one with --output."
            )
        found = evaluated.find_folds(
            run, experiment, fold=fold, adapter=adapter, seed=seed
        )
        if experiment.validator is None:
            echo(
                "Note: the run's figures are an oracle's; these networks are the last "
                "epoch's.",
                err=True,
            )
        # With labels, by which the run may have chosen classes; no other use is made.
        instead = "review.interpretation.interpret"
        data = use.recordings_of_run(run, data_root, True, instead)
        made = evaluated.interpret(
            found, experiment, data, lambda name: echo(name, err=True)
        )
        _write(folder, made)
    _show(made)
    echo("")
    echo(f"Tables and figures are in {folder}.")


def _write(folder: Path, made: Interpretation) -> None:
    from ..files import write
    from ..reports.attention import figures
    from ..reports.style import save

    for name, attribute in _TABLES.items():
        table = getattr(made, attribute)
        if len(table):
            write(folder / f"{name}.csv", table.to_csv(index=False))
    for name, draw in figures(made).items():
        save(draw, *(folder / f"{name}{ending}" for ending in _FORMATS))


def _show(made: Interpretation) -> None:
    """Print each class's regions of highest attention, beside their occlusion."""
    from ..reports.attention import class_means

    attention, occlusion = (
        class_means(made.regions, column) for column in ("attention", "occlusion")
    )
    for line in (made.name, "", "Mean over subjects; classes as predicted.", ""):
        echo(line)
    for name in attention.index:
        echo(f"{name}: attention; probability lost without the region")
        for region, share in attention.loc[name].nlargest(5).items():
            lost = occlusion.loc[name, region]
            echo(f"  {region:<26}{share:>6.1%}{lost:>+8.3f}")
