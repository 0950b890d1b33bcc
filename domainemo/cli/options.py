"""The options of the commands that train: those of the choices, and what they share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

import typer

from ..choices import Choice, PlaceChoices, choices_of, flatten, ordered
from ..errors import ConfigurationError
from ..registry import load_plugin
from ..values import LARGEST_SEED, check_seeds
from ..words import divided
from .completion import names_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ..core import EmotionData, Inputs
    from ..runs.experiment import Setup
    from .configuration import Configuration

Text = str | None
Command = TypeVar("Command", bound=Callable[..., None])

Jobs = Annotated[
    str,
    typer.Option("--jobs", help="Folds trained at once, each in a process; or auto."),
]
Where = Annotated[
    Text,
    typer.Option(
        "--executor",
        help="dask, the address of a Dask scheduler, or a TOML file that asks SLURM; "
        "else processes of this machine.",
    ),
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
    Text,
    typer.Option(
        help="A TOML file, a run's folder, or the name of a study.",
        autocompletion=names_of("config"),
    ),
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


TARGET = ("target", "target_root")
"""The choices that are for `adapt` alone."""


def import_plugins(paths: Sequence[str] | None) -> None:
    """Import the plug-ins that this command names."""
    for path in paths or ():
        load_plugin(path)


def offering(kind: type, without: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Give a command an option for every choice of a kind.

    Parameters
    ----------
    kind : type
        Such as :class:`~domainemo.choices.RunChoices`. The command takes
        ``**said`` and hands it to :func:`read`.
    without : sequence of str
        Choices that the command does not offer.
    """

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters
        others = [each for name, each in own.items() if name != "said"]
        choices = {k: v for k, v in _choices(kind).items() if k not in without}
        options = {name: _options(name, choice) for name, choice in choices.items()}
        options |= {each.name: [each] for each in others}
        order = ordered(choices, [each.name for each in others])
        shown = [each for name in order for each in options[name]]
        command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        return command

    return decorate


def read(kind: type, said: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what the command line chooses, and what else it sets, as ``NAME=VALUE``.

    Parameters
    ----------
    kind : type
        Of the choices that the command offers.
    said : mapping
        The texts and numbers that it was given; None where it says nothing.
    """
    chosen, sets = {}, []
    for name, choice in _choices(kind).items():
        if choice.short and said.get(name) is not None:
            sets.append(f"{choice.short}={said[name]}")
        if choice.plain:
            chosen[name] = _value(name, choice, said.get(name))
    return chosen, sets


def _choices(kind: type) -> dict[str, Choice]:
    return choices_of(PlaceChoices) | choices_of(kind)


def _options(name: str, choice: Choice) -> list[inspect.Parameter]:
    """Return the options for a choice, as typer reads them off a signature."""
    only = inspect.Parameter.KEYWORD_ONLY
    offered = {}
    if choice.plain or choice.short:
        kind: Any = choice.stored if choice.stored in (bool, int, float) else str
        kind = list[str] if choice.repeated else Path if Path in choice.types else kind
        usual = choice.default
        words = f" By default {usual}." if isinstance(usual, str) else ""
        offered[name] = (kind | None, choice.help + words, choice.option or name)
    return [
        inspect.Parameter(
            key, only, default=None, annotation=Annotated[kind, _option(kind, *rest)]
        )
        for key, (kind, *rest) in offered.items()
    ]


def _option(kind: Any, words: str, name: str) -> Any:
    # A switch has two names, which typer makes of one.
    names = [] if bool in get_args(kind) else [f"--{name.replace('_', '-')}"]
    return typer.Option(*names, help=words, autocompletion=names_of(name))


def _value(name: str, choice: Choice, said: Any) -> Any:
    """Read what a command line says of a choice."""
    option = f"--{(choice.option or name).replace('_', '-')}"
    if choice.repeated:
        return said or None
    if isinstance(said, Path):
        return str(said)
    if said is None or choice.stored in (bool, int, float):
        return said
    if int in choice.types:  # a number, or names
        number = whole_number(said)
        return names(said, option) if number is None else number
    if choice.stored == list[int]:
        return seeds(said, option)
    return names(said, option) if choice.stored == list[str] else said


def names(text: str, option: str) -> list[str]:
    """Read a list of names; one with a comma in it stands in double quotes."""
    found = divided(text)
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


def seeds(text: str, option: str) -> list[int]:
    """Read seeds."""
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


def newcomers(
    configuration: Configuration[Any], cache: bool
) -> EmotionData | Inputs | None:
    """Read whom to adapt to; None where nobody is named.

    Labels are read where the protocol scores by them, and not looked at else.
    """
    from ..data.loading import load, load_inputs
    from .configuration import load_dataset

    if configuration.target is None:
        return None
    reader = load_dataset(configuration.target, configuration.target_root)
    protocol = configuration.experiment.protocol.build()
    if protocol.takes_target and protocol.scored:
        return load(reader, cache=cache)
    return load_inputs(reader, cache=cache)


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
    from .configuration import dataset_place, load_dataset, of_group, read_stored
    from .plugins import only_given

    stored = read_stored(str(run), ("pairs",))
    if "dataset" not in stored:
        raise ConfigurationError(
            f"{run}: this run was made from Python, on {stored.get('recordings')!r}, "
            f"which a configuration cannot name. Call domainemo.{instead} with these "
            f"recordings."
        )
    name, root = dataset_place(stored["dataset"], data_root or stored.get("data_root"))
    options = of_group("data", flatten(stored.get("options", {})))
    with only_given(str(run), stored.get("plugins", ())):
        reader = load_dataset(part("dataset", name, options), root)
    return load(reader, cache=cache)


def jobs_of(text: str) -> int | Literal["auto"]:
    """Read how many processes there are to be.

    Raises
    ------
    ConfigurationError
    """
    if text == "auto":
        return "auto"
    wanted = whole_number(text) or 0
    if wanted < 1:
        raise ConfigurationError(
            f"--jobs is {text!r}; expected a number of processes, or auto."
        )
    return wanted


def at_once(text: str, chosen: Setup, most: int | None = None) -> int:
    """Return how many train at once, see :func:`domainemo.runs.at_once.at_once`."""
    from ..runs.at_once import at_once as processes_for

    return processes_for(jobs_of(text), chosen, most)


def _workers(text: str) -> int | None:
    """Read how many workers a cluster is to have; None where it decides itself."""
    wanted = jobs_of(text)
    return None if isinstance(wanted, str) else wanted


def check_executing(where: str | None, text: str) -> None:
    """Refuse what :func:`executing` could not open, before anything is read."""
    from ..machines import check_cluster

    if where is not None:
        check_cluster(where, _workers(text))


@contextmanager
def executing(
    where: str | None, text: str, chosen: Setup, jobs: int | None = None
) -> Iterator[Executor | None]:
    """Open what trains in a block: processes of this machine, a cluster, or neither.

    Parameters
    ----------
    where : str or None
        What ``--executor`` says.
    text : str
        What ``--jobs`` says.
    chosen : Setup
    jobs : int, optional
        How many there are to train, where that is known.
    """
    from ..machines import LOCAL, cluster
    from ..runs.at_once import running

    if where is None:
        with running(None, jobs_of(text), chosen, jobs) as executor:
            yield executor
        return
    count = at_once(text, chosen, jobs) if where == LOCAL else _workers(text)
    with cluster(where, count, threads=chosen.training.threads) as executor:
        yield executor
