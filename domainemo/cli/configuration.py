"""What the command line, a configuration file and the defaults choose together."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..choices import (
    CONTROLS,
    SELECTED_BY,
    Choice,
    PlaceChoices,
    PretrainingChoices,
    RunChoices,
    TrainChoices,
    choices_of,
    flatten,
)
from ..errors import ConfigurationError
from ..parts import Part, named_controls, part, unknown_option
from ..registry import KINDS, find, load_plugin
from ..values import check_seeds, check_value, fits
from .named import read_configuration
from .names import check_dataset, check_names, check_options, with_part
from .plugins import again_with, only_given

if TYPE_CHECKING:
    from ..runs.experiment import Experiment, Setup
    from ..runs.pretraining import Pretraining
    from ..studies.settings import StudySettings

__all__ = [
    "DEFAULTS",
    "Configuration",
    "StudyConfiguration",
    "checked",
    "configure",
    "configure_cell",
    "configure_pretraining",
    "configure_study",
    "configure_training",
    "dataset_place",
    "load_dataset",
    "of_group",
    "parse_options",
    "read_value",
    "stored_experiment",
]

_PLACES, _RUN = choices_of(PlaceChoices), choices_of(RunChoices)
_PRETRAINING, _TRAINING = choices_of(PretrainingChoices), choices_of(TrainChoices)
_CHOICES = {k: v for k, v in (_PLACES | _RUN | _PRETRAINING).items() if v.plain}


def _defaults(choices: Mapping[str, Choice]) -> dict[str, Any]:
    """Return what is chosen where nothing is said."""
    known = {**_PLACES, **choices}.items()
    return {name: each.default for name, each in known if each.plain}


DEFAULTS: Mapping[str, Any] = _defaults(_RUN)
"""What `adapt` runs where nothing else is said."""

PRETRAINING_DEFAULTS: Mapping[str, Any] = _defaults(_PRETRAINING)
"""What `pretrain` runs where nothing else is said."""

TRAINING_DEFAULTS: Mapping[str, Any] = {
    **_defaults(_TRAINING),
    "protocol": "everyone",
}
"""What `train` makes where nothing else is said."""

_TEST_ONLY = ("protocol", "control")
_STUDY_ONLY = ("study", "space")
_ADAPT_ONLY = {*(_RUN.keys() - _PRETRAINING.keys()), *_STUDY_ONLY, "initialisation"}
_PRETRAIN_ONLY = _PRETRAINING.keys() - _RUN.keys()
_TARGET = ("target", "target_root")
_ADAPT_ONLY |= {*_TARGET}

_TYPES: Mapping[str, tuple[Any, str]] = {
    **{name: (choice.stored, choice.expected) for name, choice in _CHOICES.items()},
    "initialisation": (str, "words"),
    "options": (dict, "a table"),
    "study": (dict, "a table"),
    "space": (dict, "a table"),
    "recordings": (str, "a name"),
    "domainemo": (str, "a version"),
}
"""What a configuration file may hold, and of what type."""


Chosen = TypeVar("Chosen", bound="Setup", covariant=True)


@dataclass(frozen=True)
class Configuration(Generic[Chosen]):
    """A full configuration, ready to run.

    Attributes
    ----------
    dataset : Part
    data_root : str or None
    experiment : Setup
        An experiment, or a pre-training.
    plugins : tuple of str
    given : mapping of str to value
        The options of the experiment that were set, by full name.
    target : Part or None
        The data set of whom to adapt to, where their labels are not known.
    target_root : str or None
    """

    dataset: Part
    data_root: str | None
    experiment: Chosen
    plugins: tuple[str, ...]
    given: Mapping[str, Any] = field(default_factory=dict)
    target: Part | None = None
    target_root: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return everything as ``config.toml`` holds it."""
        described = self.experiment.describe()
        options = {f"data.{k}": v for k, v in self.dataset.describe().items()}
        places: dict[str, Any] = {"dataset": self.dataset.name}
        if self.data_root:
            places["data_root"] = str(Path(self.data_root).resolve())
        if self.target:
            options |= {f"target.{k}": v for k, v in self.target.describe().items()}
            places["target"] = self.target.name
        if self.target_root:
            places["target_root"] = str(Path(self.target_root).resolve())
        options = {k: v for k, v in options.items() if v is not None}
        if self.plugins:
            places["plugins"] = [str(Path(path).resolve()) for path in self.plugins]
        return {**places, **described, "options": options | described["options"]}

    def describe_results(self) -> dict[str, Any]:
        """Return everything that what is found depends on."""
        described = self.describe()
        described.pop("memory", None)
        return described

    def default_folder(self) -> Path:
        """Return a folder that this configuration and no other is given."""
        described = self.describe_results()
        content = json.dumps(described, sort_keys=True)
        dataset = _called(self.dataset, self.data_root)
        if self.target:
            dataset += f"-to-{_called(self.target, self.target_root)}"
        keys = ("protocol", "backbone", "adapter", "pairs")
        names = [described[key] for key in keys if key in described]
        chosen = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(names)).strip("-")
        stem = f"{dataset}-{chosen}"
        return Path("runs") / f"{stem}-{sha256(content.encode()).hexdigest()[:8]}"


def _called(dataset: Part, root: str | None) -> str:
    """Return a data set's name in a folder's; a table's own folder's."""
    if dataset.name == "table" and root:
        return Path(root).resolve().name
    return dataset.name


def configure(
    chosen: Mapping[str, Any], sets: Sequence[str], file: str | None
) -> Configuration[Experiment]:
    """Join the command line, a configuration file and the defaults, in that order.

    Parameters
    ----------
    chosen : mapping
        What the command line says; None where it says nothing.
    sets : sequence of str
        ``NAME=VALUE`` options of any part.
    file : str, optional
        A TOML file, or the name of a shipped study.

    Raises
    ------
    ConfigurationError
        For anything unknown or ill-typed.
    """
    stored = read_stored(file, _PRETRAIN_ONLY, chosen) if file else {}
    return _configure(chosen, sets, file, stored, DEFAULTS, _experiment)


def configure_cell(
    chosen: Mapping[str, Any], stored: Mapping[str, Any], file: str
) -> Configuration[Experiment]:
    """Do the same for a cell of a benchmark, whose configuration has been read."""
    return _configure(chosen, (), file, dict(stored), DEFAULTS, _experiment)


def configure_first_stage(
    chosen: Mapping[str, Any], stored: Mapping[str, Any], file: str
) -> Configuration[Pretraining]:
    """Do the same for what a cell of a benchmark is pre-trained by."""
    defaults = PRETRAINING_DEFAULTS
    return _configure(chosen, (), file, dict(stored), defaults, _pretraining)


def configure_training(
    chosen: Mapping[str, Any], sets: Sequence[str], file: str | None
) -> Configuration[Experiment]:
    """Do the same for a final model; see :func:`configure`."""
    others = {*_PRETRAIN_ONLY, *_TARGET}
    stored = read_stored(file, others, chosen) if file else {}
    for key in ("protocol", "baselines", "controls", "folds", "init_from"):
        stored.pop(key, None)  # these are of a test, which this is not
    options = flatten(stored.get("options", {}))
    kept = {k: v for k, v in options.items() if k.partition(".")[0] not in _TEST_ONLY}
    stored["options"] = kept
    return _configure(chosen, sets, file, stored, TRAINING_DEFAULTS, _final)


def configure_pretraining(
    chosen: Mapping[str, Any], sets: Sequence[str], file: str | None
) -> Configuration[Pretraining]:
    """Do the same for a pre-training; see :func:`configure`."""
    stored = read_stored(file, _ADAPT_ONLY, chosen) if file else {}
    return _configure(chosen, sets, file, stored, PRETRAINING_DEFAULTS, _pretraining)


def configure_study(
    chosen: Mapping[str, Any],
    sets: Sequence[str],
    file: str | None,
    settings: Mapping[str, Any],
    ranges: Mapping[str, Any],
) -> StudyConfiguration:
    """Do the same for a study; see :func:`configure`.

    Parameters
    ----------
    chosen, sets, file
        As for :func:`configure`; a file may have the tables ``study`` and ``space``.
    settings : mapping
        What the command line says of the study; None where it says nothing.
    ranges : mapping
        What it says of the space, by name; without its part where that is unique.
    """
    from ..studies.settings import StudySettings, is_kind

    others = {*_PRETRAIN_ONLY, *_TARGET}
    stored = read_stored(file, others, chosen) if file else {}
    study = dict(stored.get("study", {}))
    space = _ranges(stored.get("space", {}))
    defaults = {**DEFAULTS, "validator": SELECTED_BY}
    said = {key: value for key, value in settings.items() if value is not None}
    _check_words(said)
    if "storage" not in said and not is_kind(study.get("storage")):
        kept = study["storage"]
        raise ConfigurationError(
            f"{file}: it keeps its study at {kept!r}, which was not opened, since a "
            f"file may name any place. If that is yours:\n"
            f"{again_with(f'--storage={kept}')}"
        )
    study |= said
    for key in ("name", "storage"):
        check_value(f"study.{key}", study.get(key), str | None)
    name, storage = study.pop("name", None), study.pop("storage", None)
    made = StudySettings.of(study)
    searched = (*space, *ranges)
    base = _configure(chosen, sets, file, stored, defaults, _experiment, searched)
    names = {"dataset": base.dataset.name, **base.experiment.names()}
    space |= {with_part(option, names): each for option, each in ranges.items()}
    return StudyConfiguration(
        base=base,
        name=name,
        storage=storage,
        settings=made,
        ranges=space,
    )


@dataclass(frozen=True)
class StudyConfiguration:
    """A full configuration of a study.

    Attributes
    ----------
    base : Configuration
        Of the experiment that is tuned.
    name, storage : str or None
    settings : StudySettings
    ranges : mapping of str to range
    """

    base: Configuration[Experiment]
    name: str | None
    storage: str | None
    settings: StudySettings
    ranges: Mapping[str, Any]

    def default_folder(self) -> Path:
        """Return a folder that this study and no other is given."""
        settings = self.settings.describe()
        settings.pop("candidates")
        content = [
            self.base.describe_results(),
            settings,
            repr(sorted(self.ranges.items())),
        ]
        digest = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        stem = self.base.default_folder().name.rpartition("-")[0]
        return Path("runs") / f"study-{stem}-{digest}"


def _ranges(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the ranges of nested tables under dotted names."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and not {"low", "high", "choices"} & set(value):
            found |= _ranges(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _configure(
    chosen: Mapping[str, Any],
    sets: Sequence[str],
    file: str | None,
    stored: dict[str, Any],
    defaults: Mapping[str, Any],
    make: Callable[[Mapping[str, Any], Mapping[str, Any]], Chosen],
    searched: Collection[str] = (),
) -> Configuration[Chosen]:
    options = flatten(stored.pop("options", {}))
    for table in _STUDY_ONLY:
        stored.pop(table, None)
    said = {key: value for key, value in chosen.items() if value is not None}
    _check_words(said)
    named = stored.pop("plugins", ())
    made_on = stored.pop("recordings", None)
    if made_on and "dataset" not in said:
        raise ConfigurationError(
            f"{file}: this run was made from Python, on {made_on!r}, which a "
            f"configuration cannot name. Say which recordings with --dataset."
        )
    merged = {**defaults, **stored, **said}
    _forget_stale(options, stored, merged)
    plugins = tuple(said.get("plugins", ()))
    for plugin in plugins:
        load_plugin(plugin)
    merged["dataset"], root = dataset_place(merged["dataset"], merged.get("data_root"))
    target_root = merged.get("target_root") or merged.get("data_root")
    if merged.get("target"):
        merged["target"], target_root = dataset_place(merged["target"], target_root)
        if "protocol" not in {**stored, **said}:
            merged["protocol"] = "newcomers"
    with only_given(file, named):
        # All names, before what follows imports torch and the like.
        check_names(merged)
        options |= parse_options(sets, merged)
        searched = [with_part(name, merged) for name in searched]
        check_options([*options, *searched], merged)
        dataset = part("dataset", merged["dataset"], of_group("data", options))
        target = None
        if merged.get("target"):
            target = part("dataset", merged["target"], of_group("target", options))
        groups = ("data", "target")
        given = {k: v for k, v in options.items() if k.partition(".")[0] not in groups}
        return Configuration(
            dataset=dataset,
            data_root=root if takes_root(dataset) else None,
            plugins=plugins,
            experiment=make(merged, given),
            given=given,
            target=target,
            target_root=target_root if target and takes_root(target) else None,
        )


def of_group(group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of one part, by their own names."""
    prefix = f"{group}."
    return {
        key.removeprefix(prefix): value
        for key, value in options.items()
        if key.startswith(prefix)
    }


def _check_words(said: Mapping[str, Any]) -> None:
    """Refuse an empty word, which a shell makes of a variable that is not set."""
    for key, value in said.items():
        if isinstance(value, str) and not value.strip():
            raise ConfigurationError(
                f"--{key.replace('_', '-')} is empty; expected a value, or leave the "
                f"option out."
            )


def stored_experiment(run: Path) -> Experiment:
    """Return the experiment of a finished run, to be applied on the CPU.

    Plug-ins that it needs have been imported, as the command named them.
    """
    from ..runs.experiment import experiment_of

    stored = read_stored(str(run), _PRETRAIN_ONLY)
    with only_given(str(run), stored.pop("plugins", ())):
        return experiment_of(stored)


def read_stored(
    file: str, others: Collection[str] = (), chosen: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read a configuration file and check the type of everything in it.

    Parameters
    ----------
    file : str
    others : collection of str
        Keys that belong to another command.
    chosen : mapping, optional
        What the command line says; a named study adds what its data set needs.
    """
    return checked(file, read_configuration(file, chosen or {}), others)


def checked(
    file: str, given: Mapping[str, Any], others: Collection[str] = ()
) -> dict[str, Any]:
    """Check the type of everything in a configuration; see :func:`read_stored`."""
    stored = dict(given)
    for key, value in given.items():
        if key in others:
            command = "pretrain" if key in _PRETRAIN_ONLY else "adapt"
            raise ConfigurationError(
                f"{file}: it sets {key!r}, so it is a configuration of `domainemo "
                f"{command}`; expected one of this command."
            )
        if key not in _TYPES:
            raise ConfigurationError(unknown_option(file, key, sorted(_TYPES)))
        kind, words = _TYPES[key]
        if not fits(value, kind):
            raise ConfigurationError(f"{file}: {key} is {value!r}; expected {words}.")
        if kind is str:  # a name that looks like a number
            stored[key] = str(value)
        elif key == "plugins":
            stored[key] = [str(each) for each in value]
    check_seeds(f"{file}: seeds", stored.get("seeds", ()))
    for told in ("domainemo", "initialisation"):
        stored.pop(told, None)
    return stored


def _experiment(merged: Mapping[str, Any], options: Mapping[str, Any]) -> Experiment:
    from ..runs.experiment import experiment

    return experiment(**_chosen(merged, _RUN), options=options)


def _final(merged: Mapping[str, Any], options: Mapping[str, Any]) -> Experiment:
    from ..runs.everyone import final_experiment

    return final_experiment(**_chosen(merged, _TRAINING), options=options)


def _pretraining(merged: Mapping[str, Any], options: Mapping[str, Any]) -> Pretraining:
    from ..runs.pretraining import pretraining

    return pretraining(**_chosen(merged, _PRETRAINING), options=options)


def _chosen(merged: Mapping[str, Any], choices: Mapping[str, Choice]) -> dict[str, Any]:
    plain = [name for name, choice in choices.items() if choice.plain]
    return {name: merged[name] for name in plain if name in merged}


def dataset_place(name: str, root: str | None) -> tuple[str, str | None]:
    """Return a data set's name and root; a path in place of a name is a table's."""
    if Path(name, "dataset.toml").is_file():
        return "table", name
    check_dataset(name)
    return name, root or os.environ.get("DOMAINEMO_DATA") or None


def load_dataset(dataset: Part, root: str | None) -> Any:
    """Return the data set's reader, with the data root where it takes one."""
    if not takes_root(dataset):
        return dataset.build()
    if root is None:
        raise ConfigurationError(
            f"The dataset {dataset.name!r} is read from files, and no place was named. "
            f"Say where they are with --data-root FOLDER or the environment variable "
            f"DOMAINEMO_DATA."
        )
    return dataset.build(Path(root))


def takes_root(dataset: Part) -> bool:
    """Return whether the data set is read from files."""
    from ..data import loading

    return loading.takes_root(find("dataset", dataset.name))


def parse_options(sets: Sequence[str], names: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` options; a name without its part must be unique.

    Parameters
    ----------
    sets : sequence of str
    names : mapping
        The chosen name of each part.
    """
    options: dict[str, Any] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigurationError(
                f"--set {text!r}: expected NAME=VALUE, such as training.epochs=10."
            )
        key = with_part(key, names)
        if key in options:
            raise ConfigurationError(
                f"{key} is set twice, to {options[key]!r} and to "
                f"{read_value(value)!r}; set it once."
            )
        options[key] = read_value(value)
    return options


def _forget_stale(
    options: dict[str, Any], stored: Mapping[str, Any], merged: Mapping[str, Any]
) -> None:
    """Drop a file's options for a part that the command line has replaced."""
    kinds = {"dataset": "data"}
    for key in KINDS:
        if key in stored and stored[key] != merged[key]:
            prefix = f"{kinds.get(key, key)}."
            for name in [name for name in options if name.startswith(prefix)]:
                del options[name]
    before, now = stored.get("controls", CONTROLS), merged.get("controls", ())
    replaced = {*named_controls(before)} - {*named_controls(now)}
    for name in [name for name in options if name.startswith("control.")]:
        if name.removeprefix("control.").rpartition(".")[0] in replaced:
            del options[name]


def read_value(text: str) -> Any:
    """Read a value as TOML does; anything else is a string."""
    from ..data.files.limits import parse_toml

    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text
