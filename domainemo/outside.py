"""The text of parts from outside this package, by which a run knows them again."""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .places import is_library, is_ours, is_standard

__all__ = ["code_of", "is_plain", "text_of"]

_SCRIPT = "__main__"


def is_plain(value: Any) -> bool:
    """Return whether a value is numbers, words, or lists and mappings of them."""
    if isinstance(value, tuple | list):
        return all(map(is_plain, value))
    if isinstance(value, Mapping):
        return all(is_plain(each) for pair in value.items() for each in pair)
    return isinstance(value, bool | int | float | str)


def text_of(cls: Any) -> str:
    """Return the text that makes a class or a function what it is.

    That of its module, and of every module beside it which this one names. Of a script
    or notebook, which changes for other reasons too, it is the class itself, and the
    functions, classes, numbers and words of the script that it names.

    Parameters
    ----------
    cls : type or function
    """
    return "\n".join(sorted(_texts("", cls, set(), whole=True)))


def code_of(value: Any) -> str:
    """Return what a function was compiled to, and the plain values it has caught.

    Empty of anything else. It tells two functions of one text apart.

    Parameters
    ----------
    value : object
    """
    bare = _bare(value)
    if not isinstance(bare, FunctionType):
        return ""
    caught = [each.cell_contents for each in bare.__closure__ or ()]
    usual = (*caught, *(bare.__defaults__ or ()), *(bare.__kwdefaults__ or {}).items())
    compiled = "\n".join(map(_compiled, _codes(bare)))
    return f"{compiled} {[each for each in usual if is_plain(each)]}"


def _texts(
    name: str, value: Any, seen: set[int], *, whole: bool = False
) -> Iterator[str]:
    """Yield the text of what a name stands for, and of all that this names."""
    if is_plain(value):
        yield f"{name} = {value!r}"
        return
    value = _bare(value)
    module = _module_of(value)
    if module is None or id(value) in seen:
        return
    seen.add(id(value))
    if module.__name__ != _SCRIPT:
        # Of a library the part's own module, and no other.
        yield from _of_module(module, seen, whole=whole)
    elif not isinstance(value, ModuleType):
        yield f"{value.__qualname__}\n{_source(value)}"
        for base in getattr(value, "__bases__", ()):
            yield from _texts("", base, seen)
        for each in sorted(set(_named(value))):
            if each in vars(module):
                yield from _texts(each, vars(module)[each], seen)


def _of_module(module: ModuleType, seen: set[int], *, whole: bool) -> Iterator[str]:
    file = getattr(module, "__file__", None)
    if file is None or is_standard(file) or is_ours(module.__name__):
        return
    library = is_library(file)
    # Anything of a module stands for it; its name tells it from others in `seen`.
    if hash(module.__name__) in seen or (library and not whole):
        return
    seen.add(hash(module.__name__))
    yield f"{module.__name__}\n{_source(module)}"
    for name, value in list(vars(module).items()) if not library else ():
        if not is_plain(value):  # which its text has
            yield from _texts(name, value, seen)


def _bare(value: Any) -> Any:
    """Return the function that a method, a property or a decorated one is made of."""
    for attribute in ("__func__", "fget", "func"):
        inner = inspect.getattr_static(value, attribute, None)
        if isinstance(value, type | ModuleType) or not callable(inner):
            continue
        value = getattr(value, attribute)
    wrapped = not isinstance(value, type) and hasattr(value, "__wrapped__")
    return inspect.unwrap(value) if wrapped else value


def _module_of(value: Any) -> ModuleType | None:
    if isinstance(value, ModuleType):
        return value
    if isinstance(value, type | FunctionType):
        return sys.modules.get(value.__module__)
    return None


def _source(value: Any) -> str:
    """Return a text; where nobody knows it, that of its methods or what they became."""
    try:
        if isinstance(value, ModuleType):
            file = inspect.getsourcefile(value)
            return Path(file).read_text(encoding="utf-8") if file else ""
        return inspect.getsource(value)
    except (OSError, TypeError, UnicodeDecodeError):
        pass
    if isinstance(value, type):  # in a notebook its methods have one
        plain = (f"{k} = {v!r}" for k, v in vars(value).items() if is_plain(v))
        return "\n".join(sorted([*plain, *map(_source, _methods(value))]))
    return "\n".join(map(_compiled, _codes(value)))


def _compiled(code: CodeType) -> str:
    constants = [each for each in code.co_consts if is_plain(each)]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _methods(cls: type) -> Iterator[FunctionType | type]:
    """Yield a class's own functions, and the classes that are defined in it."""
    for value in map(_bare, vars(cls).values()):
        inside = isinstance(value, type) and value.__qualname__.startswith(
            f"{cls.__qualname__}."
        )
        if inside or isinstance(value, FunctionType):
            yield value


def _named(value: Any) -> Iterator[str]:
    """Yield the names from around it that a function, or a class's methods, use."""
    for code in _codes(value):
        for step in dis.get_instructions(code):
            if step.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME")):
                yield str(step.argval)


def _codes(value: Any) -> Iterator[CodeType]:
    """Yield what was compiled of a function, or of a class's methods, and inside."""
    if isinstance(value, type):
        for each in _methods(value):
            yield from _codes(each)
    elif isinstance(value, FunctionType):
        yield from _codes(value.__code__)
    elif isinstance(value, CodeType):
        yield value
        for constant in value.co_consts:
            yield from _codes(constant)
