"""Where something went wrong: in whose part, in which file, on which line."""

from __future__ import annotations

import inspect
import linecache
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from .errors import ConfigurationError, DataError, DomainemoError, RunError

__all__ = [
    "PLUGIN",
    "called",
    "contract_error",
    "during_import",
    "foreseen",
    "is_library",
    "is_ours",
    "is_outside",
    "is_standard",
    "naming_parts",
    "unforeseen",
    "where",
]

PLUGIN = "domainemo_plugin_"
"""How the name of a plug-in's module begins."""

_PACKAGE = __name__.partition(".")[0]
_CONTRACT = f"{_PACKAGE}.core"
_LIBRARIES = ("site-packages", "dist-packages")
_STANDARD = sysconfig.get_path("stdlib")

Step = tuple[FrameType, int]
"""A frame of a traceback, and the line that it was at."""


@contextmanager
def naming_parts() -> Iterator[None]:
    """Say whose code it was where a part from outside this package raises.

    What else is raised goes on as it is. As a decorator, it does so for a function.

    Raises
    ------
    ConfigurationError, DataError
        A data set's is a :class:`DataError`. What was raised is its cause.
    """
    try:
        yield
    except DomainemoError:
        raise
    except Exception as error:
        steps = _of_outside(_steps(error))
        if not steps:
            raise
        kind, name = _part(steps[0][0])
        refusal = DataError if kind == "data set" else ConfigurationError
        whose = f"The {kind} {name}" if name else "A plug-in"
        raise refusal(
            f"{whose} failed: {_words(error)}, in {_place(_innermost(steps))}. Correct "
            f"it there."
        ) from error


def foreseen(error: BaseException) -> DomainemoError:
    """Return an error that is a sentence: itself where it is one."""
    if isinstance(error, DomainemoError):
        return error
    return RunError(unforeseen(error))


def unforeseen(error: BaseException) -> str:
    """Return what was raised by no part from outside, and where, as a sentence."""
    if isinstance(error, OSError):
        return (
            f"{error.filename or 'a file'}: {error.strerror or error}. Check that the "
            f"path is right, that it may be written to, and that the disk is not full."
        )
    steps = _steps(error)
    ours = [step for step in steps if not _is_library(step[0])] or steps
    place = f", in {_place(ours[-1])}" if ours else ""
    return (
        f"{_words(error)}{place}. domainemo did not foresee this; set "
        f"DOMAINEMO_TRACEBACK=1 to see how it came to it, and please report it."
    )


def during_import(error: BaseException) -> str:
    """Return what ended the import of a plug-in, and on which of its lines."""
    words = str(error) if isinstance(error, DomainemoError) else _words(error)
    if isinstance(error, SyntaxError) and error.filename:
        text = (error.text or "").strip()
        shown = f": `{text}`" if text else ""
        return (
            f"{type(error).__name__}: {error.msg}, in {error.filename}, line "
            f"{error.lineno}{shown}."
        )
    steps = _of_outside(_steps(error))
    place = f" (in {_place(_innermost(steps))})" if steps else ""
    return f"{words.rstrip('.')}{place}."


def contract_error(
    part: object, method: str, found: str, expected: str
) -> ConfigurationError:
    """Return the error that says what a part's method returned, and where it stands.

    Parameters
    ----------
    part : object
        Of a class of the contract.
    method : str
        What was called.
    found, expected : str
        Phrases without a full stop, such as ``"a list"``.
    """
    kind, name = _named(type(part))
    called = "" if method in ("forward", "__call__") else f".{method}"
    return ConfigurationError(
        f"The {kind} {name}{called} returned {found}; expected {expected}. Correct "
        f"{where(part, method)}."
    )


def where(part: object, method: str = "") -> str:
    """Return the file and the line on which a part's method, or its class, begins."""
    cls = part if isinstance(part, type) else type(part)
    function = inspect.unwrap(getattr(cls, method, None) or cls)
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        name = code.co_qualname.replace("<locals>.", "")
        return f"{code.co_filename}, line {code.co_firstlineno}, in {name}"
    try:
        line = inspect.getsourcelines(cls)[1]
        return f"{inspect.getsourcefile(cls)}, line {line}, in {cls.__qualname__}"
    except (OSError, TypeError):  # made in a session without a file
        return f"{cls.__module__}.{cls.__qualname__}"


def called(value: object) -> str:
    """Return in words what a value is: its type, and its shape where it has one."""
    if value is None:
        return "nothing (None)"
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", None)
    of = f" of shape {tuple(shape)} and type {kind}" if isinstance(shape, tuple) else ""
    name = type(value).__name__.removeprefix("nd")  # NumPy's arrays
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}{of}"


def _words(error: BaseException) -> str:
    """Return an error's type and message in one line."""
    message = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _steps(error: BaseException) -> list[Step]:
    """Return where an error came through, the innermost step last."""
    found = []
    trace = error.__traceback__
    while trace is not None:
        found.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return found


def _of_outside(steps: list[Step]) -> list[Step]:
    """Return the steps from where code of a part from outside was entered."""
    entered = False
    for number, (frame, _) in enumerate(steps):
        its_module = str(frame.f_globals.get("__name__", ""))
        # Before, it is the code of whoever calls this package.
        if entered and (its_module.startswith(PLUGIN) or _part(frame)[1]):
            return steps[number:]
        entered = entered or is_ours(its_module)
    return []


def _innermost(steps: list[Step]) -> Step:
    """Return the last step that is neither a library's nor this package's."""
    outside = [
        step for step in steps if not _is_library(step[0]) and not _runs_ours(step[0])
    ]
    return outside[-1] if outside else steps[0]


def _part(frame: FrameType) -> tuple[str, str]:
    """Return kind and name of the part from outside whose method a frame runs."""
    code = frame.f_code
    if not code.co_argcount:
        return "", ""
    owner = frame.f_locals.get(code.co_varnames[0])
    cls = owner if isinstance(owner, type) else type(owner)
    # A method of the contract itself may run for a part, and is no code of it.
    if _runs_ours(frame) or not is_outside(cls):
        return "", ""
    return _named(cls)


def _named(cls: type) -> tuple[str, str]:
    """Return the kind of a class of the contract, and its name; else nothing."""
    for base in cls.__mro__:
        if base.__module__ == _CONTRACT:
            return base.__name__.lower().replace("dataset", "data set"), cls.__name__
    return "", ""


def is_ours(module: Any) -> bool:
    """Return whether a module, by its name, is of this package."""
    return str(module).partition(".")[0] == _PACKAGE


def is_outside(cls: type) -> bool:
    """Return whether a class is a part's that is defined elsewhere than here."""
    return not is_ours(cls.__module__) and bool(_named(cls)[1])


def _runs_ours(frame: FrameType) -> bool:
    return is_ours(frame.f_globals.get("__name__"))


def _is_library(frame: FrameType) -> bool:
    return not _runs_ours(frame) and is_library(frame.f_code.co_filename)


def is_library(path: str) -> bool:
    """Return whether a file is of Python or of an installed distribution."""
    if path.startswith("<"):
        return True
    return _is_installed(path) or path.startswith(_STANDARD)


def is_standard(path: str) -> bool:
    """Return whether a file is of Python itself."""
    return path.startswith(_STANDARD) and not _is_installed(path)


def _is_installed(path: str) -> bool:
    return any(part in Path(path).parts for part in _LIBRARIES)


def _place(step: Step) -> str:
    """Return file, line, function and the line's text."""
    frame, line = step
    code = frame.f_code
    text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    name = code.co_qualname.replace("<locals>.", "")
    inside = "" if name == "<module>" else f", in {name}"
    return f"{code.co_filename}, line {line}{inside}" + (f": `{text}`" if text else "")
