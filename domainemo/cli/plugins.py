"""Whose code a command runs: plug-ins that it names, and none that a file names."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigurationError, DomainemoWarning
from ..registry import UnknownPart, loading, plugin_loaded

__all__ = ["COMMAND", "again_with", "only_given"]

COMMAND = "domainemo "
"""How a line begins that is a command."""


@contextmanager
def only_given(file: str | None, named: Sequence[str]) -> Iterator[None]:
    """Build what a file describes without the plug-ins that it names.

    Parameters
    ----------
    file : str or None
        The configuration, or a run's folder.
    named : sequence of str
        The plug-ins in it.

    Raises
    ------
    ConfigurationError
        If a part is not known while a plug-in that may hold it is not imported. The
        message has the whole command, or the line of Python, that would allow it.

    Warns
    -----
    DomainemoWarning
        Naming the plug-ins that were not imported, where all parts are known.
    """
    closed = [path for path in named if not plugin_loaded(path)]
    allowed = _allowing(closed)
    one = len(closed) == 1
    whose = f"the plug-in{'' if one else 's'} {', '.join(closed)}"
    try:
        yield
    except UnknownPart as error:
        if not closed:
            raise
        raise ConfigurationError(
            f"{file}: it names {whose}, whose code was not run, since a command runs "
            f"only plug-ins that it names itself. {error} If you trust "
            f"{'this file' if one else 'these files'}:\n{allowed}"
        ) from error
    if closed:
        warnings.warn(
            f"{file}: it names {whose}, whose code was not run; nothing needed it so "
            f"far. If you trust {'this file' if one else 'these files'} and want "
            f"{'it' if one else 'them'}:\n{allowed}",
            DomainemoWarning,
            stacklevel=1,
        )


def _allowing(paths: Sequence[str]) -> str:
    """Return what imports plug-ins: a command, or what Python needs before it."""
    running = Path(sys.argv[0])
    if "domainemo" in (running.stem, running.parent.name):
        return again_with(*(f"--plugin={path}" for path in paths))
    return "\n".join(loading(paths))


def again_with(*options: str) -> str:
    """Return the command that is running, with some more options, to be pasted."""
    return shlex.join(["domainemo", *sys.argv[1:], *options])
