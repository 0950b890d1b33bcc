"""Files and folders that are written whole or not at all, also through a power cut.

Everything is written under another name beside its place, flushed to the disk, and
renamed there.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from hashlib import sha256
from itertools import count
from pathlib import Path

from ..errors import ConfigurationError

__all__ = [
    "clear_partial",
    "explained",
    "is_partial",
    "publish",
    "sync",
    "write",
    "writing",
]

_PARTIAL = re.compile(r"\.(?P<host>[0-9a-f]{6})\.(?P<process>\d+)\.\d+\.partial$")
_numbers = count()


def write(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write a file, atomically and durably.

    Parameters
    ----------
    path : Path
    content : bytes or str
        A text is encoded as UTF-8, its line ends as they are.
    durable : bool
        False leaves it to the system when it reaches the disk.

    Raises
    ------
    ConfigurationError
        If it cannot be written; nothing of it is left behind, and a file that was
        there stays as it was.
    """
    with writing(path, durable=durable) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give the name under which a file, or a whole folder, is written first.

    At the block's end it appears under its own name, atomically and durably. What an
    earlier writer of this very path left as it was killed is removed.

    Parameters
    ----------
    path : Path
        Of a folder only where none is there, or an empty one.
    durable : bool
        False leaves it to the system when it reaches the disk.

    Yields
    ------
    Path
        Beside it, and not there yet.

    Raises
    ------
    ConfigurationError
        If it cannot be written.
    """
    host = sha256(socket.gethostname().encode()).hexdigest()[:6]
    start = f".{path.name[:80]}"
    name = f"{start}.{host}.{os.getpid()}.{next(_numbers)}.partial"
    partial = path.with_name(name)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.glob(f"{escape(start)}.*.partial"):
            if _is_left(other, host):
                _remove(other)
        try:
            yield partial
            if durable:
                publish(partial, path)
            else:
                partial.replace(path)
        except BaseException:
            _remove(partial)
            raise


def publish(partial: Path, path: Path) -> None:
    """Rename a file or a folder to its place, once all of it is on the disk."""
    with explained(path):
        if partial.is_dir():
            for inner in partial.rglob("*"):
                sync(inner)
            if path.is_dir():
                path.rmdir()
        sync(partial)
        partial.replace(path)
        sync(path.parent)


def sync(path: Path) -> None:
    """Have the system put a file, or the names in a folder, on the disk now."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # knows no such thing
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems cannot flush a folder.
        if not folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say in a sentence which file could not be written in this block, and why.

    Raises
    ------
    ConfigurationError
        In the place of every OSError.
    """
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"{path}: could not be written: {error.strerror or error}. Nothing half "
            f"written was left behind. {_remedy(error)}"
        ) from error


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Make room on this disk, or name a place on another, and run it again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Name a place that you may write to, or have it made writable."
    if error.errno == errno.ENAMETOOLONG:
        return "Name a place with a shorter path."
    return "Check that the path is right, and that its disk has room and is sound."


def is_partial(path: Path) -> bool:
    """Return whether this is what a writer has not finished."""
    return _PARTIAL.search(path.name) is not None


def clear_partial(folder: Path) -> None:
    """Remove what killed writers left anywhere in a folder.

    Nobody may be writing there: to be called by who holds its lock.
    """
    for path in list(folder.rglob(".*.partial")):
        if is_partial(path):
            _remove(path)


def _is_left(partial: Path, host: str) -> bool:
    """Return whether the process that wrote this is known to be gone."""
    import psutil

    found = _PARTIAL.search(partial.name)
    if found is None or found["host"] != host:
        return False
    return not psutil.pid_exists(int(found["process"]))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
