"""Local worker processes that can be interrupted, and that outlive nobody."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

__all__ = ["cores", "follow_parent", "process_pool", "starting"]


class _Worker(multiprocessing.context.SpawnProcess):
    """A process that starts without the user's script."""

    def start(self) -> None:
        """Start it, whichever thread needs it."""
        with starting():
            super().start()


class _Workers(multiprocessing.context.SpawnContext):
    """The processes of every pool of this library."""

    Process = _Worker


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Open local worker processes; on an interrupt they are killed at once."""
    pool = ProcessPoolExecutor(
        workers, mp_context=_Workers(), initializer=follow_parent
    )
    try:
        yield pool
    except BaseException:
        # Before Python 3.14 the workers cannot be stopped through the public interface.
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def follow_parent() -> None:
    """Leave Ctrl-C to the parent, and die with it, however it dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def starting() -> Iterator[None]:
    """Start processes in this block, so that Ctrl-C is left to this one.

    A script that was read from standard input has no file that they could import; it
    is kept from them, as a notebook is.
    """
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    missing = path is not None and not os.path.exists(path)
    if missing:
        del main.__file__
    try:
        with _stops_held():
            yield
    finally:
        if missing:
            main.__file__ = path


@contextmanager
def _stops_held() -> Iterator[None]:
    """Let processes started in this block inherit that Ctrl-C does not reach them.

    A signal that comes meanwhile is answered after it: one that is half started would
    read half of what it is sent, and show a traceback.
    """
    held: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda n, frame: held.append(n))
    try:
        with _interrupts_blocked():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in held[:1]:
            before[number](number, None)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
