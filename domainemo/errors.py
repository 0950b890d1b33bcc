"""Errors a user can act on, and the exit code each gives the command line."""

from __future__ import annotations

__all__ = ["ConfigurationError", "DataError", "DomainemoError", "RunError"]


class DomainemoError(Exception):
    """Any error that domainemo explains itself; the message is one paragraph.

    It names where the trouble is, what was found, what was expected and what to do.
    """

    exit_code = 1


class RunError(DomainemoError):
    """Some folds failed; the finished ones are kept."""

    exit_code = 1


class ConfigurationError(DomainemoError):
    """A name, a parameter or an output folder does not fit."""

    exit_code = 2


class DataError(DomainemoError):
    """A file, a table or an array does not hold what it should."""

    exit_code = 3
