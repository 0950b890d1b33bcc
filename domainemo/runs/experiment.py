"""What is run: every choice that a number depends on, in one value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Self, Unpack

from .. import __version__
from ..choices import RunChoices, SetupChoices, choices_of, choosing, complete
from ..core import Backbone, Modality, Sampling
from ..data.normalisation import describe
from ..data.sampling import SAMPLINGS
from ..errors import ConfigurationError
from ..parts import Part, part, unknown_option
from ..training.settings import Training
from ..values import check_seeds, check_value
from .initialisation import Initialisation, read_initialisation

__all__ = [
    "ORACLE",
    "SOURCE_ONLY",
    "Experiment",
    "Setup",
    "experiment",
    "grouped",
    "method_name",
    "setup_choices",
]

ORACLE = "oracle"
"""Not a validator: the epoch is chosen by the test labels, after training."""

SOURCE_ONLY = "source only"
"""The name under which the unadapted network stands in every table."""


def method_name(adapter: str) -> str:
    """Return what an adapter is called in tables; without one, source only."""
    return SOURCE_ONLY if adapter == "none" else adapter


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every kind of training chooses, in the form in which it is used.

    What is chosen is listed in `domainemo.choices`.

    Attributes
    ----------
    protocol, backbone : Part
    normalisation : str
    sampling : str or None
        None leaves the backbone its own.
    sampling_options : mapping
    modalities : tuple of str or None
        None uses all.
    exclude : tuple of str
        Subjects left out altogether, and channels, each as ``"MODALITY/CHANNEL"``.
    training : Training
    seeds : tuple of int
    device : str
    more : mapping of str to value
        The choices that have no field of their own, by name.
    """

    protocol: Part
    backbone: Part
    normalisation: str
    sampling: str | None
    sampling_options: Mapping[str, Any]
    modalities: tuple[str, ...] | None
    exclude: tuple[str, ...]
    training: Training
    seeds: tuple[int, ...]
    device: str
    more: Mapping[str, Any] = field(default_factory=dict)

    choices: ClassVar[type] = SetupChoices
    """What is chosen, as it is given."""

    parts: ClassVar[tuple[str, ...]] = ("protocol", "backbone")
    """The fields that are parts, which a configuration names with their options."""

    settings: ClassVar[tuple[str, ...]] = Training.names()
    """The settings of the training that mean anything here."""

    @property
    def plugins(self) -> tuple[str, ...]:
        """The files outside this package that the parts come from."""
        parts = (getattr(self, name) for name in self.parts)
        return tuple(sorted({path for part in parts if part for path in part.plugins}))

    @property
    def outside(self) -> bool:
        """Whether a part comes from outside this package."""
        parts = (getattr(self, name) for name in self.parts)
        return any(part.outside for part in parts if part)

    def build_backbone(self, modalities: Mapping[str, Modality]) -> Backbone:
        """Return a new backbone with the sampling that was asked for."""
        backbone: Backbone = self.backbone.build(modalities)
        sampling = self.build_sampling()
        if sampling is not None:
            backbone.sampling = sampling
        return backbone

    def build_sampling(self) -> Sampling | None:
        """Return the sampling that was asked for, if any."""
        if self.sampling is None:
            return None
        return SAMPLINGS[self.sampling](**self.sampling_options)

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """Return the same choices with some options changed.

        Parameters
        ----------
        options : mapping of str to value
            By full name, such as ``{"adapter.weight": 0.3}``.

        Raises
        ------
        ConfigurationError
            For an option or a value that does not fit.
        """
        given = grouped(options, [*self.parts, "training"])
        training = _training(self.training, given.pop("training"), self.settings)
        parts = {
            name: replace(
                getattr(self, name), options=getattr(self, name).options | new
            )
            for name, new in given.items()
            if new
        }
        return replace(self, training=training, **parts)

    def describe(self) -> dict[str, Any]:
        """Return every choice, defaults spelled out, as a configuration file has it."""
        options: dict[str, Any] = {}
        for name in self.parts:
            chosen: Part | None = getattr(self, name)
            described = chosen.describe() if chosen else {}
            options |= {f"{name}.{key}": value for key, value in described.items()}
        for key, value in self.sampling_options.items():
            options[f"sampling.{key}"] = value
        for key, value in asdict(self.training).items():
            if key in self.settings:
                options[f"training.{key}"] = value
        told = self.names()
        for name in choices_of(self.choices):
            told.setdefault(name, self._told(name))
        told["options"] = {k: v for k, v in sorted(options.items()) if v is not None}
        told = {key: value for key, value in told.items() if value is not None}
        return {"domainemo": __version__, **told}

    def names(self) -> dict[str, Any]:
        """Return the parts' names, and the choices that only this kind of run has."""
        shared = choices_of(SetupChoices).keys() - set(self.parts)
        own = [name for name in choices_of(self.choices) if name not in shared]
        return {name: self._told(name) for name in own}

    def _told(self, name: str) -> Any:
        """Return a choice as a configuration file has it; None where it has none."""
        if not choices_of(self.choices)[name].plain:
            return None
        value = self.more[name] if name in self.more else getattr(self, name)
        if isinstance(value, Part):
            return value.name
        if isinstance(value, Initialisation):
            return value.folder
        return (list(value) or None) if isinstance(value, tuple | list) else value


@dataclass(frozen=True, kw_only=True)
class Experiment(Setup):
    """Every choice of a run but the recordings.

    Attributes
    ----------
    adapter : Part
    validator : Part or None
        None stands for the oracle.
    baselines : bool
        Whether source only and the controls run beside the adapter.
    init_from : Initialisation or None
        The pre-training that every network starts from; None starts at random.
    folds : tuple of str
        The names of the folds that are run; empty for all.
    """

    adapter: Part
    validator: Part | None
    baselines: bool
    init_from: Initialisation | None = None
    folds: tuple[str, ...] = ()

    choices: ClassVar[type] = RunChoices
    parts: ClassVar[tuple[str, ...]] = ("protocol", "backbone", "adapter", "validator")

    @property
    def selection(self) -> str:
        """The rule that chose the epoch, in words."""
        if self.validator is None:
            return "oracle (target labels)"
        return self.validator.name

    @property
    def trained(self) -> list[Part | None]:
        """What is trained: the adapter, source only, and None for the linear model."""
        if not self.baselines:
            return [self.adapter]
        if self.adapter.name == "none":
            return [self.adapter, None]
        return [self.adapter, part("adapter", "none"), None]

    def names(self) -> dict[str, Any]:
        """Return the parts' names, and the choices that only this kind of run has."""
        told = {}
        for name, value in super().names().items():
            told[name] = value
            if name == "init_from":
                start = self.init_from
                told["initialisation"] = start.words if start else None
        return told | ({"validator": ORACLE} if self.validator is None else {})


@choosing
def experiment(**choices: Unpack[RunChoices]) -> Experiment:
    """Make an experiment of names, classes or objects.

    Parameters
    ----------
    **choices
        See `domainemo.choices.RunChoices`.

    Raises
    ------
    ConfigurationError
        For a name, an option or a value that does not fit.
    """
    given = complete(RunChoices, choices)
    options = grouped(given["options"], _GROUPS)
    folds, start = given["folds"], given["init_from"]
    oracle = given["validator"] == ORACLE
    made = Experiment(
        **setup_choices(given, options, Experiment),
        adapter=part("adapter", given["adapter"], options["adapter"]),
        validator=None
        if oracle
        else part("validator", given["validator"], options["validator"]),
        baselines=given["baselines"],
        init_from=None if start is None else read_initialisation(start),
        folds=tuple([folds] if isinstance(folds, str) else _names("folds", folds)),
    )
    check_value("baselines", made.baselines, bool)
    # Parts whose options clash are refused here, before any recording is read.
    made.protocol.build()
    made.adapter.build()
    made.build_sampling()
    return made


def setup_choices(
    given: Mapping[str, Any],
    options: Mapping[str, Mapping[str, Any]],
    made: type[Setup],
) -> dict[str, Any]:
    """Return the checked fields that every :class:`Setup` has.

    Parameters
    ----------
    given : mapping of str to value
        Every choice.
    options : mapping of str to mapping
        Options by part.
    made : type
        What they are the fields of.

    Raises
    ------
    ConfigurationError
        For a name, an option or a value that does not fit.
    """
    modalities = given["modalities"]
    modalities = None if modalities is None else _names("modalities", modalities)
    if modalities is not None and not modalities:
        raise ConfigurationError(
            "modalities is an empty list; expected at least one name, or None for all."
        )
    training = Training() if given["training"] is None else given["training"]
    check_value("training", training, Training)
    exclude = _names("exclude", given["exclude"])
    normalisation, sampling = given["normalisation"], given["sampling"]
    check_value("normalisation", normalisation, str)
    check_value("sampling", sampling, str | None)
    describe(normalisation)
    if "sampling" in options["backbone"]:
        raise ConfigurationError(
            "backbone.sampling cannot be set; name the sampling with --sampling and "
            "its options with --set sampling.NAME=VALUE."
        )
    if sampling is not None and sampling not in SAMPLINGS:
        raise ConfigurationError(
            f"There is no sampling called {sampling!r}; expected one of "
            f"{', '.join(SAMPLINGS)}."
        )
    return {
        "seeds": _seeds(given["seeds"]),
        "protocol": part("protocol", given["protocol"], options["protocol"]),
        "backbone": part("backbone", given["backbone"], options["backbone"]),
        "normalisation": normalisation,
        "sampling": sampling,
        "sampling_options": _sampling_options(sampling, options["sampling"]),
        "modalities": None if modalities is None else tuple(modalities),
        "exclude": tuple(exclude),
        "training": _training(training, options["training"], made.settings),
        "device": resolve_device(given["device"]),
        "more": _more(given, made),
    }


def _seeds(given: Any) -> tuple[int, ...]:
    seeds = check_seeds("seeds", given)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigurationError(
            f"The seeds are {list(seeds)}; expected at least one, all different."
        )
    return tuple(seeds)


def _more(given: Mapping[str, Any], made: type[Setup]) -> dict[str, Any]:
    """Return the choices that need no form of their own; they fit their annotation."""
    known = {each.name for each in fields(made)} | {"options"}
    more = {}
    for name, choice in choices_of(made.choices).items():
        if name not in known:
            check_value(name, given[name], choice.annotation)
            more[name] = given[name]
    return more


def _names(option: str, given: Any) -> list[str]:
    """Return names as a list; those of one text are divided by commas."""
    if isinstance(given, str):
        given = given.split(",")
    if not hasattr(given, "__iter__"):
        given = [given]
    names = [str(name).strip() for name in given]
    check_value(option, names, Sequence[str])
    return names


def resolve_device(name: str) -> str:
    """Return the device to train on; raise where it is not there."""
    import torch

    name = str(name)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9][0-9]{0,2}))?", name, re.ASCII):
        raise ConfigurationError(
            f"The device {name!r} is not supported; expected 'auto', 'cpu', 'cuda' or, "
            f"of several GPUs, the number of one, such as 'cuda:1'."
        )
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"The device {name!r} cannot be used: "
            f"{str(error).splitlines()[0].rstrip('.')}. Use 'auto', 'cpu' or, with a "
            f"GPU, 'cuda'."
        ) from error
    return name


_GROUPS = ("protocol", "backbone", "adapter", "validator", "sampling", "training")


def grouped(
    options: Mapping[str, Any] | None, groups: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the options ``GROUP.NAME`` by group; raise for any other group."""
    options = options or {}
    if not isinstance(options, Mapping) or not all(map(_is_text, options)):
        raise ConfigurationError(
            f"options is {options!r}; expected names and values such as "
            f'{{"training.epochs": 5}}.'
        )
    found: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for key, value in options.items():
        group, dot, name = key.partition(".")
        if not dot or group not in found:
            raise ConfigurationError(
                unknown_option("The configuration", key, [f"{g}.NAME" for g in groups])
            )
        found[group][name] = value
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _training(
    base: Training, options: Mapping[str, Any], settings: Sequence[str]
) -> Training:
    for name in options:
        if name not in settings:
            raise ConfigurationError(unknown_option("training", name, list(settings)))
    return replace(base, **options)


def _sampling_options(
    sampling: str | None, options: Mapping[str, Any]
) -> Mapping[str, Any]:
    if sampling is None:
        if options:
            raise ConfigurationError(
                f"sampling.{next(iter(options))} was given without a sampling; name "
                f"one of {', '.join(SAMPLINGS)} with --sampling."
            )
        return {}
    chosen = Part("sampling", sampling, options, cls=SAMPLINGS[sampling]).describe()
    return {name: value for name, value in chosen.items() if value is not None}
