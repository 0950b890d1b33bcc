"""A lock that every process knows by a file's name."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ConfigurationError
from .atomic import explained

__all__ = ["lock"]


@contextmanager
def lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock in this block that every process knows by a file's name.

    It is released at the block's end, and by the system where its holder is killed.

    Parameters
    ----------
    path : Path
        The lock's own file, made if need be.
    wait : bool
        Whether to wait for a process that holds it.

    Yields
    ------
    bool
        Whether it is held: False where another process holds it and there is no wait.

    Raises
    ------
    ConfigurationError
        If the file cannot be written, or its file system knows no locks.
    """
    from filelock import FileLock, Timeout

    with explained(path):
        if path.is_symlink():  # which would make a file in another place
            raise OSError(errno.ELOOP, "it is a link to another place")
        if path.is_dir():
            raise OSError(errno.EISDIR, "it is a folder")
        path.touch()
    # The soft kind is a mere file, which outlives who made it.
    ours = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        with suppress(Timeout):
            ours.acquire(timeout=-1 if wait else 0, poll_interval=0.01)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: could not be locked: {error.strerror or error}. Without a lock "
            f"two processes could write here at once, so nothing was begun. Some file "
            f"systems, most of them of network drives, know no locks: name a place on "
            f"a disk of this machine."
        ) from error
    try:
        yield ours.is_locked
    finally:
        ours.release(force=True)
