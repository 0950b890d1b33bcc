"""What runs on a Dask worker: calls go to a process of ours beside it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from ..processes import companion, ending
from .beside import serve

__all__ = ["Died", "Parcel", "end_run", "on_worker"]

_POLL_SECONDS = 0.2
_IDLE_SECONDS = 60

Waiting = tuple[str, BaseProcess, Connection]

_idle: list[Waiting] = []
"""Processes that wait for another call, each with the run that it belongs to."""

_ended: set[str] = set()
"""Runs that ask for nothing any more; a call of theirs may still end well here."""

_watched: dict[Path, str] = {}
"""Folders that were sent here, and the name of the files in them to tell of."""


class Died(Exception):
    """The process beside a worker died; the message says how."""


class _Dropped(Exception):
    """Nobody waits for the call any longer."""


def on_worker(run: str, call: bytes) -> bytes:
    """Make a call in a process beside this Dask worker, and return its answer.

    Where Dask drops the call meanwhile, the process is killed.

    Parameters
    ----------
    run : str
        Processes are kept for the calls of one run, and of no other.
    call : bytes
        Of :func:`~domainemo.machines.beside.pack_call`.

    Returns
    -------
    bytes
        Pickled: whether it ended well, and what it returned or raised.

    Raises
    ------
    Died
    """
    worker = get_worker()
    key = worker.get_current_task()
    worker.log_event(run, {"key": key, "worker": worker.address})
    told: dict[str, str] = {}
    with _process(run, Path(worker.local_directory)) as (process, connection):
        try:
            connection.send_bytes(call)
            while not connection.poll(_POLL_SECONDS):
                if _is_dropped(worker, key):
                    raise _Dropped
                for path, text in _texts():
                    if told.get(path) != text:
                        told[path] = text
                        worker.log_event(run, {"path": path, "text": text})
            return connection.recv_bytes()
        except (EOFError, OSError) as error:
            process.join()
            raise Died(ending(process.exitcode)) from error


def _is_dropped(worker: Worker, key: Any) -> bool:
    """Return whether nobody waits for a call, as whoever asked for it is gone."""
    task = worker.state.tasks.get(key)
    return task is None or task.state == "cancelled"


@contextmanager
def _process(run: str, folder: Path) -> Iterator[tuple[BaseProcess, Connection]]:
    """Lend a process of a run in this block, which is killed where that ends badly."""
    process, connection = _taken(run) or companion(serve, folder)
    waiting = (run, process, connection)
    try:
        yield process, connection
    except BaseException:
        _kill(waiting)
        raise
    _idle.append(waiting)
    if run in _ended:
        _end(waiting)
        return
    timer = threading.Timer(_IDLE_SECONDS, _end, [waiting])
    timer.daemon = True
    timer.start()


def _taken(run: str) -> tuple[BaseProcess, Connection] | None:
    for waiting in list(_idle):
        if waiting[0] == run and _remove(waiting):
            return waiting[1:]
    return None


def _remove(waiting: Waiting) -> bool:
    """Take a process from those that wait; False where another thread was faster."""
    try:
        _idle.remove(waiting)
    except ValueError:
        return False
    return True


def end_run(run: str) -> None:
    """End what waits for another call of a run, now or when its call has ended."""
    _ended.add(run)
    for waiting in list(_idle):
        if waiting[0] == run:
            _end(waiting)


def _end(waiting: Waiting) -> None:
    if _remove(waiting):
        _kill(waiting)


def _kill(waiting: Waiting) -> None:
    _, process, connection = waiting
    process.kill()
    process.join()
    connection.close()


# ------------------------------------------------------------ where no disk is shared


class Parcel(WorkerPlugin):
    """A folder of files for every worker, whenever it joins, that does not see it.

    Parameters
    ----------
    folder : Path
    watched : str
        The name of the files in whose text whoever sends it is interested.
    """

    def __init__(self, folder: Path, watched: str) -> None:
        self.folder, self.name, self.watched = str(folder), folder.name, watched
        self.content = {path.name: path.read_bytes() for path in folder.iterdir()}

    def setup(self, worker: Worker) -> None:
        """Write the files into a folder of that name, where processes look for it."""
        if Path(self.folder).is_dir():
            return
        folder = Path(worker.local_directory, self.name)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.content.items():
            (folder / name).write_bytes(content)
        _watched[folder] = self.watched

    def teardown(self, worker: Worker) -> None:
        """Remove them, and what was made beside them."""
        folder = Path(worker.local_directory, self.name)
        _watched.pop(folder, None)
        shutil.rmtree(folder, ignore_errors=True)


def _texts() -> Iterator[tuple[str, str]]:
    """Yield what watched files hold, each by its path from its parcel's name on."""
    for folder, name in list(_watched.items()):
        for path in list(folder.rglob(name)):
            with suppress(OSError):  # finished meanwhile
                yield (
                    str(path.relative_to(folder.parent)),
                    path.read_text(encoding="utf-8"),
                )
