"""``domainemo show``: what a part is, and what each of its options means."""

from __future__ import annotations

import inspect
import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import typer

from ..errors import ConfigurationError, did_you_mean
from ..places import where
from ..registry import KINDS, base, entries, find, leaves, parameters, plugin_of
from ..values import Bounds, option_types
from .completion import part_names
from .docstrings import laid_out, meaning, sections
from .listing import a_kind, kind_named
from .named import NAMED
from .options import Plugin, import_plugins
from .terminal import echo

__all__ = ["Option", "command_for", "facts", "options", "prefix", "show"]

_WIDEST = 88
"""Columns that text takes at most, as lines that are longer are hard to read."""

_PREFIX = {"dataset": "data", "screen": "adapter.{}", "control": "control.{}"}
"""How the full name of an option begins, where it is not by the part's kind."""

_USED = {
    "dataset": "domainemo adapt --dataset {}",
    "screen": "domainemo adapt --adapter {}+distillation",
    "control": "domainemo adapt --controls {}",
    "study": "domainemo tune --config {}",
    "benchmark": "domainemo benchmark {}",
}
"""The command that uses a part, where it is not ``--KIND NAME``."""

_FACTS = {
    "adapter": {
        ("needs_target", False): "It works on the source alone.",
        ("needs_teacher", True): "It asks for the target's outputs without dropout.",
        ("needs_trials", True): "It asks which of the target's samples share a trial.",
        ("needs_whole_trials", True): (
            "It asks which of the target's samples share a trial, in all of them."
        ),
        ("vectorises", False): "It trains one fold at a time.",
    },
    "validator": {
        ("sees_target", True): "It looks at the target's outputs, without labels.",
        ("sees_target", False): "It does not look at the target.",
        ("held_out", True): "Source domains are kept out of training for it.",
        ("needs_training", True): "It asks for the outputs of the source that trains.",
    },
    "control": {("sees_signals", True): "It sees the signals' values."},
}
"""What attributes of a class say, by kind, name and value."""


class Option(NamedTuple):
    """An option of a part, in words.

    Attributes
    ----------
    name, default : str
        The default as ``--set`` takes it.
    kind : str
        What it may be.
    meaning : str
        As the docstrings have it, with their markup.
    searched : str
        What a study would search; "" where none would.
    """

    name: str
    default: str
    kind: str
    meaning: str
    searched: str


def show(
    name: Annotated[
        str,
        typer.Argument(help="A part's name.", autocompletion=part_names),
    ],
    kind: Annotated[
        str | None, typer.Option(help="Which, where parts of several kinds share it.")
    ] = None,
    plugin: Plugin = None,
) -> None:
    """Show what a part is: its formula and source, and each option.

    Of an option: its type, default and meaning, and where a study would search it. A
    name that parts of several kinds have shows them all. Of adapters that '+' joins,
    each is shown.
    """
    chosen = kind_named(kind) if kind is not None else None
    import_plugins(plugin)
    found = [part for each in leaves(name) for part in _named(each, chosen)]
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    for number, (its_kind, each) in enumerate(found):
        lines = (
            _file(its_kind, each) if its_kind in NAMED else _part(its_kind, each, width)
        )
        text = "\n".join(lines).rstrip()
        echo(f"{chr(10) * 2 * bool(number)}{text}", lines=True)


def _named(name: str, kind: str | None) -> list[tuple[str, str]]:
    """Return the kinds that have a part of that name, with the name."""
    kinds = [kind] if kind is not None else [*KINDS, *NAMED]
    known = {each: _names(each) for each in kinds}
    found = [(each, name) for each in kinds if name in known[each]]
    if found:
        return found
    if kind is not None and kind not in NAMED:
        find(kind, name)  # which says what there is
    every = [each for names in known.values() for each in names]
    raise ConfigurationError(
        f"There is no {kind or 'part'} called {name!r}.{did_you_mean(name, every)} "
        f"`domainemo list` shows all names."
    )


def _names(kind: str) -> list[str]:
    if kind in NAMED:
        return list(NAMED[kind]())
    return [entry.name for entry in entries(kind, varieties=True)]


def _part(kind: str, name: str, width: int) -> Iterator[str]:
    """Yield the lines on a part."""
    cls = find(kind, name)
    told = sections(cls.__doc__)
    yield f"{name}: {a_kind(kind)}"
    yield from laid_out(told[""], width)
    for heading, text in told.items():
        if heading not in ("", "Parameters", "Attributes", "Raises"):
            yield from ["", heading, *laid_out(text, width)]
    told_of = facts(kind, cls)
    yield from ["", *told_of] if told_of else []
    yield from _options(kind, name, cls, width)
    yield from ["", "Use it", f"    {_command(kind, name, cls)}"]
    yield from ["", f"Defined in {where(cls)}."]


def facts(kind: str, cls: type) -> list[str]:
    """Return a sentence for each thing that a part's class asks for."""
    known = _FACTS.get(kind, {})
    return [text for (key, value), text in known.items() if _is(cls, key, value)]


def _is(cls: type, attribute: str, value: bool) -> bool:
    return inspect.getattr_static(cls, attribute, None) is value


def options(kind: str, cls: type) -> Iterator[Option]:
    """Yield the options of a part, in its constructor's order.

    Parameters
    ----------
    kind : str
    cls : type
        A registered class of that kind.
    """
    known = parameters(cls)
    types = option_types(cls)
    ranges = _ranges(kind, cls, {key: each.default for key, each in known.items()})
    for name, parameter in known.items():
        default = parameter.default
        words = _type(types.get(name, type(default)))
        searched = ranges.get(name, "")
        yield Option(name, _value(default), words, meaning(cls, name), searched)


def prefix(kind: str, name: str) -> str:
    """Return how the full names of a part's options begin, as ``--set`` takes them."""
    return _PREFIX.get(kind, kind).format(name)


def _options(kind: str, name: str, cls: type, width: int) -> Iterator[str]:
    """Yield the lines on the options of a part."""
    if not parameters(cls):
        yield from ["", "It has no options."]
        return
    yield from ["", f"Options, each set by --set {prefix(kind, name)}.NAME=VALUE"]
    for option in options(kind, cls):
        yield ""
        first = f"  {option.name} = {option.default} ({option.kind})"
        searched = f"A study searches {option.searched}." if option.searched else ""
        # Without the marks of docstrings.
        told = (line.strip() for line in laid_out(option.meaning, 10**6))
        for text in (first, *told, searched):
            start = "" if text is first else " " * 6
            yield from textwrap.wrap(
                text, width, initial_indent=start, subsequent_indent=" " * 6
            )


def _ranges(kind: str, cls: Any, start: Mapping[str, Any]) -> dict[str, str]:
    """Return what a study would search, in words, by option."""
    own = getattr(cls, "space", None)
    if kind not in ("adapter", "backbone") or own is None:
        return {}
    if own.__func__ is base(kind).space.__func__:  # type: ignore[attr-defined]
        return {}
    # Optuna is imported for those alone that draw from it.
    from ..studies.drawing import Probe, in_words

    probe = Probe(start)
    cls.space(probe)
    return {name: in_words(each) for name, each in probe.found.items()}


def _type(annotation: Any) -> str:
    """Return in words what an option may be."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [each for each in inner[1:] if isinstance(each, Bounds)]
        whole = next((each.words for each in bounds if each.words), None)
        if whole is not None and whole.startswith("a "):
            return whole
        return " ".join([_type(inner[0]), *map(str, bounds)])
    if origin is Literal:
        *first, last = map(_value, inner)
        return f"{', '.join(first)} or {last}" if first else last
    if annotation is None or annotation is type(None):
        return "unset"
    if origin in (tuple, list) or (inner and origin.__name__ == "Sequence"):
        each = [kind for kind in inner if kind is not Ellipsis]
        return f"list of {' and '.join(dict.fromkeys(map(_type, each)))}"
    if inner:
        return " or ".join(dict.fromkeys(map(_type, inner)))
    words = {bool: "true or false", int: "whole number", float: "number", str: "word"}
    return words.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _value(value: Any) -> str:
    """Return a value as ``--set`` takes it."""
    if value is None:
        return "unset"
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | tuple | list):
        return json.dumps(value)
    return type(value).__name__


def command_for(kind: str, name: str, files: bool = True) -> str:
    """Return the command that uses a part.

    Parameters
    ----------
    kind, name : str
    files : bool
        Whether a data set is read from files.
    """
    command = _USED.get(kind, f"domainemo adapt --{kind} {{}}").format(name)
    reads = kind == "dataset" and files
    return f"{command} --data-root FOLDER" if reads else command


def _command(kind: str, name: str, cls: type) -> str:
    """Return the command that uses a part, with its plug-in."""
    reads = "root" in inspect.signature(cls).parameters
    command = command_for(kind, name, reads)
    plugin = plugin_of(cls)
    return command if plugin is None else f"{command} --plugin {_short(plugin)}"


def _short(path: str) -> str:
    """Return a path as it is named from here."""
    import shlex

    here = Path.cwd()
    near = Path(path).is_relative_to(here)
    return shlex.quote(str(Path(path).relative_to(here) if near else path))


def _file(kind: str, name: str) -> Iterator[str]:
    """Yield the lines on a study or a benchmark, a file with its reasons in it."""
    yield f"{name}: {a_kind(kind)}, as its file has it"
    yield ""
    yield from NAMED[kind]()[name].read_text(encoding="utf-8").rstrip().split("\n")
    yield from ["", "Use it", f"    {command_for(kind, name)}"]
