"""The text of parts from outside this package, by which a run knows them again."""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .places import is_library, is_ours

__all__ = ["text_of"]

_SCRIPT = "__main__"
_PLAIN = (bool, int, float, str)


def text_of(cls: type) -> str:
    """Return the text that makes a class what it is.

    That of its module, and of every module beside it which this one names. Of a script
    or notebook, which changes for other reasons too, it is the class itself, and the
    functions, classes, numbers and words of the script that it names.

    Parameters
    ----------
    cls : type
    """
    found = dict(_texts("", cls, whole=True))
    return "\n".join(f"{where}\n{found[where]}" for where in sorted(found))


def _texts(
    name: str, value: Any, seen: set[Any] | None = None, *, whole: bool = False
) -> Iterator[tuple[str, str]]:
    """Yield what a name stands for, and all that this names, each with its text."""
    seen = set() if seen is None else seen
    if isinstance(value, _PLAIN):
        yield f"{name} = {value!r}", ""
        return
    module = _module_of(value)
    if module is None:
        return
    if module.__name__ != _SCRIPT:
        # Of a library the part's own module, and no other.
        yield from _of_module(module, seen, whole=whole)
    elif isinstance(value, type | FunctionType) and value not in seen:
        seen.add(value)
        yield value.__qualname__, _source(value)
        for each in sorted(set(_named(value))):
            if each in vars(module):
                yield from _texts(each, vars(module)[each], seen)


def _of_module(
    module: ModuleType, seen: set[Any], *, whole: bool
) -> Iterator[tuple[str, str]]:
    file = getattr(module, "__file__", None)
    library = file is None or is_library(file)
    if module in seen or is_ours(module.__name__) or (library and not whole):
        return
    seen.add(module)
    yield module.__name__, _source(module)
    for name, value in vars(module).items() if not library else ():
        if not isinstance(value, _PLAIN):  # which its text has
            yield from _texts(name, value, seen)


def _module_of(value: Any) -> ModuleType | None:
    if isinstance(value, ModuleType):
        return value
    if isinstance(value, type | FunctionType):
        return sys.modules.get(value.__module__)
    return None


def _source(value: Any) -> str:
    """Return a text; where nobody knows it, what was compiled of it."""
    try:
        if isinstance(value, ModuleType):
            file = inspect.getsourcefile(value)
            return Path(file).read_text(encoding="utf-8") if file else ""
        return inspect.getsource(value)
    except (OSError, TypeError, UnicodeDecodeError):
        return " ".join(code.co_code.hex() for code in _codes(value))


def _named(value: Any) -> Iterator[str]:
    """Yield the names from around it that a function, or a class's methods, use."""
    for code in _codes(value):
        for step in dis.get_instructions(code):
            if step.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME")):
                yield str(step.argval)
    yield from (base.__name__ for base in getattr(value, "__bases__", ()))


def _codes(value: Any) -> Iterator[CodeType]:
    """Yield what was compiled of a function, or of a class's methods, and inside."""
    if isinstance(value, type):
        for each in vars(value).values():
            each = getattr(each, "__func__", getattr(each, "fget", each))
            if isinstance(each, FunctionType | type):
                yield from _codes(inspect.unwrap(each))
    elif isinstance(value, FunctionType):
        yield from _codes(value.__code__)
    elif isinstance(value, CodeType):
        yield value
        for constant in value.co_consts:
            yield from _codes(constant)
