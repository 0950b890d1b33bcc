"""Ctrl-C, a scheduler's stop, a closed terminal: a sentence and an exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["Stopped", "answered", "interruptible"]

_CODES = {"SIGINT": 4, "SIGTERM": 143, "SIGHUP": 129}
"""Exit codes: not done, and resumable; else what shells expect of a signal."""

_KEPT = "What is finished is kept; the same command resumes."


class Stopped(KeyboardInterrupt):
    """Asks the work in progress to put things in order and end.

    Every library lets it pass, as it is a KeyboardInterrupt.
    """


class _Answer:
    """What is done about a signal; the handler of all of them."""

    def __init__(self) -> None:
        self.working = False
        self.received = ""
        self.said = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Have the work end in order; leave at once where that is of no use."""
        first = not self.received
        self.received = self.received or signal.Signals(number).name
        # Compiled modules print what is raised while they are imported.
        if first and self.working and not _is_importing(frame):
            # It logs that a query was interrupted, with a traceback.
            logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)
            raise Stopped
        self.leave()

    @property
    def code(self) -> int:
        """The exit code."""
        return _CODES.get(self.received, _CODES["SIGINT"])

    def say(self, kept: str = _KEPT) -> None:
        """Say once that the command was interrupted."""
        if self.said:
            return
        self.said = True
        with suppress(OSError):  # a terminal that is closed
            os.write(2, f"\nInterrupted. {kept}\n".encode())

    def leave(self) -> None:
        """End this process here and now; its workers end with it."""
        with suppress(OSError):
            if os.isatty(2):
                os.write(2, b"\x1b[?25h")  # the cursor, which a bar may have hidden
        self.say()
        os._exit(self.code)


_answer = _Answer()


@contextmanager
def answered() -> Iterator[None]:
    """Answer signals from here to the end of the process.

    Outside :func:`interruptible` there is nothing to put in order, and the process
    ends at once; so it does at a second signal. What the process was told to ignore,
    as by ``nohup``, stays ignored.
    """
    _answer.__init__()  # type: ignore[misc]
    report = sys.unraisablehook

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        # Raised where Python cannot raise, such as in a destructor, it would be lost.
        if isinstance(found.exc_value, Stopped):
            _answer.leave()
        report(found)

    if threading.current_thread() is threading.main_thread():
        sys.unraisablehook = unraisable
        for number in map(signal.Signals.__members__.get, _CODES):
            if number and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _answer)
    try:
        yield
    except BaseException as error:
        # Whatever a library has made of it on the way.
        if _answer.received and getattr(error, "code", None) != _answer.code:
            _answer.leave()
        raise


@contextmanager
def interruptible(kept: str = _KEPT) -> Iterator[None]:
    """Let signals end this block in order: then a sentence, and an exit code.

    Parameters
    ----------
    kept : str
        What is kept and how to go on, as a sentence.
    """
    import typer

    _answer.working = True
    try:
        yield
    except KeyboardInterrupt:
        _answer.say(kept)
        raise typer.Exit(_answer.code) from None
    finally:
        _answer.working = False


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported in a stack."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
