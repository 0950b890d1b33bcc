"""``domainemo list``: every part that can be asked for by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Annotated

import typer

from ..errors import ConfigurationError, did_you_mean
from ..registry import KINDS, entries
from .completion import kinds
from .named import NAMED
from .options import Plugin, import_plugins

__all__ = ["a_kind", "kind_named", "list_parts"]

_OWN = {"adapter": "UF-AMA", "validator": "scores", "control": "plain models"}
"""Kinds that have many parts, which are shown together; and what those are called that
stand in no folder of their own."""

_CALLED = {"study": "--config NAME", "benchmark": "benchmark NAME"}
"""How the files that are shipped are asked for."""

_WIDTH = 40  # of a line of names, which a terminal of 80 columns has left


def list_parts(
    kind: Annotated[
        str | None,
        typer.Argument(help=f"{', '.join([*KINDS, *NAMED])}.", autocompletion=kinds),
    ] = None,
    plugin: Plugin = None,
) -> None:
    """List every part on a line: its kind, its name and what it is.

    Of everything, adapters, validators and controls are shown by family, and files
    together. One kind alone is shown without cutting long lines short.
    """
    from .configuration import DEFAULTS
    from .console import Console, Table

    shown = [*KINDS, *NAMED] if kind is None else [kind_named(kind)]
    import_plugins(plugin)
    table = Table()
    for heading in ("kind", "name"):
        table.add_column(heading, no_wrap=True)
    # Of everything a line each, which gives way to the names; expanding does that.
    table.add_column("what it is", no_wrap=kind is None, ratio=1)
    table.expand = True
    for name in shown:
        if name in NAMED and kind is None:
            rows = [(_CALLED[name], line) for line in _lines(NAMED[name]())]
        elif name in NAMED:
            rows = [(each, _headline(path)) for each, path in NAMED[name]().items()]
        elif kind is None and name in _OWN:
            rows = list(_families(name, DEFAULTS.get(name)))
        else:
            listed = entries(name, varieties=kind is not None)
            rows = [(entry.name, entry.summary) for entry in listed]
        for part, summary in rows:
            whole = kind is None and name in _OWN
            default = " (default)" if DEFAULTS.get(name) == part and not whole else ""
            table.add_row(name, part + default, summary)
    Console().print(table)


def a_kind(kind: str) -> str:
    """Return a kind as a sentence has it: "an adapter"."""
    return {"dataset": "a data set", "adapter": "an adapter"}.get(kind, f"a {kind}")


def kind_named(text: str) -> str:
    """Return the kind that a command names, in the singular or the plural.

    Raises
    ------
    ConfigurationError
        If there is none; where a part has that name, it says how to see it.
    """
    kinds = [*KINDS, *NAMED]
    plural = {f"{name}s": name for name in kinds} | {"studies": "study"}
    kind = plural.get(text, text)
    if kind in kinds:
        return kind
    every = [entry.name for each in KINDS for entry in entries(each, varieties=True)]
    shown = did_you_mean(text, every) and f" `domainemo show {text}` is for a part."
    raise ConfigurationError(
        f"There is no kind of part called {text!r}.{did_you_mean(text, kinds)} "
        f"Expected {', '.join(kinds)}.{shown}"
    )


def _families(kind: str, usual: object) -> Iterator[tuple[str, str]]:
    """Yield the folder that parts stand in, and some of their names, line by line."""
    families: dict[str, list[str]] = {}
    for entry in entries(kind):
        inside = entry.origin.removeprefix(f"{KINDS[kind]}.").split(".")
        apart = entry.origin.startswith(KINDS[kind]) and len(inside) > 1
        family = inside[0].replace("_", " ") if apart else _OWN[kind]
        default = "\N{NO-BREAK SPACE}(default)" if usual == entry.name else ""
        families.setdefault(family, []).append(entry.name + default)
    for family, names in families.items():
        for line in _lines(names):
            yield family, line.replace("\N{NO-BREAK SPACE}", " ")


def _lines(names: Iterable[str]) -> list[str]:
    """Return names, several on a line, with no comma at its end."""
    lines = wrap(", ".join(names), _WIDTH + 1, break_on_hyphens=False)
    return [line.removesuffix(",") for line in lines]


def _headline(path: object) -> str:
    """Return the first comment of a file."""
    with open(str(path), encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
