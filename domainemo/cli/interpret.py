"""``domainemo interpret``: what trained folds attend to, as tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..files import doubted
from . import options as use
from .names import check_new_folder, check_run
from .stopping import interruptible
from .terminal import echo

if TYPE_CHECKING:
    from ..review.interpretation import Interpretation

__all__ = ["interpret"]

_TABLES = {
    "cross_modal": "moments",
    "cross_modal_lags": "lags",
    "connectivity": "connectivity",
    "connections": "connections",
}
_MEASURES = {
    "attention": ("attention", "{:>6.1%}"),
    "occlusion": ("probability lost without the region", "{:>+8.3f}"),
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
    """Show what trained folds attend to on their test windows, or are joined by.

    Writes attention.csv (brain regions by predicted class and subject), cross_modal.csv
    and cross_modal_lags.csv (EEG windows listening to other sensors); of a network of
    graphs occlusion.csv, connectivity.csv (edges between regions) and connections.csv
    (what each class loses without them); and the figures as SVG and PNG. No label is
    used.
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
        check_new_folder(folder)
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
        instead = "interpret(FOLDER, recordings=DATA)"
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

    attends = "attention" in made.regions
    of_regions = {"attention" if attends else "occlusion": "regions"}
    for name, attribute in (of_regions | _TABLES).items():
        table = getattr(made, attribute)
        if len(table):
            write(folder / f"{name}.csv", table.to_csv(index=False))
    for name, draw in figures(made).items():
        save(draw, *(folder / f"{name}{ending}" for ending in _FORMATS))


def _show(made: Interpretation) -> None:
    """Print each class's first regions and pairs of regions, beside their occlusion."""
    from ..reports.attention import class_means
    from ..reports.connectivity import connection_means

    measures = [name for name in _MEASURES if name in made.regions]
    means = {name: class_means(made.regions, name) for name in measures}
    for line in (made.name, "", "Mean over subjects; classes as predicted.", ""):
        echo(line)
    first = means[measures[0]]
    for name in first.index:
        echo(f"{name}: {'; '.join(_MEASURES[each][0] for each in measures)}")
        for region in first.loc[name].nlargest(5).index:
            told = (
                _MEASURES[m][1].format(means[m].loc[name, region]) for m in measures
            )
            echo(f"  {region:<26}{''.join(told)}")
        if len(made.connections):
            echo(f"{name}: probability lost without the edges between")
            lost = connection_means(made.connections).loc[name]
            for pair, fall in lost.nlargest(5).items():
                echo(f"  {' - '.join(pair):<50}{fall:>+8.4f}")
