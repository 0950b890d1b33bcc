"""What is run: every choice that a number depends on, in one value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Self, TypeGuard, Unpack

from .. import __version__
from ..adapters.composite import on_source_alone
from ..choices import (
    CONTROLS,
    ORACLE,
    CalibrationUse,
    RunChoices,
    SetupChoices,
    choices_of,
    choosing,
    complete,
    flatten,
)
from ..core import (
    PROVENANCE,
    Adapter,
    Backbone,
    Control,
    Modality,
    Normalisation,
    Protocol,
    Sampling,
)
from ..data.task import merges
from ..errors import ConfigurationError
from ..parts import Part, named_controls, of_controls, part, unknown_option
from ..places import where
from ..training.screened import find_screen
from ..training.settings import Training
from ..values import check_seeds, check_value
from ..words import divided
from .controls import control_name, is_trained, retraining
from .initialisation import Initialisation, read_initialisation
from .leaks import check_waived
from .made_again import made_again

__all__ = [
    "SOURCE_ONLY",
    "Experiment",
    "Setup",
    "experiment",
    "experiment_of",
    "grouped",
    "is_population",
    "method_name",
    "setup_choices",
    "use_of",
]

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
    protocol, backbone, normalisation : Part
    sampling : Part or None
        None leaves the backbone its own.
    modalities : tuple of str or None
        None uses all.
    channels : tuple of str or None
        None uses all.
    exclude_channels, exclude : tuple of str
        Channels, and subjects, that are left out altogether.
    classes : tuple of str or None
        By their names after merging; None uses all.
    merge : tuple of str
        Classes that become one, each ``"OLD+OLD=NEW"``.
    training : Training
    seeds : tuple of int
    device : str
    more : mapping of str to value
        The choices that have no field of their own, by name.
    """

    protocol: Part
    backbone: Part
    normalisation: Part
    sampling: Part | None
    modalities: tuple[str, ...] | None
    channels: tuple[str, ...] | None
    exclude_channels: tuple[str, ...]
    exclude: tuple[str, ...]
    classes: tuple[str, ...] | None
    merge: tuple[str, ...]
    training: Training
    seeds: tuple[int, ...]
    device: str
    more: Mapping[str, Any] = field(default_factory=dict)

    choices: ClassVar[type] = SetupChoices
    """What is chosen, as it is given."""

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
    def texts(self) -> tuple[str, ...]:
        """The text of parts from outside this package that are no plug-in's."""
        return tuple(sorted({text for part in self.used for text in part.texts}))

    @property
    def outside(self) -> bool:
        """Whether a part comes from outside this package."""
        return any(part.outside for part in self.used)

    @property
    def used(self) -> list[Part]:
        """All parts that are chosen."""
        parts = [getattr(self, name) for name in self.parts]
        return [part for part in parts if part is not None]

    @property
    def optioned(self) -> dict[str, Part]:
        """The parts whose options a configuration has, by what these begin with."""
        parts = {name: getattr(self, name) for name in self.parts}
        return {name: part for name, part in parts.items() if part is not None}

    def build_backbone(self, modalities: Mapping[str, Modality]) -> Backbone:
        """Return a new backbone with the sampling that was asked for."""
        backbone: Backbone = self.backbone.build(modalities)
        sampling = self.build_sampling()
        if sampling is not None:
            backbone.sampling = sampling
        if not isinstance(getattr(backbone, "sampling", None), Sampling):
            raise ConfigurationError(
                f"The backbone {type(backbone).__name__} has no sampling of its own; "
                f"expected `self.sampling = ...`, an object of a sampling, in its "
                f"constructor, or --sampling beside it. Correct "
                f"{where(backbone, '__init__')}."
            )
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
            name: getattr(self, name).with_options(new)
            for name, new in given.items()
            if new
        }
        return replace(self, training=training, **parts)

    def describe(self) -> dict[str, Any]:
        """Return every choice, defaults spelled out, as a configuration file has it."""
        options: dict[str, Any] = {}
        for name, chosen in self.optioned.items():
            described = chosen.describe()
            options |= {f"{name}.{key}": value for key, value in described.items()}
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
        shared = choices_of(SetupChoices).keys() - {"protocol", "backbone"}
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
    controls : tuple of Part
        What is predicted from next to nothing beside the adapter.
    """

    adapter: Part
    validator: Part | None
    baselines: bool
    init_from: Initialisation | None = None
    folds: tuple[str, ...] = ()
    controls: tuple[Part, ...] = ()

    choices: ClassVar[type] = RunChoices
    parts: ClassVar[tuple[str, ...]] = (*Setup.parts, "adapter", "validator")

    def __post_init__(self) -> None:
        # Controls are baselines, also where another field is replaced.
        if not self.baselines:
            object.__setattr__(self, "controls", ())

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
    def optioned(self) -> dict[str, Part]:
        """The parts whose options a configuration has, by what these begin with.

        Those of a control that was made in Python stand beside its name.
        """
        named = [each for each in self.controls if each.made is None]
        return super().optioned | {f"control.{each.name}": each for each in named}

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """Return the same choices with some options changed, as a study draws them.

        Parameters
        ----------
        options : mapping of str to value

        Raises
        ------
        ConfigurationError
            For an option or a value that does not fit, also beside the other choices.
        """
        made = super().with_options(options)
        _check_selection(made)
        return made

    def build_adapter(self, chosen: Part) -> Adapter:
        """Return a new adapter; of one for everybody, what of it needs no target.

        Raises
        ------
        ConfigurationError
            If nothing is left of it.
        """
        made: Adapter = chosen.build()
        return on_source_alone(made) if self.protocol.name == "everyone" else made

    @property
    def shared(self) -> list[Part]:
        """The parts that every job has, whatever its method."""
        names = (*Setup.parts, "validator")
        parts = (getattr(self, name) for name in names)
        return [part for part in parts if part is not None]

    @property
    def trained(self) -> list[Part]:
        """What runs as jobs: the adapter, source only, and some controls."""
        found = [self.adapter]
        if self.baselines and self.adapter.name != "none":
            found.append(part("adapter", "none"))
        return found + [each for each in self.controls if is_trained(each)]

    def names(self) -> dict[str, Any]:
        """Return the parts' names, and the choices that only this kind of run has."""
        told = {}
        for name, value in super().names().items():
            told[name] = value
            if name == "init_from":
                start = self.init_from
                told["initialisation"] = start.words if start else None
        told["controls"] = _unusual(self.controls) if self.baselines else None
        told["calibration"] = self.more.get("calibration") or None
        if told["calibration_use"] == "training":
            told["calibration_use"] = None
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
    check_value("baselines", given["baselines"], bool)
    options = grouped(given["options"], _GROUPS)
    folds, start = given["folds"], given["init_from"]
    oracle = given["validator"] == ORACLE
    setup = setup_choices(given, options, Experiment)
    scaled = setup["normalisation"]
    made = Experiment(
        **setup,
        adapter=part("adapter", given["adapter"], options["adapter"]),
        validator=None
        if oracle
        else part("validator", given["validator"], options["validator"]),
        baselines=given["baselines"],
        init_from=None if start is None else read_initialisation(start),
        folds=_once("folds", [folds] if isinstance(folds, str) else folds),
        controls=_controls(
            given["controls"], given["baselines"], options["control"], scaled
        ),
    )
    _check_names(made)
    # Parts whose options clash are refused here, before any recording is read.
    _check_protocol(made.protocol.build())
    _check_screen(made)
    _check_selection(made)
    check_words(made.build_normalisation(), "by", "words")
    made.build_sampling()
    for each in made.controls:
        check_words(each.build(), "words")
        _check_retraining(each, made.normalisation)
    return made


def experiment_of(stored: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a finished run, to be applied on the CPU.

    Parameters
    ----------
    stored : mapping
        What ``config.toml`` holds. Plug-ins that it needs have been imported.

    Raises
    ------
    ConfigurationError
        If a part of it was made in Python and cannot be made again.
    """
    names = [name for name, each in choices_of(RunChoices).items() if each.plain]
    given = {name: stored[name] for name in names if name in stored}
    given.pop("init_from", None)  # its weights are overwritten by the trained ones
    options = flatten(stored.get("options", {}))
    known = {k: v for k, v in options.items() if k.partition(".")[0] in _GROUPS}
    for which in [k.removesuffix(".class") for k in known if k.endswith(".class")]:
        kind, _, control = which.partition(".")
        if control and kind != "control":  # within another object, which is made again
            continue
        own = {k: v for k, v in known.items() if k.startswith(f"{which}.")}
        described = {k.removeprefix(f"{which}."): v for k, v in own.items()}
        options = made_again(kind, control or str(stored[kind]), described)
        known = {k: v for k, v in known.items() if k not in own}
        known |= {f"{which}.{k}": v for k, v in options.items()}
    return experiment(**given | {"device": "cpu", "options": known})


def _check_protocol(made: Protocol) -> None:
    """Refuse a protocol that says of itself what nobody understands."""
    columns, of = made.disjoint, set(PROVENANCE) - {"start"}
    if not isinstance(columns, tuple | list) or not set(columns) <= of:
        named = ", ".join(each for each in PROVENANCE if each in of)
        raise ConfigurationError(
            f"{type(made).__name__} has disjoint = {columns!r}; expected a tuple of "
            f'some of {named}, such as ("stimulus",) with its comma. Correct it in '
            f"{where(made)}."
        )
    if made.unfit not in _UNFIT:
        raise ConfigurationError(
            f"{type(made).__name__} has unfit = {made.unfit!r}; expected one of "
            f"{', '.join(map(repr, _UNFIT))}. Correct it in {where(made)}."
        )


def check_words(made: object, *needed: str) -> None:
    """Refuse an object whose class lacks what results say of it."""
    for name in needed:
        if not isinstance(getattr(made, name, None), str):
            raise ConfigurationError(
                f"{type(made).__name__} has no {name!r}; expected text, which results "
                f"say of it. Add `{name} = ...` to the class."
            )


def is_population(chosen: Setup) -> TypeGuard[Experiment]:
    """Return whether trainings are to be run as one program."""
    return isinstance(chosen, Experiment) and chosen.more["engine"] == "population"


def use_of(chosen: Setup) -> CalibrationUse:
    """Return what the labels that are given of a target are for."""
    use: CalibrationUse = chosen.more.get("calibration_use", "training")
    return use


def _check_screen(made: Experiment) -> None:
    """Refuse a screen that would ask classifiers which are not trained."""
    screen = find_screen(made.adapter.build())
    if screen is not None and not made.training.branch_share:
        raise ConfigurationError(
            f"training.branch_share is 0, so that the classifiers of single modalities "
            f"learn nothing, and the adapter {made.adapter.name!r} has a screen, "
            f"{type(screen).__name__}, that asks them; expected more than 0, such as "
            f"0.5, or an adapter without a screen."
        )


def _check_selection(made: Experiment) -> None:
    """Refuse a validator whose options clash, or that cannot use labels given to it."""
    validator = None if made.validator is None else made.validator.build()
    use = use_of(made)
    if use == "training":
        return
    if validator is None or not validator.held_out:
        raise ConfigurationError(
            f"calibration_use is {use!r}, and the validator {made.selection!r} looks "
            f"at no labelled sample; expected one that does, such as --validator "
            f"source, which then is the accuracy on what is given."
        )
    from ..training.screened import learning_screens

    if learning_screens(made.build_adapter(made.adapter), held_out=True):
        raise ConfigurationError(
            f"calibration_use is {use!r}, and the adapter has a screen with an option, "
            f"such as temperature, that needs source domains that are held out; none "
            f"are then. Leave either out."
        )
    if made.training.temperature == "held-out":
        raise ConfigurationError(
            f"calibration_use is {use!r}, and training.temperature is 'held-out', "
            f"which needs source domains that are held out; none are then. Leave "
            f"either out."
        )


def _check_names(made: Experiment) -> None:
    """Refuse a control that is called as what it would stand beside."""
    beside = {method_name(made.adapter.name), SOURCE_ONLY}
    for each in made.controls:
        if control_name(each) in beside:
            raise ConfigurationError(
                f"The control {each.name!r} is called as the adapter, or source only, "
                f"beside which it would stand. Give it another name."
            )


def _check_retraining(control: Part, normalisation: Part) -> None:
    """Refuse a training that would be the run's own."""
    again = retraining(control)
    if again is not None:
        again.renormalise(normalisation.build())


def _can_run(control: Part, normalisation: Part) -> bool:
    """Return whether a control, unnamed, is among all that can be run."""
    try:
        _check_retraining(control, normalisation)
    except ConfigurationError:
        return False
    return True


def _controls(
    given: Any, baselines: bool, options: Mapping[str, Any], normalisation: Part
) -> tuple[Part, ...]:
    """Return the controls to run, with their options; none without baselines."""
    if isinstance(given, str):
        given = divided(given)
    elif isinstance(given, type | Control):
        given = [given]
    if not isinstance(given, Sequence):
        raise ConfigurationError(
            f"controls is {given!r}; expected names, classes or objects of controls."
        )
    names = named_controls(given)
    chosen = [part("control", each) for each in names]
    if "all" in given:
        chosen = [c for c in chosen if c.name in given or _can_run(c, normalisation)]
    if not baselines and names and tuple(names) != CONTROLS:
        raise ConfigurationError(
            "controls were named, but the baselines, of which they are, are left out. "
            "Leave out one of both (--controls, --no-baselines)."
        )
    _once("controls", [control_name(each) for each in chosen])
    own = of_controls(options, [each.name for each in chosen] if baselines else [])
    return tuple(
        each.with_options(own[each.name]) if own.get(each.name) else each
        for each in chosen
    )


def _unusual(controls: Sequence[Part]) -> list[str] | None:
    """Return the controls where they are not those of every run.

    By name; one that was made in Python with options, with these.
    """
    names = []
    for each in controls:
        options = {k: v for k, v in each.describe().items() if k != "class"}
        detail = ", ".join(f"{name} {value}" for name, value in options.items())
        made = each.made is not None and detail
        names.append(f"{each.name} ({detail})" if made else each.name)
    return names if tuple(names) != CONTROLS else None


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
    training = Training() if given["training"] is None else given["training"]
    check_value("training", training, Training)
    check_value("waive", given["waive"], Sequence[str])
    check_waived(given["waive"])
    if given.get("memory") is not None and given["engine"] in (None, "single"):
        raise ConfigurationError(
            f"memory is {given['memory']:g}, which is for trainings that run as one "
            f"program; leave it out, or set --engine to population or auto."
        )
    sampling = given["sampling"]
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
    return {
        "seeds": _seeds(given["seeds"]),
        "protocol": part("protocol", given["protocol"], options["protocol"]),
        "backbone": part("backbone", given["backbone"], options["backbone"]),
        "normalisation": part(
            "normalisation", given["normalisation"], options["normalisation"]
        ),
        "sampling": None
        if sampling is None
        else part("sampling", sampling, options["sampling"]),
        **{
            name: _some(name, given[name])
            for name in ("modalities", "channels", "classes")
        },
        "exclude_channels": tuple(
            _names("exclude_channels", given["exclude_channels"])
        ),
        "exclude": tuple(_names("exclude", given["exclude"])),
        "merge": tuple(merges(given["merge"])),
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
        if name not in known and not choice.short:
            check_value(name, given[name], choice.annotation)
            more[name] = given[name]
    return more


def _some(option: str, given: Any) -> tuple[str, ...] | None:
    """Return names, at least one; None for all."""
    names = None if given is None else tuple(_names(option, given))
    if names == ():
        raise ConfigurationError(
            f"{option} is an empty list; expected at least one name, or None for all."
        )
    return names


def _once(option: str, given: Any) -> tuple[str, ...]:
    """Return names that are all different."""
    names = _names(option, given)
    if len(set(names)) < len(names):
        raise ConfigurationError(
            f"The {option} are {', '.join(names)}; expected each of them once."
        )
    return tuple(names)


def _names(option: str, given: Any) -> list[str]:
    """Return names as a list; those of one text are divided by commas.

    One that has a comma itself stands in double quotes there, or in a list.
    """
    if isinstance(given, str):
        given = divided(given)
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


_UNFIT = ("refuse", "skip", "keep")

_GROUPS = (*Experiment.parts, "control", "training")


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
