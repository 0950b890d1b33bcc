"""``domainemo list``: every part that can be asked for by name."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import ConfigurationError
from ..registry import KINDS, entries
from .options import Plugin, import_plugins

__all__ = ["list_parts"]


def list_parts(
    kind: Annotated[
        str | None,
        typer.Argument(help=f"{', '.join(KINDS)}, study."),
    ] = None,
    plugin: Plugin = None,
) -> None:
    """List every part on a line: its kind, its name and what it is.

    One kind alone is shown without cutting long lines short.
    """
    from .configuration import DEFAULTS
    from .console import Console, Table
    from .named import studies

    kinds = [*KINDS, "study"]
    plural = {f"{name}s": name for name in kinds} | {"studies": "study"}
    if kind is not None and plural.get(kind, kind) in kinds:
        kinds = [plural.get(kind, kind)]
    elif kind is not None:
        raise ConfigurationError(
            f"There is no kind of part called {kind!r}; expected {', '.join(kinds)}."
        )
    import_plugins(plugin)
    table = Table()
    for heading in ("kind", "name"):
        table.add_column(heading, no_wrap=True)
    # Of everything a line each, which gives way to the names; expanding does that.
    table.add_column("what it is", no_wrap=kind is None, ratio=1)
    table.expand = True
    for name in kinds:
        if name == "study":
            rows = [(study, _headline(path)) for study, path in studies().items()]
        else:
            listed = entries(name, varieties=kind is not None)
            rows = [(entry.name, entry.summary) for entry in listed]
        for part, summary in rows:
            default = " (default)" if DEFAULTS.get(name) == part else ""
            table.add_row(name, part + default, summary)
    Console().print(table)


def _headline(path: object) -> str:
    """Return the first comment of a study's file."""
    with open(str(path), encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
