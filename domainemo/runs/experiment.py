"""What is run: every choice that a number depends on, in one value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from .. import __version__
from ..core import Backbone, Modality, Normalisation, Sampling
from ..errors import ConfigurationError
from ..parts import Part, part, unknown_option
from ..training.settings import Training
from ..values import check_seeds, check_value
from .controls import CONTROLS, control_name, is_trained
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


@dataclass(frozen=True)
class Setup:
    """What every kind of training chooses, whatever it then does.

    Attributes
    ----------
    protocol, backbone, normalisation : Part
    sampling : Part or None
        None leaves the backbone its own.
    modalities : tuple of str or None
        None uses all.
    exclude : tuple of str
        Subjects left out altogether, and channels, each as ``"MODALITY/CHANNEL"``.
    training : Training
    seeds : tuple of int
    device : str
    """

    protocol: Part
    backbone: Part
    normalisation: Part
    sampling: Part | None
    modalities: tuple[str, ...] | None
    exclude: tuple[str, ...]
    training: Training
    seeds: tuple[int, ...]
    device: str

    parts: ClassVar[tuple[str, ...]] = (
        "protocol",
        "backbone",
        "normalisation",
        "sampling",
    )
    """The fields that are parts, which a configuration names with their options."""

    settings: ClassVar[tuple[str, ...]] = Training.names()
    """The settings of the training that mean anything here."""

    @property
    def plugins(self) -> tuple[str, ...]:
        """The files outside this package that the parts come from."""
        return tuple(sorted({path for part in self.used for path in part.plugins}))

    @property
    def outside(self) -> bool:
        """Whether a part comes from outside this package."""
        return any(part.outside for part in self.used)

    @property
    def used(self) -> list[Part]:
        """All parts that are chosen."""
        parts = [getattr(self, name) for name in self.parts]
        return [part for part in parts if part is not None]

    def build_backbone(self, modalities: Mapping[str, Modality]) -> Backbone:
        """Return a new backbone with the sampling that was asked for."""
        backbone: Backbone = self.backbone.build(modalities)
        sampling = self.build_sampling()
        if sampling is not None:
            backbone.sampling = sampling
        return backbone

    def build_normalisation(self) -> Normalisation:
        """Return a new normalisation."""
        made: Normalisation = self.normalisation.build()
        return made

    def build_sampling(self) -> Sampling | None:
        """Return the sampling that was asked for, if any."""
        made: Sampling | None = self.sampling.build() if self.sampling else None
        return made

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
        for key, value in asdict(self.training).items():
            if key in self.settings:
                options[f"training.{key}"] = value
        choices = {
            "domainemo": __version__,
            **self.names(),
            "normalisation": self.normalisation.name,
            "sampling": self.sampling.name if self.sampling else None,
            "modalities": list(self.modalities) if self.modalities else None,
            "exclude": list(self.exclude) or None,
            "seeds": list(self.seeds),
            "device": self.device,
            "options": {k: v for k, v in sorted(options.items()) if v is not None},
        }
        return {key: value for key, value in choices.items() if value is not None}

    def names(self) -> dict[str, Any]:
        """Return the choices that have no options, or the names of those that have."""
        return {"protocol": self.protocol.name, "backbone": self.backbone.name}


@dataclass(frozen=True)
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
    controls : tuple of Part
        What is predicted from next to nothing beside the adapter.
    """

    adapter: Part
    validator: Part | None
    baselines: bool
    init_from: Initialisation | None = None
    folds: tuple[str, ...] = ()
    controls: tuple[Part, ...] = ()

    parts: ClassVar[tuple[str, ...]] = (*Setup.parts, "adapter", "validator")

    @property
    def selection(self) -> str:
        """The rule that chose the epoch, in words."""
        if self.validator is None:
            return "oracle (target labels)"
        return self.validator.name

    @property
    def used(self) -> list[Part]:
        """All parts that are chosen."""
        return [*super().used, *self.controls]

    @property
    def trained(self) -> list[Part]:
        """What runs as jobs: the adapter, source only, and some controls."""
        found = [self.adapter]
        if self.baselines and self.adapter.name != "none":
            found.append(part("adapter", "none"))
        return found + [each for each in self.controls if is_trained(each)]

    def names(self) -> dict[str, Any]:
        """Return the choices that have no options, or the names of those that have."""
        start = self.init_from
        return {
            **super().names(),
            "adapter": self.adapter.name,
            "validator": self.validator.name if self.validator else ORACLE,
            "baselines": self.baselines,
            "controls": _unusual(self.controls),
            "init_from": start.folder if start else None,
            "initialisation": start.words if start else None,
            "folds": list(self.folds) or None,
        }


def experiment(
    *,
    protocol: Any = "cross-subject",
    backbone: Any = "r2gfanet",
    adapter: Any = "uf-ama",
    validator: Any = "last",
    normalisation: Any = "session",
    sampling: Any = None,
    modalities: Sequence[str] | str | None = None,
    exclude: Sequence[str | int] = (),
    seeds: Sequence[int] = (0,),
    training: Training | None = None,
    baselines: bool = True,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
    init_from: str | Path | None = None,
    folds: Sequence[str] = (),
    controls: Sequence[Any] | str = CONTROLS,
) -> Experiment:
    """Make an experiment of names, classes or objects.

    The parameters are those of :func:`~domainemo.runs.run.run`.

    Raises
    ------
    ConfigurationError
        For a name, an option or a value that does not fit.
    """
    check_value("baselines", baselines, bool)
    given = grouped(options or {}, _GROUPS)
    made = Experiment(
        **setup_choices(
            protocol=protocol,
            backbone=backbone,
            normalisation=normalisation,
            sampling=sampling,
            modalities=modalities,
            exclude=exclude,
            seeds=seeds,
            training=training,
            device=device,
            options=given,
        ),
        adapter=part("adapter", adapter, given["adapter"]),
        validator=None
        if validator == ORACLE
        else part("validator", validator, given["validator"]),
        baselines=baselines,
        init_from=None if init_from is None else read_initialisation(init_from),
        folds=tuple([folds] if isinstance(folds, str) else _names("folds", folds)),
        controls=_controls(controls, baselines),
    )
    # Parts whose options clash are refused here, before any recording is read.
    made.protocol.build()
    made.adapter.build()
    made.build_normalisation()
    made.build_sampling()
    return made


def _controls(given: Sequence[Any] | str, baselines: bool) -> tuple[Part, ...]:
    """Return the controls to run; none without baselines."""
    names = given.split(",") if isinstance(given, str) else given
    chosen = [
        part("control", each.strip() if isinstance(each, str) else each)
        for each in names
    ]
    if not baselines and tuple(names) != CONTROLS:
        raise ConfigurationError(
            "controls were named, but the baselines, of which they are, are left out. "
            "Leave out one of both (--controls, --no-baselines)."
        )
    called = [control_name(each) for each in chosen]
    if len(set(called)) < len(called):
        raise ConfigurationError(
            f"The controls are {', '.join(called)}; expected each of them once."
        )
    return tuple(chosen) if baselines else ()


def _unusual(controls: Sequence[Part]) -> list[str] | None:
    """Return the controls' names where they are not those of every run."""
    names = [each.name for each in controls]
    return names if controls and tuple(names) != CONTROLS else None


def setup_choices(
    *,
    protocol: Any,
    backbone: Any,
    normalisation: Any,
    sampling: Any,
    modalities: Sequence[str] | str | None,
    exclude: Sequence[str | int],
    seeds: Sequence[int],
    training: Training | None,
    device: str,
    options: Mapping[str, Mapping[str, Any]],
    settings: Sequence[str] = Setup.settings,
) -> dict[str, Any]:
    """Return the checked fields of a :class:`Setup`.

    Parameters
    ----------
    protocol, backbone, normalisation, sampling, modalities, exclude, seeds, training, \
device
        As for :func:`~domainemo.runs.run.run`.
    options : mapping of str to mapping
        Options by part.
    settings : sequence of str
        The settings of the training that may be set.

    Raises
    ------
    ConfigurationError
        For a name, an option or a value that does not fit.
    """
    modalities = None if modalities is None else _names("modalities", modalities)
    if modalities is not None and not modalities:
        raise ConfigurationError(
            "modalities is an empty list; expected at least one name, or None for all."
        )
    training = Training() if training is None else training
    check_value("training", training, Training)
    exclude = _names("exclude", exclude)
    if "sampling" in options["backbone"]:
        raise ConfigurationError(
            "backbone.sampling cannot be set; name the sampling with --sampling and "
            "its options with --set sampling.NAME=VALUE."
        )
    if sampling is None and options["sampling"]:
        raise ConfigurationError(
            f"sampling.{next(iter(options['sampling']))} was given without a sampling; "
            f"name one with --sampling."
        )
    seeds = check_seeds("seeds", seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigurationError(
            f"The seeds are {list(seeds)}; expected at least one, all different."
        )
    return {
        "protocol": part("protocol", protocol, options["protocol"]),
        "backbone": part("backbone", backbone, options["backbone"]),
        "normalisation": part(
            "normalisation", normalisation, options["normalisation"]
        ),
        "sampling": None
        if sampling is None
        else part("sampling", sampling, options["sampling"]),
        "modalities": None if modalities is None else tuple(modalities),
        "exclude": tuple(exclude),
        "training": _training(training, options["training"], settings),
        "seeds": tuple(seeds),
        "device": resolve_device(device),
    }


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


_GROUPS = (*Experiment.parts, "training")


def grouped(
    options: Mapping[str, Any], groups: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the options ``GROUP.NAME`` by group; raise for any other group."""
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
