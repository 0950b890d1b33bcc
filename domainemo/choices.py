"""The list of choices: one line each, whence everything that names them comes.

To add a choice, add a line to one of the classes below: its annotation, what it is in a
sentence, and its default. The keyword arguments of `run`, `pretrain` and `tune`, the
options of the command line, the keys of a configuration file, the error for a key that
there is not, and ``config.toml`` follow. A choice that needs no form of its own is
checked by its annotation, and the code that uses it finds it in ``Setup.more``.
"""

import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypedDict,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from .errors import ConfigurationError, did_you_mean
from .training.settings import Training
from .values import Bounds, plain

__all__ = [
    "CONTROLS",
    "AdapterChoices",
    "BenchmarkChoices",
    "ORACLE",
    "SELECTED_BY",
    "CalibrationUse",
    "Choice",
    "PlaceChoices",
    "PretrainingChoices",
    "RunChoices",
    "NetworkChoices",
    "SetupChoices",
    "TrainChoices",
    "choices_of",
    "choosing",
    "complete",
    "flatten",
    "keywords",
    "ordered",
    "spelled_out",
]

ORACLE = "oracle"
"""Not a validator: the epoch is chosen by the test labels, after training."""

SELECTED_BY = "rank-average"
"""The validator that candidates of a study, and finished runs, are chosen by where
nothing else is said: ``docs/validator-study.md``."""

CalibrationUse = Literal["training", "selection", "both"]
"""What labels of the target that are given on purpose are for."""

CONTROLS = ("logistic-regression", "majority-class", "clip-duration-only")
"""The controls that run beside an adapter where nothing else is said."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Choice:
    """What a choice is besides its type.

    Attributes
    ----------
    help : str
        A sentence for the command line and for Python.
    default : object
        What is chosen where nothing is said; None where that says it.
    python : str or None
        The sentence for Python, where it is another.
    words : str or None
        What a configuration file may hold, where its type does not tell.
    option : str or None
        The option of the command line, where its name is another.
    repeated : bool
        Whether that option is given once for each of several, in place of commas.
    before : str or None
        What it stands before in every list; else it stands where its line does.
    plain : bool
        Whether files and the command line have it under its name, too.
    short : str or None
        The option of a part that it is another word for.
    annotation : object
        Its type in Python; taken from its line.
    """

    help: str
    default: Any = None
    python: str | None = None
    words: str | None = None
    option: str | None = None
    repeated: bool = False
    before: str | None = None
    plain: bool = True
    short: str | None = None
    annotation: Any = None

    @property
    def types(self) -> tuple[Any, ...]:
        """The types that it may have; None and bounds left out."""
        kind = self.annotation
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        united = get_origin(kind) in (Union, types.UnionType)
        each = get_args(kind) if united else (kind,)
        return tuple(kind for kind in each if kind is not types.NoneType)

    @property
    def stored(self) -> Any:
        """Its type as a configuration file has it."""
        lists = [kind for kind in self.types if get_origin(kind) is Sequence]
        if lists:
            return list[int] if lists == [Sequence[int]] else list[str]
        (kind, *_) = self.types
        if get_origin(kind) is Annotated:  # a number with bounds
            (kind, *_) = get_args(kind)
        if get_origin(kind) is Mapping:
            return dict
        return kind if kind in (bool, int, float) else str

    @property
    def expected(self) -> str:
        """What a configuration file may hold, in words."""
        return self.words or _WORDS[self.stored]


_WORDS: Mapping[Any, str] = {
    str: "a name",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list[str]: "a list of names",
    list[int]: "a list of whole numbers",
}


class PlaceChoices(TypedDict, total=False):
    """Where the recordings and the parts are: Python has them as objects."""

    dataset: Annotated[
        str, Choice("A data set's name, or the path of a table folder.", "simulated")
    ]
    data_root: Annotated[
        str | None,
        Choice(
            "Folder of the recordings; else the environment's DOMAINEMO_DATA.",
            words="a path",
        ),
    ]
    plugins: Annotated[
        Sequence[str] | None,
        Choice(
            "A Python file that registers parts; may be repeated.",
            words="a list of paths",
            option="plugin",
            repeated=True,
            before="cache",
        ),
    ]
    target: Annotated[
        str | None,
        Choice(
            "Whom to adapt to: a data set without labels, or the path of a table "
            "folder.",
            words="a data set's name, or a path",
            before="target_root",
        ),
    ]
    target_root: Annotated[
        str | None,
        Choice(
            "Folder of the target's recordings; else as --data-root.",
            words="a path",
            before="protocol",
        ),
    ]


class NetworkChoices(TypedDict, total=False):
    """What every kind of training chooses."""

    backbone: Annotated[Any, Choice("The fusion network.", "r2gfanet")]
    normalisation: Annotated[
        Any, Choice("By whose windows values are scaled.", "session")
    ]
    sampling: Annotated[
        Any,
        Choice("What a sample is made of; else the backbone's own."),
    ]
    modalities: Annotated[
        Sequence[str] | str | None, Choice("Modalities to use, such as eeg,eye.")
    ]
    channels: Annotated[
        Sequence[str] | str | None,
        Choice(
            "Channels to use, such as Fz,Cz or eeg/Fz; of a modality of which none is "
            "named, all."
        ),
    ]
    exclude_channels: Annotated[
        Sequence[str] | str | None,
        Choice(
            "Channels to leave out, such as Cz,eye/pupil; lacking leaves out those "
            "that any subject lacks.",
            (),
        ),
    ]
    exclude: Annotated[
        Sequence[str | int] | None,
        Choice(
            "Subjects to leave out altogether, such as 6,7.",
            (),
            words="a list of subjects",
        ),
    ]
    classes: Annotated[
        Sequence[str] | str | None,
        Choice(
            "Classes to use, such as positive,negative; windows of others are left out "
            "by their labels."
        ),
    ]
    merge: Annotated[
        Sequence[str] | Mapping[str, Any] | str | None,
        Choice(
            "Classes that become one, such as happy+surprised=positive; several with "
            "commas between.",
            (),
            python='Classes that become one: ["happy+surprised=positive"], or '
            '{"positive": ["happy", "surprised"]}.',
            words="a list of texts such as happy+surprised=positive",
        ),
    ]
    seeds: Annotated[Sequence[int] | None, Choice("Seeds, such as 0,1,2.", (0,))]
    training: Annotated[
        Training | None,
        Choice(
            "How to train: epochs, batch size, learning rate and the like.",
            plain=False,
        ),
    ]
    epochs: Annotated[
        int | None,
        Choice(
            "Short for --set training.epochs=N.",
            python="How many epochs; as the option training.epochs.",
            plain=False,
            short="training.epochs",
        ),
    ]
    batch_size: Annotated[
        int | None,
        Choice(
            "Short for --set training.batch_size=N.",
            python="Samples in a batch; as the option training.batch_size.",
            plain=False,
            short="training.batch_size",
        ),
    ]
    device: Annotated[str, Choice("auto, cpu, cuda, cuda:1.", "auto")]
    options: Annotated[
        Mapping[str, Any] | None,
        Choice('Options of any part, such as {"backbone.width": 32}.', plain=False),
    ]


class SetupChoices(NetworkChoices, total=False):
    """What is chosen where a protocol says who trains."""

    protocol: Annotated[
        Any, Choice("Who trains, who is tested.", "cross-subject", before="backbone")
    ]
    waive: Annotated[
        Sequence[str] | None,
        Choice(
            "Leak checks to waive, by name, such as overlapping-windows; results say "
            "so.",
            (),
        ),
    ]


class TrainChoices(NetworkChoices, total=False):
    """What a final model chooses, which is trained on everybody."""

    adapter: Annotated[
        Any,
        Choice(
            "The adapter, of which the terms for the source alone are used.",
            "none",
            before="validator",
        ),
    ]
    validator: Annotated[
        Any,
        Choice(
            "What chooses the epoch, and looks at no target.",
            "last",
            before="normalisation",
        ),
    ]


class AdapterChoices(SetupChoices, total=False):
    """What a run chooses, and a study for the runs that it compares."""

    adapter: Annotated[
        Any,
        Choice(
            "The adapter; several, and a screen for them, joined by '+'.",
            "whole-trials",
            before="validator",
        ),
    ]
    calibration: Annotated[
        int,
        Bounds(least=0),
        Choice(
            "Labelled trials of every class of the target that are given to training.",
            0,
            before="normalisation",
        ),
    ]
    calibration_use: Annotated[
        CalibrationUse,
        Choice(
            "What they are for: training, selection or both.",
            "training",
            python="What these labels are for: training, selection, where they stand "
            "in place of held-out source domains, or both.",
            before="normalisation",
        ),
    ]
    init_from: Annotated[
        str | Path | None,
        Choice(
            "Start from the folder of a `domainemo pretrain`.",
            python="The folder of a pre-training of the very same folds, from which "
            "all networks start, source only among them. It may have seen more "
            "modalities.",
            words="a path",
            before="folds",
        ),
    ]
    engine: Annotated[
        Literal["single", "population", "auto"] | None,
        Choice(
            "population: several folds and seeds as one program; auto: where that is "
            "faster; else one by one.",
            words="single, population or auto",
            before="output",
        ),
    ]
    memory: Annotated[
        Annotated[float, Bounds(above=0)] | None,
        Choice(
            "GiB that trainings as one program may take; else half of what is free.",
            words="a number above 0",
            before="output",
        ),
    ]


class RunChoices(AdapterChoices, total=False):
    """What a run chooses."""

    validator: Annotated[
        Any,
        Choice(
            "What chooses the epoch, without target labels.",
            "last",
            before="normalisation",
        ),
    ]
    baselines: Annotated[
        bool,
        Choice(
            "Run source only and the controls as well.",
            True,
            before="controls",
        ),
    ]
    controls: Annotated[
        Sequence[Any] | str | None,
        Choice(
            "Controls to run, such as majority-class, else three; none, or all, which "
            "takes long.",
            CONTROLS,
            python="The controls to run, where baselines are: names, classes, objects; "
            "'none'; or 'all' of this package.",
            before="dry_run",
        ),
    ]
    folds: Annotated[
        Sequence[str] | None,
        Choice(
            "Run this fold only, by its name; may be repeated.",
            (),
            python="The names of the folds to run; all by default.",
            option="fold",
            repeated=True,
            before="output",
        ),
    ]


class PretrainingChoices(SetupChoices, total=False):
    """What a pre-training chooses."""

    pairs: Annotated[
        Literal["synchronous", "random"],
        Choice(
            "synchronous, or random: the control.",
            "synchronous",
            before="normalisation",
        ),
    ]


_SEVERAL = "a list of names, or a table with one table of keys for each"


class BenchmarkChoices(TypedDict, total=False):
    """What a benchmark crosses; all else it chooses is a run's, the same for all."""

    datasets: Annotated[
        Sequence[str] | Mapping[str, Any] | str,
        Choice(
            "The data sets: names, or paths of table folders.",
            ("simulated",),
            words=_SEVERAL,
        ),
    ]
    protocols: Annotated[
        Sequence[str] | Mapping[str, Any] | str,
        Choice("The protocols.", ("cross-subject",), words=_SEVERAL),
    ]
    backbones: Annotated[
        Sequence[str] | Mapping[str, Any] | str,
        Choice("The fusion networks, or all.", ("r2gfanet",), words=_SEVERAL),
    ]
    adapters: Annotated[
        Sequence[str] | Mapping[str, Any] | str,
        Choice(
            "The adapters, or all; source only besides.",
            ("whole-trials",),
            words=_SEVERAL,
        ),
    ]


@cache
def choices_of(kind: type) -> dict[str, Choice]:
    """Return the choices of one of these classes, each where it stands in lists."""
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, Choice] = {}
    for name, hint in hints.items():
        annotation, *bounds, choice = get_args(hint)
        if bounds:
            annotation = Annotated[annotation, *bounds]
        found[name] = replace(choice, annotation=annotation)
    return {name: found[name] for name in ordered(found)}


def ordered(choices: Mapping[str, Choice], others: Iterable[str] = ()) -> list[str]:
    """Return the names of choices in order, and those of other things after them.

    A choice that stands before something that there is not stands after the others.
    """
    names = [name for name, choice in choices.items() if choice.before is None]
    last = names[-1]
    names += others
    for name, choice in reversed([*choices.items()]):
        if choice.before is not None:
            known = choice.before in names
            place = choice.before if known else last
            names.insert(names.index(place) + (not known), name)
    return names


def complete(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was chosen, with the default of everything else.

    Raises
    ------
    TypeError
        For a keyword that is no choice.
    """
    choices = choices_of(kind)
    for name in given:
        if name not in choices:
            raise TypeError(
                f"Unexpected keyword argument {name!r}."
                f"{did_you_mean(name, choices)} Expected some of {', '.join(choices)}."
            )
    whole = {name: each.default for name, each in choices.items() if not each.short}
    return whole | spelled_out(kind, given)


def spelled_out(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was chosen, with the options in place of other words for them.

    Numbers of NumPy become plain ones. None in place of a list is the default, as of a
    choice that is None where nothing is said.

    Raises
    ------
    ConfigurationError
        Where an option was given under both.
    """
    choices = choices_of(kind)
    found: dict[str, Any] = {
        name: value
        for name, value in plain(dict(given)).items()
        if value is not None
        or name not in choices
        or not isinstance(choices[name].default, tuple)
    }
    if not isinstance(found.get("options") or {}, Mapping):
        return found  # which is told where options are sorted
    for name, choice in choices.items():
        value = found.pop(name, None) if choice.short else None
        if value is None:
            continue
        _, _, field = str(choice.short).partition(".")
        said = getattr(found.get("training"), field, value)
        if said not in (value, getattr(Training(), field)):
            raise ConfigurationError(
                f"{name} is {value!r}, and training has {field}={said!r}; give one of "
                f"them."
            )
        options = found.get("options") or {}
        if choice.short in options:
            raise ConfigurationError(
                f"{name} is {value!r}, and the option {choice.short} is "
                f"{options[choice.short]!r}; give one of them."
            )
        found["options"] = {**options, choice.short: value}
    return found


def choosing(function: Function) -> Function:
    """Show a function's choices in its signature and its documentation.

    Parameters
    ----------
    function : callable
        Takes ``**choices: Unpack[...]`` of one of the classes above, for which its
        docstring has a line ``**choices``, and a line on it.
    """
    # The rest is for whoever asks `help` or `inspect`; type checkers read the class.
    signature = inspect.signature(function)
    kind = keywords(function)
    choices = choices_of(kind)
    own = {
        name: each
        for name, each in signature.parameters.items()
        if each.kind is not inspect.Parameter.VAR_KEYWORD
    }
    only = inspect.Parameter.KEYWORD_ONLY
    own |= {
        name: inspect.Parameter(
            name, only, default=each.default, annotation=each.annotation
        )
        for name, each in choices.items()
    }
    leading = [name for name, each in own.items() if each.kind is not only]
    trailing = [name for name in own if name not in (*leading, *choices)]
    order = [*leading, *ordered(choices, trailing)]
    shown = signature.replace(parameters=[own[name] for name in order])
    function.__signature__ = shown  # type: ignore[attr-defined]
    if function.__doc__:
        function.__doc__ = _with_choices(function.__doc__, choices)
    return function


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables of a configuration as dotted names.

    An option may be a mapping itself: of a whole name, as a run writes it, and of a
    data set, whose options have no tables inside.
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and "." not in key and prefix != "data.":
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def keywords(function: Callable[..., Any]) -> type:
    """Return the class that a function's ``**choices`` are of."""
    (kind,) = get_args(get_type_hints(function)["choices"])
    return kind  # type: ignore[no-any-return]


def _with_choices(text: str, choices: Mapping[str, Choice]) -> str:
    """Return a docstring with every choice in place of ``**choices``."""
    lines = text.split("\n")
    start = next(i for i, line in enumerate(lines) if line.strip() == "**choices")
    margin = lines[start].removesuffix("**choices")
    shown = []
    for name, choice in choices.items():
        kinds = (
            "name, class or object" if k is Any else _named(k) for k in choice.types
        )
        optional = ", optional" if choice.default is None else ""
        shown.append(f"{margin}{name} : {' or '.join(kinds)}{optional}")
        shown.append(f"{margin}    {choice.python or choice.help}")
    return "\n".join([*lines[:start], *shown, *lines[start + 2 :]])


def _named(kind: Any) -> str:
    if kind is Any:
        return "name, class or object"
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Sequence:
        each = getattr(inner[0], "__name__", str(inner[0]))
        return f"sequence of {each.replace(' | ', ' or ')}"
    if origin is Literal:
        return f"{{{', '.join(map(repr, inner))}}}"
    return "mapping of str to value" if origin is Mapping else str(kind.__name__)
