"""Errors a user can act on, and the exit code each gives the command line."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO
from unicodedata import category

__all__ = [
    "ConfigurationError",
    "DataError",
    "DomainemoError",
    "DomainemoWarning",
    "RunError",
    "data_error",
    "did_you_mean",
    "printable",
    "show_notes",
]


def printable(text: str, keep: str = "") -> str:
    r"""Return text as it may be shown, with what cannot be seen spelled out.

    A name that comes from a file may hold anything. A terminal obeys some characters in
    place of showing them, others turn the direction of writing round, and XML knows no
    control characters at all. So they become ``\x1b``, ``\u202e`` and the like.

    Parameters
    ----------
    text : str
    keep : str
        Characters to leave as they are, such as the ends of lines.
    """
    if text.isprintable():
        return text
    return "".join(
        each
        if each.isprintable() or each in keep or category(each) == "Zs"
        else each.encode("unicode_escape").decode()
        for each in text
    )


class DomainemoError(Exception):
    """Any error that domainemo explains itself; the message is one paragraph.

    It names where the trouble is, what was found, what was expected and what to do.
    Names in it may hold anything, so it is kept as it may be shown.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message, keep="\n"))


class DomainemoWarning(UserWarning):
    """Something to know that stops nothing; a paragraph like an error's."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message, keep="\n"))


class RunError(DomainemoError):
    """Some folds failed; the finished ones are kept."""

    exit_code = 1


class ConfigurationError(DomainemoError):
    """A name, a parameter or an output folder does not fit."""

    exit_code = 2


class DataError(DomainemoError):
    """A file, a table or an array does not hold what it should."""

    exit_code = 3


_LONGEST = 1500
"""Characters of what was found that are shown."""


def show_notes(say: Callable[[str], None]) -> None:
    """Show the warnings of this library as sentences, each once, without a place.

    Parameters
    ----------
    say : callable
        Writes a paragraph.
    """
    show, said = warnings.showwarning, set[str]()

    def note(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, DomainemoWarning):
            if str(message) not in said:  # as every fold and figure would
                say(f"Note: {message}")
            said.add(str(message))
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = note


def data_error(where: Path | str, found: str, expected: str, remedy: str) -> DataError:
    """Return the error that says where, what was found, what was expected, what to do.

    Parameters
    ----------
    where : Path or str
        The file, and the field or key in it.
    found, expected : str
        Phrases without a full stop.
    remedy : str
        A sentence, with its full stop.
    """
    # The message stays one paragraph, whatever is in it: a library's own words may hold
    # as much of a damaged file as that says it does.
    if len(found) > _LONGEST:
        found = f"{found[:_LONGEST]}..."
    return DataError(
        printable(f"{where}: found {found}; expected {expected}. {remedy}")
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question after the nearest names, with a space before; or nothing.

    Capitals, blanks, hyphens and underscores do not count: ``SEED_IV`` and ``SEEDIV``
    are ``seed-iv``.
    """
    names = list(known)
    by_plain = {_plain(each): each for each in names}
    near = [by_plain[each] for each in _nearest(_plain(name), by_plain)]
    same = [each for each in names if _bare(each) == _bare(name)]
    meant = " or ".join(map(repr, same[:1] or near))
    return f" Did you mean {meant}?" if meant else ""


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return [name] if name in near else near


def _bare(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().casefold())
