"""``domainemo predict``: apply a trained fold to a new recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from ..words import are, count
from . import options as use
from .completion import names_of
from .names import check_run
from .terminal import echo

if TYPE_CHECKING:
    import pandas as pd

    from ..core import Dataset
    from ..parts import Part

__all__ = ["predict"]


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a `train` or an `adapt`.")],
    dataset: Annotated[
        str,
        typer.Option(
            help="A data set's name, or the path of a table folder.",
            autocompletion=names_of("dataset"),
        ),
    ] = "table",
    data_root: Annotated[
        str | None,
        typer.Option(
            help="Folder of the recordings; else the environment's DOMAINEMO_DATA."
        ),
    ] = None,
    fold: Annotated[str | None, typer.Option(help="Which fold's model.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Which adapter's model.")] = None,
    seed: Annotated[int | None, typer.Option(help="Which seed's model.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="An option of the data set, data.NAME=VALUE, or of what adapts, "
            "adapter.NAME=VALUE.",
        ),
    ] = None,
    plugin: use.Plugin = None,
    normalise_by: Annotated[
        str | None,
        typer.Option(
            help="Whose mean and deviation the recording is normalised by: own, "
            "source, or the table folder of a baseline of the same subjects; by "
            "default as in training."
        ),
    ] = None,
    adapt: Annotated[
        str | None,
        typer.Option(
            help="First adapt the model to the recording, without the source: an "
            "adapter that needs none, such as tent.",
            autocompletion=names_of("adapter"),
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A file to write, .csv; else it is printed.")
    ] = None,
) -> None:
    """Apply a model, of `train` or a fold of `adapt`, to recordings without labels."""
    check_run(run)
    from ..data.loading import load_inputs
    from ..data.table import Table
    from ..files import doubted
    from ..runs.model import find_trained, load_trained
    from ..runs.prediction import check_free
    from .configuration import stored_experiment

    if output is not None:
        check_free(output)
    use.import_plugins(plugin)
    trained_folder = find_trained(run, fold=fold, adapter=adapter, seed=seed)
    with doubted(run):
        model = load_trained(trained_folder, stored_experiment(run))
    if model.experiment.validator is None:
        echo(
            "Note: the run's figures are an oracle's; this model is the last epoch's.",
            err=True,
        )
    reader, changed = _parts(dataset, data_root, adapt, set_ or [])
    inputs = load_inputs(reader)
    by: Any = normalise_by
    if by not in (None, "own", "source"):
        by = Table(_baseline_folder(by)).load_inputs()
    with doubted(run):
        table = model.predict(inputs, by, changed)
    _show(table, output)


def _parts(
    dataset: str, data_root: str | None, adapt: str | None, given: list[str]
) -> tuple[Dataset, Part | None]:
    """Return what reads the recordings, and what adapts, with the options given."""
    from ..parts import part, unknown_option
    from .configuration import dataset_place, load_dataset, of_group, parse_options

    name, root = dataset_place(dataset, data_root)
    names = {"dataset": name, **({"adapter": adapt} if adapt else {})}
    options = parse_options(given, names)
    known = ["data", *(["adapter"] if adapt else [])]
    for option in options:
        if option.partition(".")[0] not in known:
            expected = [f"{group}.NAME" for group in known]
            raise ConfigurationError(unknown_option("predict", option, expected))
    reader = load_dataset(part("dataset", name, of_group("data", options)), root)
    return reader, part(
        "adapter", adapt, of_group("adapter", options)
    ) if adapt else None


def _show(table: pd.DataFrame, output: Path | None) -> None:
    """Print the predictions, or write them to a file."""
    from ..files import write

    text = table.to_csv(index=False)
    if output is None:
        echo(text.removesuffix("\n"), lines=True)
        return
    write(output, text)
    verb = are(len(table))
    echo(f"{count(len(table), 'prediction')} {verb} in {output}.")


def _baseline_folder(given: str) -> Path:
    """Return the table folder that was named, or whose table was."""
    path = Path(given)
    if path.name in ("windows.csv", "dataset.toml"):
        return path.parent
    if path.is_file():
        raise ConfigurationError(
            f"--normalise-by {given}: found a file that is no table folder's; expected "
            f"own, source, or a baseline recording as a table folder, or the "
            f"windows.csv in one. Make the folder with write_table "
            f"(docs/own-recordings.md)."
        )
    if not path.is_dir():
        raise ConfigurationError(
            f"--normalise-by {given!r}: found no such folder; expected own, source or "
            f"the table folder of a baseline recording (docs/own-recordings.md)."
        )
    return path
