"""``domainemo new``: a file that holds a part of one's own, and passes the checks."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from .. import files
from ..choices import ORACLE
from ..errors import ConfigurationError
from ..registry import KINDS, entries, name_of
from .completion import kinds
from .listing import a_kind, kind_named
from .show import command_for
from .terminal import echo

__all__ = ["new"]

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile("[a-z][a-z0-9]*(-[a-z0-9]+)*")
_WORDS = ("all", "none", ORACLE)
"""What stands for something else where names are given."""


def new(
    kind: Annotated[
        str, typer.Argument(help=f"{', '.join(KINDS)}.", autocompletion=kinds)
    ],
    name: Annotated[str, typer.Argument(help="Its name, such as mean-alignment.")],
    folder: Annotated[
        Path, typer.Option(help="Where to write; by default here.")
    ] = Path("."),
) -> None:
    """Write a part of your own, which works as it stands, and its tests.

    Nothing is overwritten. The part is a plug-in: commands that use it name its file
    with --plugin.
    """
    kind = kind_named(kind)
    if kind not in KINDS:
        raise ConfigurationError(
            f"A {kind} is no class, but a TOML file. `domainemo show NAME` shows one "
            "of those that `domainemo list` names, to begin with."
        )
    _check_name(kind, name)
    module = name.replace("-", "_")
    part, test = folder / f"{module}.py", folder / f"test_{module}.py"
    _check_places(name, module, part, test)
    texts = dict(zip((part, test), _texts(kind, name, module), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        files.write(path, text)
    for line in _next(kind, name, part, test):
        echo(line)


def _check_name(kind: str, name: str) -> None:
    """Refuse a name that is malformed, stands for something else, or is taken."""
    if not _NAME.fullmatch(name):
        plain = "-".join(re.findall("[a-z0-9]+", name_of(name)))
        near = plain.lstrip("0123456789-") or "mean-alignment"
        raise ConfigurationError(
            f"{name!r} cannot be the name of a part; expected words of small letters "
            f"and digits with hyphens between them, such as {near!r}."
        )
    if name in _WORDS:
        raise ConfigurationError(
            f"No part can be called {name!r}, which stands for something else where "
            f"parts are named. Choose another name."
        )
    if any(name == each.name for each in entries(kind, varieties=True)):
        raise ConfigurationError(
            f"There is {a_kind(kind)} called {name!r} already; `domainemo show {name} "
            f"--kind {kind}` describes it. Choose another name."
        )


def _check_places(name: str, module: str, *paths: Path) -> None:
    """Refuse to overwrite, and to hide a module that others import."""
    for path in paths:
        if path.exists():
            raise ConfigurationError(
                f"{path}: this exists, and nothing was written. Choose another name, "
                f"or another place with --folder."
            )
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise ConfigurationError(
            f"The name {name!r} would make the file {module}.py, and Python has "
            f"something of that name which the file would hide. Choose another name, "
            f"such as {f'{name}-of-mine'!r}."
        )


def _texts(kind: str, name: str, module: str) -> tuple[str, str]:
    """Return the texts of the part's file and of its tests."""
    cls = "".join(word.capitalize() for word in name.split("-"))
    given = "" if name_of(cls) == name else f'(name="{name}")'
    words = {
        "Name": cls,
        "name": name,
        "module": module,
        "kind": kind,
        "register": f"@register{given}",
    }
    part = _filled(kind, words)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(part.replace(f"class {cls}(", "class _(")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    if keyword.iskeyword(cls) or cls in imported:
        raise ConfigurationError(
            f"The name {name!r} would make the class {cls}, which is the name of "
            f"something that its file uses. Choose another name."
        )
    test = "test_dataset" if kind == "dataset" else "test"
    return part, _filled(test, words)


def _filled(template: str, words: dict[str, str]) -> str:
    path = _TEMPLATES / f"{template}.txt"
    return Template(path.read_text(encoding="utf-8")).substitute(words)


def _next(kind: str, name: str, part: Path, test: Path) -> Iterator[str]:
    """Yield what there is now, and the commands that come next."""
    plugin = f"--plugin {shlex.quote(str(part))}"
    yield f"{part} is {a_kind(kind)} that works as it stands: make it yours."
    yield f"{test} has the checks that all of its kind pass. Run them, and use it:"
    if importlib.util.find_spec("pytest") is None:
        yield "    python -m pip install pytest"
    yield f"    python -m pytest {shlex.quote(str(test))}"
    yield f"    domainemo show {name} {plugin}"
    yield f"    {command_for(kind, name)} {plugin}"
    yield f"help(domainemo.{kind.capitalize()}) says what it is handed and returns."
