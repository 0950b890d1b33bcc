"""The options that `adapt` and `pretrain` share, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from ..processes import cores
from ..registry import load_plugin
from ..values import LARGEST_SEED, check_seeds

if TYPE_CHECKING:
    from ..core import EmotionData
    from ..runs.experiment import Setup
    from .configuration import Configuration

Text = str | None

Dataset = Annotated[
    Text, typer.Option(help="A data set's name, or the path of a table folder.")
]
DataRoot = Annotated[
    Text,
    typer.Option(
        help="Folder of the recordings; else the environment's DOMAINEMO_DATA."
    ),
]
Protocol = Annotated[Text, typer.Option(help="Who trains, who is tested.")]
Backbone = Annotated[Text, typer.Option(help="The fusion network.")]
Adapter = Annotated[Text, typer.Option(help="The adapter; several joined by '+'.")]
Normalisation = Annotated[Text, typer.Option(help="session, subject, source or none.")]
Sampling = Annotated[
    Text,
    typer.Option(help="windows, sequences or trials; else the backbone's own."),
]
Modalities = Annotated[Text, typer.Option(help="Modalities to use, such as eeg,eye.")]
Exclude = Annotated[
    Text,
    typer.Option(
        help="Subjects, and channels as MODALITY/CHANNEL, to leave out altogether, "
        "such as 6,7,eeg/Cz."
    ),
]
Seeds = Annotated[Text, typer.Option(help="Seeds, such as 0,1,2.")]
Epochs = Annotated[int | None, typer.Option(help="Short for --set training.epochs=N.")]
BatchSize = Annotated[
    int | None, typer.Option(help="Short for --set training.batch_size=N.")
]
Device = Annotated[Text, typer.Option(help="auto, cpu, cuda, cuda:1.")]
Jobs = Annotated[
    str, typer.Option(help="Folds trained at once, each in a process; or auto.")
]
Output = Annotated[
    Path | None,
    typer.Option(help="The run's folder; by default one named by its contents."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of any part: NAME=VALUE, may be repeated."),
]
Config = Annotated[
    Text, typer.Option(help="A TOML file, a run's folder, or the name of a study.")
]
Plugin = Annotated[
    list[str] | None,
    typer.Option(help="A Python file that registers parts; may be repeated."),
]
Cache = Annotated[
    bool, typer.Option(help="Keep what was read on disk for the next time.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the folds and their sizes only.")
]


def import_plugins(paths: Sequence[str] | None) -> None:
    """Import the plug-ins that this command names."""
    for path in paths or ():
        load_plugin(path)


def with_shortcuts(
    sets: Sequence[str] | None, epochs: int | None, batch_size: int | None
) -> list[str]:
    """Return what ``--set`` says, after the short forms."""
    short = {"training.epochs": epochs, "training.batch_size": batch_size}
    return [f"{k}={v}" for k, v in short.items() if v is not None] + list(sets or ())


def names(text: str | None, option: str) -> list[str] | None:
    """Read a list of names."""
    if text is None:
        return None
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise ConfigurationError(
            f"{option} is {text!r}; expected names with commas between them, none of "
            f"them empty."
        )
    return found


def whole_number(text: str) -> int | None:
    """Return a whole number that is not negative; None where the text is none."""
    # Python itself would take digits of any script, and fail at superscripts.
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def seeds(text: str | None, option: str = "--seeds") -> list[int] | None:
    """Read seeds."""
    if text is None:
        return None
    found = [whole_number(seed) for seed in text.replace(" ", ",").split(",") if seed]
    if not found or None in found:
        raise ConfigurationError(
            f"{option} is {text!r}; expected whole numbers such as 0,1,2, from 0 to "
            f"{LARGEST_SEED}."
        )
    return check_seeds(option, found)


def recordings(configuration: Configuration[Any], cache: bool) -> EmotionData:
    """Read the data set, or map what was read before."""
    from ..data.loading import load
    from .configuration import load_dataset
    from .screens import Reading

    reader = load_dataset(configuration.dataset, configuration.data_root)
    with Reading() as reading:
        return load(reader, cache=cache, on_read=reading.update)


def recordings_of_run(
    run: Path, data_root: str | None, cache: bool, instead: str
) -> EmotionData:
    """Read the recordings that a run's own configuration names.

    Parameters
    ----------
    run : Path
    data_root : str, optional
        Where they are now, if not where the run found them.
    cache : bool
    instead : str
        What to call for a run that was made from Python.

    Raises
    ------
    ConfigurationError
        If the run was made from Python.
    """
    from ..data.loading import load
    from ..parts import part
    from .configuration import dataset_place, flatten, load_dataset, read_stored
    from .plugins import only_given

    stored = read_stored(str(run), ("pairs",))
    if "dataset" not in stored:
        raise ConfigurationError(
            f"{run}: this run was made from Python, on {stored.get('recordings')!r}, "
            f"which a configuration cannot name. Call domainemo.{instead} with these "
            f"recordings."
        )
    name, root = dataset_place(stored["dataset"], data_root or stored.get("data_root"))
    options = {
        key.removeprefix("data."): value
        for key, value in flatten(stored.get("options", {})).items()
        if key.startswith("data.")
    }
    with only_given(str(run), stored.get("plugins", ())):
        reader = load_dataset(part("dataset", name, options), root)
    return load(reader, cache=cache)


def workers(text: str, chosen: Setup, jobs: int, option: str = "--jobs") -> int:
    """Return how many processes train: a core each, and a single one on a GPU."""
    if text == "auto":
        if chosen.device != "cpu":
            return 1
        wanted = cores() // chosen.training.threads
    else:
        wanted = whole_number(text) or 0
    if wanted < 1:
        raise ConfigurationError(
            f"{option} is {text!r}; expected a number of processes, or auto."
        )
    return max(1, min(wanted, jobs))
