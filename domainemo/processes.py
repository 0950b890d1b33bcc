"""Local worker processes that can be interrupted, and that outlive nobody."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

__all__ = ["cores", "follow_parent", "process_pool", "starting"]


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Open local worker processes; on an interrupt they are killed at once."""
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=follow_parent,
    )
    with starting():
        pool.submit(_ready)
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


def _ready() -> None:
    """Do nothing: the first job, whose submission starts the workers."""


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
        with _interrupts_ignored():
            yield
    finally:
        if missing:
            main.__file__ = path


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let processes started in this block inherit that they ignore Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
