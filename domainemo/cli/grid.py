"""The file of a benchmark: what it crosses, and the configuration of every cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from ..choices import (
    BenchmarkChoices,
    PlaceChoices,
    PretrainingChoices,
    RunChoices,
    SetupChoices,
    choices_of,
    flatten,
)
from ..errors import ConfigurationError, DomainemoError, did_you_mean
from ..parts import unknown_option
from ..registry import KINDS, entries
from ..words import divided
from .configuration import (
    Configuration,
    checked,
    configure_cell,
    configure_first_stage,
)
from .named import benchmarks, is_benchmark, studies
from .names import check_dataset, options_of

if TYPE_CHECKING:
    from ..benchmarks.cells import Cell
    from ..runs.experiment import Experiment
    from ..runs.pretraining import Pretraining

__all__ = ["Grid", "grid_of", "read_grid"]

AXES = choices_of(BenchmarkChoices)
_NO_CELL = {"baselines", "folds", "init_from", "target", "target_root"}
_CROSSED = {name.removesuffix("s") for name in AXES}
_SHARED = [
    name
    for name, choice in (choices_of(PlaceChoices) | choices_of(RunChoices)).items()
    if choice.plain and name not in _NO_CELL | _CROSSED
]
REFERENCE = "reference"
KEYS = (*AXES, *_SHARED, REFERENCE, "options")
"""What the file of a benchmark may hold."""

_MAY_SET: Mapping[str, list[str]] = {
    "dataset": [name for name in _SHARED if name != "plugins"],
    "protocol": [],
    "backbone": ["sampling", "normalisation", "adapters", "pretraining"],
    "adapter": [],
}
"""What an entry may set beside itself: no more than leaves rows comparable.

A network's `adapters` are those of the file that run on it, where it is not all."""
_MAY_SET_OPTIONS = {
    "dataset": ("data", "training", *(kind for kind in KINDS if kind != "dataset")),
    "protocol": ("protocol",),
    "backbone": ("backbone", "sampling", "normalisation", "training"),
    "adapter": ("adapter",),
}

_FIRST_STAGE = ("pairs", "modalities", "options")
_FIRST_STAGE_OPTIONS = ("pairs", "contrast", "training")
"""What a network's `pretraining` may set; all else is as in the run that follows."""

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """Everything that the file of a benchmark chooses.

    Attributes
    ----------
    file : str
    content : str
        The file's text.
    configurations : mapping
        Of each cell, by what the file calls its data set, protocol, backbone, adapter;
        source only first among the adapters.
    pretrainings : mapping
        Of the networks that have a first stage, by data set, protocol and backbone.
    reference : str
        The backbone, or the adapter, or both, that others are compared with; empty
        where the file names none.
    """

    file: str
    content: str
    configurations: Mapping[tuple[str, ...], Configuration[Experiment]]
    pretrainings: Mapping[tuple[str, ...], Configuration[Pretraining]]
    reference: str = ""

    @property
    def datasets(self) -> dict[str, Configuration[Experiment]]:
        """A configuration of each data set, by what the file calls it."""
        return {key[0]: each for key, each in self.configurations.items()}

    @property
    def plugins(self) -> tuple[str, ...]:
        """The files outside this package that parts come from."""
        return next(iter(self.configurations.values())).plugins

    def only(self, datasets: Sequence[str]) -> Grid:
        """Return the part that is of some data sets.

        Raises
        ------
        ConfigurationError
            If the file calls none of its data sets so.
        """
        known = self.datasets
        datasets = divided(datasets) if isinstance(datasets, str) else datasets
        if not datasets:
            raise ConfigurationError(
                f"{self.file}: none of its data sets is chosen; expected some of "
                f"{', '.join(known)}."
            )
        for name in datasets:
            if name not in known:
                raise ConfigurationError(
                    f"{self.file} has no data set {name!r}.{did_you_mean(name, known)} "
                    f"Expected some of {', '.join(known)}."
                )
        kept = {k: v for k, v in self.configurations.items() if k[0] in datasets}
        first = {k: v for k, v in self.pretrainings.items() if k[0] in datasets}
        return replace(self, configurations=kept, pretrainings=first)

    def cells(self) -> list[Cell]:
        """Return the runs."""
        from ..benchmarks.cells import Cell

        cells = []
        for key, each in self.configurations.items():
            dataset, protocol, backbone, adapter = key
            first = self.pretrainings.get(key[:-1])
            cells.append(
                Cell(
                    dataset=dataset,
                    protocol=protocol,
                    backbone=backbone,
                    adapter=adapter,
                    experiment=each.experiment,
                    description=each.describe(),
                    pretraining=first.experiment if first else None,
                    first_stage=first.describe() if first else {},
                )
            )
        return cells


def read_grid(file: str, said: Table) -> Grid:
    """Read the file of a benchmark and check all names in it.

    Parameters
    ----------
    file : str
        Its path, or the name of one that is shipped.
    said : mapping
        What the command line says; None where it says nothing.

    Raises
    ------
    ConfigurationError
        For anything unknown or ill-typed, before anything is read or trained.
    """
    path = Path(file)
    if not path.exists():
        path = (benchmarks() | studies()).get(file, path)
    content, given = _read(path)
    return _grid(file, content, given, said)


def grid_of(given: Table, said: Table) -> Grid:
    """Check all names of a benchmark that is no file; see :func:`read_grid`.

    Parameters
    ----------
    given : mapping
        What a file would hold.
    said : mapping
        What is said beside it; None where nothing is.
    """
    try:
        content = tomli_w.dumps(given)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"This benchmark holds what a TOML file cannot: {error}. Expected names, "
            f"numbers, texts, lists and tables of them."
        ) from error
    return _grid("This benchmark", content, given, said)


def _grid(file: str, content: str, given: Table, said: Table) -> Grid:
    """Cross what a benchmark names; see :func:`read_grid`."""
    for key in given:
        if key not in KEYS:
            wrong = unknown_option(file, key, list(KEYS))
            raise ConfigurationError(f"{wrong}{_instead(file, given)}")
    own = (*AXES, REFERENCE)
    shared = checked(file, {k: v for k, v in given.items() if k not in own})
    axes = {
        name.removesuffix("s"): _entries(file, name, given.get(name, choice.default))
        for name, choice in AXES.items()
    }
    reference = _reference(file, given, axes)
    axes["adapter"] = {"none": {"adapter": "none"}} | axes["adapter"]
    on = _of_networks(file, axes["backbone"], axes["adapter"])
    first = next(iter(axes["backbone"]))
    found: dict[tuple[str, ...], Configuration[Experiment]] = {}
    before: dict[tuple[str, ...], Configuration[Pretraining]] = {}
    for cell, layers in _crossed(axes):
        if cell[3] not in on[cell[2]]:
            continue
        with_controls = cell[-1] == "none" and cell[2] == first
        stored = _cell([shared, *layers], with_controls)
        try:
            found[cell] = configure_cell(said, stored, file)
            stage = axes["backbone"][cell[2]].get("pretraining")
            if stage is not None and cell[:-1] not in before:
                stored = _first_stage(stored, stage)
                before[cell[:-1]] = configure_first_stage(said, stored, file)
        except ConfigurationError as error:
            raise ConfigurationError(f"{file}, {', '.join(cell)}: {error}") from error
    return Grid(file, content, found, before, reference)


def _reference(file: str, given: Table, axes: Mapping[str, Table]) -> str:
    """Return what the file compares others with; refuse what it does not cross."""
    name = given.get(REFERENCE, "")
    known = dict.fromkeys([*axes["backbone"], *axes["adapter"]])
    if name != "" and name not in known:
        meant = did_you_mean(str(name), known)
        raise ConfigurationError(
            f"{file}: {REFERENCE} is {name!r}.{meant} Expected one of its backbones or "
            f"adapters: {', '.join(known)}."
        )
    return str(name)


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the file as text, and what it holds."""
    from ..data.files.limits import read_text
    from ..runs.folder import read_config

    if not path.is_file():
        beside = path.parent.glob("*.toml") if path.parent.is_dir() else ()
        known = [*map(str, beside), *benchmarks()]
        raise ConfigurationError(
            f"{path}: there is no such file.{did_you_mean(str(path), known)}"
            f" Expected the TOML file of a benchmark, which says `datasets`, "
            f"`protocols`, `backbones` and `adapters`, or a name that `domainemo list "
            f"benchmarks` shows."
        )
    return read_text(path), read_config(path)


def _instead(file: str, given: Table) -> str:
    """Return what is said of a file that is the configuration of a single run."""
    if is_benchmark(given) or given.keys().isdisjoint(_CROSSED | {"pairs", "space"}):
        return ""
    command = "pretrain" if "pairs" in given else "adapt"
    return (
        f" This is the configuration of one run, and no benchmark: `domainemo "
        f"{command} --config {file}` runs it."
    )


def _entries(file: str, axis: str, value: Any) -> dict[str, dict[str, Any]]:
    """Return the keys that each entry of an axis sets, by what it is called."""
    name = axis.removesuffix("s")
    if value == "all" and axis in ("backbones", "adapters"):
        value = [entry.name for entry in entries(name, varieties=True)]
    value = [value] if isinstance(value, str) else value
    if isinstance(value, list | tuple) and all(isinstance(e, str) for e in value):
        called = {_label(name, each): {name: each} for each in value}
        if len(called) < len(value):
            again = len(set(value)) < len(value)
            names = [_label(name, each) for each in value]
            twice = next(each for each in names if names.count(each) > 1)
            raise ConfigurationError(
                f"{file}: {axis} is {value!r}; expected each of them once."
                if again
                else f"{file}: {axis} is {value!r}, of which two would be called "
                f"{twice!r}; expected different names. Give each its own in a table "
                f"[{axis}.NAME], with {name} = ..."
            )
    elif isinstance(value, Mapping) and all(
        isinstance(each, Mapping) for each in value.values()
    ):
        called = {label: {name: label, **value[label]} for label in value}
    else:
        called = {}
    if not called:
        raise ConfigurationError(
            f"{file}: {axis} is {value!r}; expected {AXES[axis].expected}."
        )
    for label, keys in called.items():
        if axis == "adapters" and label in _baselines():
            raise ConfigurationError(
                f"{file}: the adapter {label!r} is called as a baseline is; expected a "
                f"name of its own. Rename [adapters.{label}]."
            )
        _check(file, f"{axis}.{label}", name, keys)
    return called


def _baselines() -> set[str]:
    """Return what tables call that which runs beside adapters."""
    return {"source only", *(e.name.replace("-", " ") for e in entries("control"))}


def _label(name: str, value: str) -> str:
    """Return what an entry is called: a table folder as the folder itself is."""
    is_table = name == "dataset" and Path(value, "dataset.toml").is_file()
    return Path(value).resolve().name if is_table else value


def _check(file: str, where: str, name: str, keys: Mapping[str, Any]) -> None:
    """Refuse keys that an entry cannot set, and a part that there is not."""
    allowed = [name, *_MAY_SET[name], "options"]
    for key in keys:
        if key not in allowed:
            raise ConfigurationError(unknown_option(f"{file}: {where}", key, allowed))
    own = {k: v for k, v in keys.items() if k not in (*AXES, "pretraining")}
    checked(f"{file}: {where}", own)
    if "pretraining" in keys:
        _check_first_stage(f"{file}: {where}.pretraining", keys["pretraining"])
    for option in flatten(keys.get("options", {})):
        if option.partition(".")[0] not in _MAY_SET_OPTIONS[name]:
            expected = ", ".join(f"{each}.NAME" for each in _MAY_SET_OPTIONS[name])
            raise ConfigurationError(
                f"{file}: {where} sets {option!r}; expected {expected} alone, since "
                f"rows that differ in more cannot be compared. Set it for all, or for "
                f"a data set."
            )
    part = str(keys[name])
    try:
        if name != "dataset":
            options_of(name, part)
        elif not Path(part, "dataset.toml").is_file():
            check_dataset(part)
    except DomainemoError as error:
        raise type(error)(f"{file}: {where}: {error}") from error


def _check_first_stage(where: str, keys: Any) -> None:
    """Refuse what a network's pre-training cannot set."""
    if not isinstance(keys, Mapping):
        raise ConfigurationError(
            f"{where} is {keys!r}; expected a table of {', '.join(_FIRST_STAGE)}, or "
            f"an empty one."
        )
    for key in keys:
        if key not in _FIRST_STAGE:
            raise ConfigurationError(unknown_option(where, key, list(_FIRST_STAGE)))
    checked(where, keys)
    for option in flatten(keys.get("options", {})):
        if option.partition(".")[0] not in _FIRST_STAGE_OPTIONS:
            expected = ", ".join(f"{each}.NAME" for each in _FIRST_STAGE_OPTIONS)
            raise ConfigurationError(
                f"{where} sets {option!r}; expected {expected} alone, as all else is "
                f"that of the run that starts from it."
            )


def _first_stage(stored: Table, stage: Table) -> dict[str, Any]:
    """Return the configuration of a pre-training, given that of a cell."""
    known = choices_of(PlaceChoices) | choices_of(PretrainingChoices)
    groups = ("data", *choices_of(SetupChoices))
    options = {
        option: value
        for option, value in stored["options"].items()
        if option.partition(".")[0] in groups and not option.startswith("training.")
    }
    options |= flatten(stage.get("options", {}))
    return {
        **{key: value for key, value in stored.items() if key in known},
        **stage,
        "options": options,
    }


def _of_networks(
    file: str, backbones: Mapping[str, Table], adapters: Mapping[str, Table]
) -> dict[str, list[str]]:
    """Return which adapters run on each network: source only, and those it names."""
    found = {}
    for label, keys in backbones.items():
        chosen = keys.get("adapters", [*adapters])
        named = isinstance(chosen, list | tuple) and all(
            isinstance(each, str) for each in chosen
        )
        unknown = [each for each in chosen if each not in adapters] if named else []
        if not named or unknown:
            near = did_you_mean(unknown[0], adapters) if unknown else ""
            raise ConfigurationError(
                f"{file}: backbones.{label}: adapters is {chosen!r}; expected a list "
                f"of some of {', '.join(adapters)}.{near}"
            )
        found[label] = ["none", *chosen]
    return found


def _crossed(
    axes: Mapping[str, Mapping[str, Table]],
) -> Iterator[tuple[tuple[str, ...], list[Table]]]:
    """Yield what each cell is of, and what its entries set."""
    for key in product(*axes.values()):
        yield key, [axes[name][label] for name, label in zip(axes, key, strict=True)]


def _cell(layers: Sequence[Table], with_controls: bool) -> dict[str, Any]:
    """Return a cell's configuration: what stands later goes before."""
    stored: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for layer in layers:
        beside = (*AXES, "pretraining")
        stored |= {key: value for key, value in layer.items() if key not in beside}
        options |= flatten(layer.get("options", {}))
    left_out = ["adapter."] if stored["adapter"] == "none" else []
    stored["baselines"] = with_controls
    if not with_controls:
        stored.pop("controls", None)
        left_out.append("control.")
    stored["options"] = {
        k: v for k, v in options.items() if not k.startswith((*left_out,))
    }
    return stored
