"""Errors a user can act on, and the exit code each gives the command line."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ConfigurationError",
    "DataError",
    "DomainemoError",
    "DomainemoWarning",
    "RunError",
    "data_error",
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
