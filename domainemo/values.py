"""An option's value against its annotation: one rule for parts, settings and ranges."""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import ConfigurationError

__all__ = [
    "LARGEST_SEED",
    "option_types",
    "check_fields",
    "check_seeds",
    "check_value",
    "fits",
]

LARGEST_SEED = 2**32 - 1
"""What every generator of random numbers takes; the smallest is 0."""

_LARGEST = 2**63 - 1  # of a whole number: what TOML, tensors and arrays can hold
_SHOWN = 80  # characters of a value in a sentence


def option_types(made: Any) -> Mapping[str, Any]:
    """Return the annotation of every option of a constructor.

    Parameters
    ----------
    made : type or callable
        Annotations that cannot be resolved are left out, as a plug-in's that are there
        for type checkers only.
    """
    called = getattr(made, "__init__", None) if isinstance(made, type) else made
    try:
        return dict(get_type_hints(called))
    except Exception:  # whatever a plug-in has written there
        return {}


def check_value(
    name: str, value: Any, annotation: Any = Any, default: Any = inspect.Parameter.empty
) -> None:
    """Raise :class:`ConfigurationError` unless a value fits.

    Numbers are finite, whole ones are no booleans and no ``1e3``, words are not blank.

    Parameters
    ----------
    name : str
        What the value is of, in full.
    value : object
    annotation : object
        A type, or what :mod:`typing` makes of types.
    default : object
        Told as an example; its type stands in for an annotation that is missing.
    """
    if annotation in (Any, object, inspect.Parameter.empty):
        annotation = _of_default(default)
    if fits(value, annotation) or (type(value) is type(default) and value == default):
        return
    example = ""
    if default is not inspect.Parameter.empty and default is not None:
        example = f" such as the default {default!r}"
    raise ConfigurationError(
        f"{name} is {_shown(value)} of type {type(value).__name__}; expected "
        f"{_in_words(annotation)}{example}."
    )


def check_fields(settings: Any, group: str) -> None:
    """Raise :class:`ConfigurationError` unless every field of a dataclass fits."""
    known = option_types(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        check_value(f"{group}.{field.name}", value, known[field.name], field.default)


def check_seeds(name: str, seeds: Any) -> list[int]:
    """Return seeds as a list; raise :class:`ConfigurationError` where one is none."""
    if isinstance(seeds, str | Mapping) or not hasattr(seeds, "__iter__"):
        raise ConfigurationError(
            f"{name} is {_shown(seeds)}; expected a list of whole numbers such as "
            f"[0, 1, 2]."
        )
    found = []
    for seed in seeds:
        whole = hasattr(seed, "__index__") and not isinstance(seed, bool)
        if not whole or not 0 <= seed <= LARGEST_SEED:
            raise ConfigurationError(
                f"{name} holds {_shown(seed)}; expected whole numbers from 0 to "
                f"{LARGEST_SEED}."
            )
        found.append(int(seed))
    return found


def fits(value: Any, annotation: Any) -> bool:
    """Return whether a value fits, see :func:`check_value`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is Any or annotation is object:
        return not isinstance(value, float) or math.isfinite(value)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in inner)
    if annotation is None or annotation is type(None):
        return value is None
    kind = origin or annotation
    if kind in (tuple, list, Sequence):
        return _is_list_of(value, kind, inner)
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return _is_number(value) and isinstance(value, int)
    if kind is float:
        return _is_number(value)
    if kind is str:
        # A name may look like a number: a session, or half of a pair.
        return bool(value.strip()) if isinstance(value, str) else fits(value, int)
    if not isinstance(kind, type):
        return True
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be asked
        return True


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)


def _is_list_of(value: Any, kind: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple | list):
        return False
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        pairs = zip(value, inner, strict=False)
        return len(value) == len(inner) and all(fits(*each) for each in pairs)
    return not inner or all(fits(each, inner[0]) for each in value)


def _in_words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(each) for each in inner if each is not type(None))
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    kind = origin or annotation
    if kind in (tuple, list, Sequence):
        each = [name for name in inner if name is not Ellipsis]
        return f"list of {_in_words(each[0])}" if each else "list"
    numbers = {int: "int, a whole number", float: "float, a finite number"}
    words = {**numbers, bool: "bool, true or false", str: "str, a word"}
    return words.get(kind) or str(getattr(kind, "__name__", kind))


def _of_default(default: Any) -> Any:
    """Return what stands in for an annotation that is missing."""
    if isinstance(default, tuple | list):
        return Sequence
    return type(default) if isinstance(default, bool | int | float | str) else Any


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
