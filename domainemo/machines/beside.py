"""The process beside a Dask worker, in which calls are made as in a local one."""

from __future__ import annotations

import pickle
import platform
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError

__all__ = ["pack_call", "parcels", "serve"]

_LIBRARIES = ("domainemo", "torch", "numpy", "scipy", "scikit-learn", "pandas")

_parcels: Path | None = None


def serve(there: Connection, folder: Path) -> None:
    """Make the calls that come over a connection, to its end.

    Parameters
    ----------
    there : Connection
    folder : Path
        What :func:`parcels` returns meanwhile.
    """
    global _parcels
    _parcels = folder
    with suppress(EOFError, OSError):  # the worker is gone, or its connection closed
        while True:
            there.send_bytes(_made(there.recv_bytes()))


def parcels() -> Path | None:
    """Return where folders are that were sent to a machine which shares no disk.

    None in any other process.
    """
    return _parcels


def pack_call(function: Any, *args: Any) -> bytes:
    """Pickle a call; a Dask worker carries it as it is to the process beside it."""
    return pickle.dumps((_versions(), pickle.dumps((function, args))))


def _made(packed: bytes) -> bytes:
    """Make a call; return, pickled, whether it ended well and what came of it."""
    wanted, call = pickle.loads(packed)
    answer: tuple[bool, Any]
    try:
        _check(wanted)
        function, args = pickle.loads(call)
        answer = True, function(*args)
    except Exception as error:
        answer = False, error
    return pickle.dumps(answer)


@cache
def _versions() -> dict[str, str]:
    """Return what must be the same on all machines, so that their results are."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, **{name: version(name) for name in _LIBRARIES}}


def _check(wanted: Mapping[str, str]) -> None:
    """Refuse a machine whose results would not be those of the one that asks."""
    for name, here in _versions().items():
        if here != wanted.get(name):
            raise ConfigurationError(
                f"{socket.gethostname()}, a machine of the cluster, has {name} {here}, "
                f"and this one {wanted.get(name)}. Install the same on all of them."
            )
