"""Docstrings as a terminal shows them: sections, words, what an option means."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator

__all__ = ["laid_out", "meaning", "sections"]

_UNDERLINE = re.compile("-{3,}")
_ELSEWHERE = re.compile(
    r"(?:See|As for) (?::\w+:)?`~?(?P<name>[\w.]+)`(?:, which .*|[;.]\s*(?P<more>.*)|$)"
)
"""How an option's description begins that is another docstring's."""

_ITEM = re.compile(r"(?:- |\d+\. )")


def sections(text: str | None) -> dict[str, str]:
    """Return a numpydoc docstring by heading; what stands before the first is "".

    Parameters
    ----------
    text : str or None
    """
    lines = inspect.cleandoc(text or "").split("\n")
    found: dict[str, list[str]] = {"": []}
    heading = ""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line and not line[0].isspace() and _UNDERLINE.fullmatch(below):
            heading = line
            found[heading] = []
        elif not _UNDERLINE.fullmatch(line):
            found[heading].append(line)
    return {name: "\n".join(each).strip("\n") for name, each in found.items()}


def meaning(owner: object, option: str) -> str:
    """Return what an option means, as the docstrings have it; "" where none tells.

    Parameters
    ----------
    owner : type or callable
        Where its docstring refers to another's, as in "See `Alignment`", what stands
        there comes first, and then what is said here.
    option : str
    """
    for each in inspect.getmro(owner) if isinstance(owner, type) else (owner,):
        told = dict(_options(sections(each.__doc__).get("Parameters", "")))
        if option in told:
            return _followed(each, option, told[option])
    return ""


def laid_out(text: str, width: int) -> Iterator[str]:
    """Yield the lines of a docstring without its markup, a blank one before each block.

    Formulas stay as LaTeX, set in; examples keep their lines; paragraphs are filled.

    Parameters
    ----------
    text : str
    width : int
    """
    block: list[str] = []
    for line in [*text.split("\n"), ""]:
        if line.strip():
            block.append(line)
        elif block and block != [".. math::"]:
            yield ""
            yield from _block(block, width)
        if not line.strip():
            block = []


def _options(text: str) -> Iterator[tuple[str, str]]:
    """Yield each option that a section describes, and its description."""
    names: list[str] = []
    lines: list[str] = []
    for line in [*text.split("\n"), "end"]:
        if line and not line[0].isspace():
            yield from ((name, " ".join(" ".join(lines).split())) for name in names)
            names = [name.strip() for name in line.partition(" : ")[0].split(",")]
            lines = []
        else:
            lines.append(line)


def _followed(owner: object, option: str, text: str) -> str:
    """Return a description with that of the docstring it refers to, if there is one."""
    refers = _ELSEWHERE.match(text)
    if refers is None:
        return text
    name = refers["name"].rpartition(".")[2]
    found = _called(owner, name)
    there = meaning(found, option) if found is not None else ""
    more = refers["more"] or ""
    return " ".join([there, more[:1].upper() + more[1:]]).strip() if there else text


def _called(owner: object, name: str) -> object:
    """Return what a docstring calls by name: a parent, or in its package; else None."""
    for parent in inspect.getmro(owner)[1:] if isinstance(owner, type) else ():
        if parent.__name__ == name:
            return parent
    own = str(getattr(owner, "__module__", ""))
    inside = f"{own.partition('.')[0]}."
    others = [each for each in sys.modules if each.startswith(inside)]
    for module in (own, *others):
        found = vars(sys.modules[module]).get(name) if module in sys.modules else None
        if found is not None:
            return found
    return None


def _block(lines: list[str], width: int) -> Iterator[str]:
    """Yield the lines of a paragraph, a list, a formula or an example."""
    if lines[0].startswith(".. math::"):
        first, *rest = [lines[0].removeprefix(".. math::").strip(), *lines[1:]]
        formula = [first, *textwrap.dedent("\n".join(rest)).split("\n")]
        yield from (f"    {line}" for line in formula if line)
    elif lines[0][0].isspace() or lines[0].startswith((">>>", "|", "+-")):
        yield from lines
    elif _ITEM.match(lines[0]):
        items: list[list[str]] = []
        for line in lines:
            if _ITEM.match(line):
                items.append([])
            items[-1].append(line.strip())
        for item in items:
            yield from textwrap.wrap(
                _plain(" ".join(item)), width, subsequent_indent="  "
            )
    else:
        yield from textwrap.wrap(_plain(" ".join(lines)), width)


def _plain(text: str) -> str:
    """Return text without the marks of reStructuredText."""
    text = re.sub(r":(?!math)\w+:`~(?:[\w.]*\.)?(\w+)`", r"\1", text)
    text = re.sub(r":\w+:`([^`]*)`", r"\1", text)
    return re.sub(r"``?([^`]+)``?", r"\1", text)
