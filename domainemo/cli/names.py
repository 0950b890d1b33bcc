"""Names are checked before anything heavy is imported: as the code's text has them."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..choices import ORACLE, PretrainingChoices, choices_of
from ..errors import ConfigurationError, did_you_mean
from ..parts import having, named_controls, of_controls, unknown_option
from ..registry import (
    KINDS,
    entries,
    find,
    kind_of,
    leaves,
    options_in_text,
    parameters,
)
from ..training.settings import Training
from ..values import check_value

__all__ = [
    "check_dataset",
    "check_names",
    "check_new_folder",
    "check_options",
    "check_run",
    "options_of",
    "with_part",
]

_KINDS = tuple(kind for kind in KINDS if kind not in ("dataset", "screen", "control"))
_PRETRAINED = (
    ("pairs", "pairs", "Synchronous"),
    ("contrast", "synchrony", "SynchronyContrast"),
)
"""What a pre-training has beside the parts: its group, module and class."""


def check_names(names: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigurationError` for a name that nothing has.

    Parameters
    ----------
    names : mapping
        What is chosen: the names of parts and the like.
    """
    for kind in _KINDS:
        name = str(names.get(kind) or ORACLE)
        if name != ORACLE:
            options_of(kind, name)
    for name in named_controls(names.get("controls") or ()):
        _entry_options("control", name)
    if "pairs" in names:
        known = choices_of(PretrainingChoices)["pairs"].annotation
        check_value("pairs", names["pairs"], known)


def check_dataset(name: str) -> None:
    """Raise :class:`ConfigurationError` for a data set, or a folder, that is not there.

    Folders here that hold recordings are suggested as well.
    """
    if any(name == entry.name for entry in entries("dataset")):
        return
    path = Path(name)
    places = [path.parent] if path.parent.is_dir() else []
    tables = [
        str(toml.parent) for place in places for toml in place.glob("*/dataset.toml")
    ]
    if len(path.parts) == 1:
        tables += [entry.name for entry in entries("dataset")]
    hint = did_you_mean(name, tables)
    if path.is_dir():
        raise ConfigurationError(
            f"{name}: this folder holds no dataset.toml, so it is no table of "
            f"recordings.{hint} `domainemo data convert` and domainemo.write_table "
            f"make one."
        )
    if len(path.parts) > 1:
        raise ConfigurationError(f"{name}: there is no such folder.{hint}")
    if hint:
        raise ConfigurationError(
            f"There is no dataset called {name!r}, and no folder of that name.{hint}"
        )
    find("dataset", name)


def check_run(folder: Path) -> None:
    """Raise :class:`ConfigurationError` for a folder that is no run's."""
    if not (folder / "config.toml").is_file():
        raise ConfigurationError(
            f"{folder}: found no config.toml, and so no trained fold; expected the "
            f"folder of a finished `domainemo adapt`."
        )


def check_new_folder(folder: Path) -> None:
    """Raise :class:`ConfigurationError` for an output that would replace something."""
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(
            f"{folder}: this is a file, and a folder is to be written; nothing was "
            f"overwritten. Name another one with --output."
        )
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(
            f"{folder}: this folder holds files, and nothing was overwritten; name "
            f"another one with --output."
        )


def check_options(options: Iterable[str], names: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigurationError` for an option that its part does not have.

    Parameters
    ----------
    options : iterable of str
        In full, such as ``"backbone.width"``.
    names : mapping
        The chosen name of each part.
    """
    owners = _owners(names)
    for option in options:
        group, name = _divided(option, names)
        if name and group in owners and name not in owners[group]:
            kind, _, control = group.partition(".")
            kind = "dataset" if kind == "data" else kind
            part = control or names.get(kind)
            where = kind if part is None else f"{kind} {part!r}"
            told = unknown_option(where, name, owners[group])
            raise ConfigurationError(told + having(kind, name))
        if not name or (group not in owners and group not in (*_KINDS, "pairs")):
            known = [f"{part}.{each}" for part, each in _pairs(owners)]
            raise ConfigurationError(unknown_option("The configuration", option, known))


def _divided(option: str, names: Mapping[str, Any]) -> tuple[str, str]:
    """Return whose an option is, and its own name; a control is named itself."""
    group, _, name = option.partition(".")
    if group != "control" or "controls" not in names:
        return group, name
    of_controls({name: None}, named_controls(names["controls"] or ()))
    control, _, name = name.rpartition(".")
    return f"control.{control}", name


def with_part(option: str, names: Mapping[str, Any]) -> str:
    """Return an option with the part that it belongs to; it must be unique."""
    if "." in option:
        return option
    found = [part for part, each in _pairs(_owners(names)) if each == option]
    if len(found) == 1:
        return f"{found[0]}.{option}"
    if found:
        choices = " or ".join(f"{part}.{option}" for part in found)
        raise ConfigurationError(f"--set {option}: say which one, {choices}.")
    known = [f"{part}.{name}" for part, name in _pairs(_owners(names))]
    raise ConfigurationError(unknown_option("The configuration", option, known))


def options_of(kind: str, name: str) -> list[str]:
    """Return the names of a part's options; of joined ones in full."""
    names = leaves(name) if kind == "adapter" else (name,)
    if len(names) == 1:
        return _entry_options(kind, *names)
    return [
        f"{each}.{option}"
        for each in names
        for option in _entry_options(kind_of(kind, each), each)
    ]


def _owners(names: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the options that may be set, by the part that they belong to."""
    owners = {"training": list(Training.names())}
    if "pairs" in names:
        used = _assigned("domainemo.training.pretrain", "USED_SETTINGS")
        owners["training"] = list(ast.literal_eval(used))
        for group, module, cls in _PRETRAINED:
            owners[group] = list(_classes(f"domainemo.training.{module}")[cls] or ())
    for kind in (*_KINDS, "dataset"):
        name = str(names.get(kind) or ORACLE)
        if name != ORACLE:
            owners["data" if kind == "dataset" else kind] = options_of(kind, name)
    if names.get("target"):
        owners["target"] = options_of("dataset", str(names["target"]))
    for name in named_controls(names.get("controls") or ()):
        owners[f"control.{name}"] = _entry_options("control", name)
    return owners


def _pairs(owners: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    return [(part, option) for part, options in owners.items() for option in options]


def _entry_options(kind: str, name: str) -> list[str]:
    """Return a part's options; raise where there is no such part."""
    for entry in entries(kind, varieties=True):
        if entry.name == name and entry.options is not None:
            return list(entry.options)
    return list(parameters(find(kind, name)))


def _assigned(module: str, variable: str) -> ast.expr:
    """Return what a module assigns to a variable of its own."""
    for node in _tree(module).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(each, ast.Name) and each.id == variable for each in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert node.value is not None
            return node.value
    raise LookupError(f"{module} assigns no {variable}")


def _classes(module: str) -> dict[str, tuple[str, ...] | None]:
    """Return the options of each class of a module, its parent's where it has none."""
    found: dict[str, tuple[str, ...] | None] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = options_in_text(node, found)
    return found


@cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
