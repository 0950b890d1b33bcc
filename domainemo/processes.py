"""Local worker processes that can be interrupted, and that outlive nobody."""

from __future__ import annotations

import ast
import gc
import io
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.process
import os
import pickle
import runpy
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]
from types import FunctionType, ModuleType
from typing import Any

from .errors import ConfigurationError, RunError, show_notes
from .places import foreseen

__all__ = [
    "can_fork",
    "can_pack",
    "check_executor",
    "check_main",
    "companion",
    "cores",
    "ending",
    "follow_parent",
    "is_forking",
    "pack",
    "process_pool",
    "run_alone",
    "starting",
    "unpack",
]

_HIDING = threading.RLock()
_SECONDS_TO_CLOSE = 5.0  # that a pool of killed workers has


class _Worker(multiprocessing.context.SpawnProcess):
    """A process that starts without the user's script."""

    def start(self) -> None:
        """Start it, whichever thread needs it."""
        try:
            with starting():
                super().start()
        except BaseException:
            # Ctrl-C, answered once it has started: who asked for it never knows it.
            if self.pid is not None:
                self.kill()
            raise


class _Workers(multiprocessing.context.SpawnContext):
    """The processes of every pool of this library."""

    Process = _Worker


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def process_pool(
    workers: int, *, script: bool = False
) -> Iterator[ProcessPoolExecutor]:
    """Open local worker processes; on an interrupt they are killed at once.

    Parameters
    ----------
    workers : int
    script : bool
        Whether they import the script that runs, as what they are asked for stands in
        it. Others need not guard theirs by ``if __name__ == "__main__"``.
    """
    context = multiprocessing.get_context("spawn") if script else _Workers()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=follow_parent)
    try:
        yield pool
    except BaseException:
        # Before Python 3.14 the workers cannot be stopped through the public interface.
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        manager = getattr(pool, "_executor_manager_thread", None)
        pool.shutdown(wait=False, cancel_futures=True)
        if manager is not None:
            # Python, as it exits, would write to a pipe that this thread is closing.
            manager.join(_SECONDS_TO_CLOSE)
        raise
    pool.shutdown()


def companion(
    serve: Callable[..., None], *args: Any
) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    """Start a process that serves this one, and ends with it.

    Parameters
    ----------
    serve : callable
        Called there with its end of a connection, and the other arguments.

    Returns
    -------
    process : Process
    connection : Connection
        This end.
    """
    # A daemon, as Dask's workers are, may start none, which could outlive it.
    multiprocessing.current_process().daemon = False
    here, there = _Workers().Pipe()
    process = _Workers().Process(target=_serve, args=(serve, there, *args), daemon=True)
    process.start()
    there.close()
    return process, here


def _serve(serve: Callable[..., None], there: Connection, *args: Any) -> None:
    follow_parent()
    multiprocessing.current_process().daemon = False
    serve(there, *args)


def follow_parent() -> None:
    """Leave Ctrl-C to the parent, and die with it, however it dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if isinstance(multiprocessing.current_process(), _Worker):
        # A copy shows them as its parent does; here nobody has said how.
        show_notes(lambda text: print(text, file=sys.stderr))
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


Tell = Callable[[Mapping[str, float]], None]
"""Is told, by what runs in a process of its own, how far it is."""


def can_fork(threads: int) -> bool:
    """Return whether a copy of this process can train, on `threads` threads.

    Threads do not survive the copying, and neither does the use of a GPU.
    """
    import torch

    return sys.platform == "linux" and threads == 1 and not torch.cuda.is_available()


def run_alone(call: Callable[[Tell], None], tell: Tell, *, forked: bool) -> None:
    """Make a call in a process of its own, of whose state nothing is left.

    Parameters
    ----------
    call : callable
    tell : callable
        Called here with what `call` tells there, which waits for it; what it raises
        ends the process.
    forked : bool
        Whether the process is a copy of this one. If not, `call` is pickled.

    Raises
    ------
    DomainemoError
        What `call` raised, with how it came to it as the cause; :class:`RunError` in
        place of any other error, and if the process died.
    """
    context = multiprocessing.get_context("fork") if forked else _Workers()
    here, there = context.Pipe()
    process = context.Process(target=_answer, args=(there, call))
    try:
        # In here, since a stop that comes as it starts is answered once it has.
        with warnings.catch_warnings(), _stops_held():
            # Python 3.12 warns of threads that the copy lacks; training needs none.
            warnings.simplefilter("ignore", DeprecationWarning)
            with _left_as_it_is() if forked else nullcontext():
                process.start()
        there.close()
        while (answer := here.recv()) is not None:
            if isinstance(answer, tuple):
                error, told = answer
                raise error from RemoteTraceback(told)
            tell(answer)
            here.send(None)
        process.join()
    except EOFError:
        process.join()
        raise RunError(
            f"its process was ended {ending(process.exitcode)}. Run again to resume."
        ) from None
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
        here.close()


@contextmanager
def _left_as_it_is() -> Iterator[None]:
    """Have a copy of this process never collect what is garbage here already.

    What that does as it goes may wait for a thread which the copy lacks, for good.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _answer(there: Connection, call: Callable[[Tell], None]) -> None:
    """Make the call; send what it tells, and at the end None or what it raised.

    Of what it raised, the traceback goes along as text: no other process can have it.
    """
    follow_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def tell(row: Mapping[str, float]) -> None:
        there.send(dict(row))
        there.recv()

    try:
        call(tell)
    except Exception as error:
        known = foreseen(error)
        told = "".join(traceback.format_exception(error))
        there.send((known if _can_send(known) else RunError(str(known)), told))
    else:
        there.send(None)


def _can_send(error: Exception) -> bool:
    """Return whether another process can have an error, as one of a plug-in's own."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True


def ending(exit_code: int | None) -> str:
    """Say in words how a process ended that gave no reason."""
    if exit_code is None or exit_code >= 0:
        return f"with exit code {exit_code}"
    return f"by {signal.Signals(-exit_code).name}, perhaps for want of memory"


@contextmanager
def starting() -> Iterator[None]:
    """Start processes in this block: Ctrl-C is left to this one, and its script too.

    Without this, every new process would first run the user's script again, up to
    where that one starts processes. What lives in the script is sent by :func:`pack`.
    """
    with _stops_held(), _HIDING:
        main = vars(sys.modules["__main__"])
        names = ("__file__", "__spec__")
        kept: dict[str, Any] = {name: main[name] for name in names if name in main}
        main.pop("__file__", None)
        main["__spec__"] = None
        try:
            yield
        finally:
            main.update(kept)


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


# ----------------------------------------------------- what is sent to other processes


class _Pickler(pickle.Pickler):
    """Notes what lives in the user's script, which other processes do not know."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.of_main: list[str] = []

    def reducer_override(self, value: Any) -> Any:
        """Note a class or a function; leave the rest to pickle."""
        if isinstance(value, type | FunctionType) and value.__module__ == "__main__":
            self.of_main.append(value.__qualname__)
        return NotImplemented


def pack(content: Any, *, forked: bool = False) -> bytes:
    """Pickle what a process of this program will :func:`unpack`.

    Parameters
    ----------
    content : object
        It may be of a class that the user's script defines; the process then imports
        the script, once.
    forked : bool
        Whether that process is a copy of this one, which has everything.

    Raises
    ------
    ConfigurationError
        If other processes cannot have it: it lives in a notebook, or in a script that
        would run again when imported.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    try:
        pickler.dump(content)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"Other processes cannot be sent what they would need: {error}. Define "
            f"classes and functions at the top of a file, or use one process."
        ) from error
    place = None if forked or not pickler.of_main else _main(pickler.of_main[0])
    return pickle.dumps((place, file.getvalue()))


def can_pack(content: Any) -> bool:
    """Return whether other processes can have `content`."""
    try:
        pack(content)
    except ConfigurationError:
        return False
    return True


def unpack(packed: bytes) -> Any:
    """Return what another process of this program has packed."""
    place, content = pickle.loads(packed)
    # A process that is a copy of the first one has the script already.
    if place is not None and not hasattr(sys.modules["__main__"], "__file__"):
        how, where = place
        run = runpy.run_module if how == "module" else runpy.run_path
        main = ModuleType("__mp_main__")
        main.__dict__.update(run(where, run_name="__mp_main__"))
        sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    return pickle.loads(content)


def is_forking(executor: Executor) -> bool:
    """Return whether an executor's processes are copies of this one."""
    context = getattr(executor, "_mp_context", None)
    return context is not None and context.get_start_method() == "fork"


def check_executor(executor: Executor) -> None:
    """Refuse an executor that folds cannot be trained on.

    Raises
    ------
    ConfigurationError
        For threads, and for processes that would run the user's script again.
    """
    if type(executor).__module__.startswith("distributed."):
        raise ConfigurationError(
            "Dask's own executor would train in threads, which share their random "
            "numbers; give that of `domainemo.cluster(ADDRESS)`, which keeps processes "
            "beside its workers."
        )
    if isinstance(executor, ThreadPoolExecutor):
        raise ConfigurationError(
            "Folds cannot be trained in threads, which share their random numbers; "
            "give an executor of processes, or none."
        )
    context = getattr(executor, "_mp_context", None)
    if context is None or isinstance(context, _Workers) or is_forking(executor):
        return
    check_main()


def check_main() -> None:
    """Refuse to start processes that would run the user's script again.

    Raises
    ------
    ConfigurationError
    """
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path and os.path.exists(path) and not _is_guarded(path):
        raise ConfigurationError(
            f"The executor's processes would import {path} and run it again. Put what "
            f'it does under `if __name__ == "__main__":`, or give no executor.'
        )


def _main(name: str) -> tuple[str, str]:
    """Return how the user's script is imported: as a module, or from a path."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or not os.path.exists(path):
        raise ConfigurationError(
            f"{name} is defined in a notebook or a command, which other processes "
            f"cannot import. Put it into a file and import it from there, or use one "
            f"process."
        )
    if not _is_guarded(path):
        raise ConfigurationError(
            f"{name} is defined in {path}, which other processes would have to import, "
            f"and so would run again. Put what the script does under "
            f'`if __name__ == "__main__":`, put {name} into a file of its own, or use '
            f"one process."
        )
    if main.__spec__ is not None:
        return "module", main.__spec__.name
    return "path", os.path.abspath(path)


def _is_guarded(path: str) -> bool:
    """Return whether a script asks if it is the main one before it does anything."""
    with open(path, "rb") as file:
        body = ast.parse(file.read()).body
    tests = [each.test for each in body if isinstance(each, ast.If)]
    names = [each for test in tests for each in ast.walk(test)]
    return any(isinstance(each, ast.Name) and each.id == "__name__" for each in names)
