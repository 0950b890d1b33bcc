"""Errors a user can act on, and the exit code each gives the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "ConfigurationError",
    "DataError",
    "DomainemoError",
    "DomainemoWarning",
    "RunError",
    "data_error",
    "did_you_mean",
]


class DomainemoError(Exception):
    """Any error that domainemo explains itself; the message is one paragraph.

    It names where the trouble is, what was found, what was expected and what to do.
    """

    exit_code = 1


class DomainemoWarning(UserWarning):
    """Something to know that stops nothing; a paragraph like an error's."""


class RunError(DomainemoError):
    """Some folds failed; the finished ones are kept."""

    exit_code = 1


class ConfigurationError(DomainemoError):
    """A name, a parameter or an output folder does not fit."""

    exit_code = 2


class DataError(DomainemoError):
    """A file, a table or an array does not hold what it should."""

    exit_code = 3


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
    message = f"{where}: found {found}; expected {expected}. {remedy}"
    # Names may hold anything; the message stays one paragraph.
    return DataError(message.replace("\r", "\\r").replace("\n", "\\n"))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question after the nearest names, with a space before; or nothing.

    Capitals, blanks and underscores do not count: ``SEED_IV`` is ``seed-iv``.
    """
    by_plain = {_plain(each): each for each in known}
    near = difflib.get_close_matches(_plain(name), by_plain, n=2, cutoff=0.6)
    if _plain(name) in near:
        near = [_plain(name)]
    meant = " or ".join(repr(by_plain[each]) for each in near)
    return f" Did you mean {meant}?" if near else ""


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().casefold())
