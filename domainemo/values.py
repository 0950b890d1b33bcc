"""An option's annotation is its schema: one rule for parts, settings and ranges.

A `Literal` names the words that fit, a union the types, :class:`Bounds` the numbers:

>>> def __init__(
...     self,
...     *,
...     schedule: Literal["ramp", "constant"] = "ramp",
...     temperature: Annotated[float, Bounds(above=0)] = 0.1,
... ) -> None: ...
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from .errors import ConfigurationError

__all__ = [
    "LARGEST_SEED",
    "SEEDS",
    "Bounds",
    "checks_options",
    "given_options",
    "given_path",
    "option_types",
    "check_fields",
    "check_folders",
    "check_seeds",
    "check_value",
    "fits",
    "plain",
]

LARGEST_SEED = 2**32 - 1
"""What every generator of random numbers takes; the smallest is 0."""

_LARGEST = 2**63 - 1  # of a whole number: what TOML, tensors and arrays can hold
_SHOWN = 80  # characters of a value in a sentence
_GIVEN = "_given_options"  # where an object keeps what it was made with


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What an annotation says of a number: ``Annotated[float, Bounds(above=0)]``.

    Attributes
    ----------
    least, most : float or None
        The ends of what fits.
    above, below : float or None
        Ends that do not fit themselves.
    words : str or None
        What is expected, where the bounds alone do not tell why.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    words: str | None = None

    def hold(self, value: Any) -> bool:
        """Return whether a number is within; anything else is."""
        if not _is_number(value):
            return True
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """Return what is expected: "at least 1", "in [0, 1)"."""
        low = self.least if self.above is None else self.above
        high = self.most if self.below is None else self.below
        if self.words is not None:
            return self.words
        if low is not None and high is not None:
            opened, closed = "[(", "])"
            left = opened[self.above is not None]
            return f"in {left}{low}, {high}{closed[self.below is not None]}"
        if low is not None:
            return f"{'at least' if self.above is None else 'above'} {low}"
        return f"{'at most' if self.below is None else 'below'} {high}"


SEEDS = Bounds(0, LARGEST_SEED, words=f"a whole number from 0 to {LARGEST_SEED}")
"""What a seed may be."""


def checks_options(cls: type, name: str) -> None:
    """Have a class refuse options that do not fit, whoever makes an object of it.

    What an object was made with is known of it afterwards, see :func:`given_options`.

    Parameters
    ----------
    cls : type
    name : str
        What it is called in the sentence.
    """
    made: Any = cls.__init__  # type: ignore[misc]
    known = inspect.signature(made).parameters
    kinds = {parameter.kind for parameter in known.values()}
    if hasattr(made, "checks") or inspect.Parameter.KEYWORD_ONLY not in kinds:
        return  # its parent's constructor does so already, or it has no options

    usual = {
        option: parameter.default
        for option, parameter in known.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        and parameter.default is not inspect.Parameter.empty
    }
    # Found once: a fold makes many objects of a class.
    found = functools.cache(lambda: option_types(made))

    @functools.wraps(made)
    def checking(self: Any, *arguments: Any, **options: Any) -> None:
        annotations = found()
        for option in options.keys() & known.keys():
            default = known[option].default
            value = options[option] = plain(options[option])
            annotation = annotations.get(option, Any)
            check_value(f"{name}: {option}", value, annotation, default)
        # The outermost constructor's, before it begins: what an object is made of.
        getattr(self, "__dict__", {}).setdefault(_GIVEN, {**usual, **options})
        made(self, *arguments, **options)

    checking.checks = True  # type: ignore[attr-defined]
    cls.__init__ = checking  # type: ignore[misc]


def given_options(value: Any) -> Mapping[str, Any]:
    """Return the options that an object was made with; empty where nobody knows."""
    given: Mapping[str, Any] = getattr(value, "__dict__", {}).get(_GIVEN, {})
    return given


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
        return dict(get_type_hints(called, include_extras=True))
    except Exception:  # whatever a plug-in has written there
        return {}


def plain(value: Any) -> Any:
    """Return a value with NumPy's numbers as Python has them, also those within it.

    What is chosen is plain before it is checked and stored: a run is the same one
    whoever counted its epochs.

    Parameters
    ----------
    value : object
        Arrays, and objects of other kinds, stay as they are.
    """
    shape = getattr(value, "shape", None)  # NumPy's functions have none
    if type(value).__module__ == "numpy" and shape == ():
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {key: plain(each) for key, each in value.items()}
    return value


def check_folders(function: str, given: Iterable[Any]) -> None:
    """Refuse what is no path; several folders are given one by one.

    Parameters
    ----------
    function : str
        Whom they are given to.
    given : iterable

    Raises
    ------
    ConfigurationError
    """
    for each in given:
        if not _is_path(each):
            raise ConfigurationError(
                f"{function} was given {_shown(each)} of type {type(each).__name__}; "
                f"expected the path of a folder. Several are given one by one: "
                f"{function}(*folders)."
            )


def given_path(name: str, value: Any, of: str = "a folder") -> Path:
    """Return what was given as a path as one, and refuse what is none.

    Parameters
    ----------
    name : str
        What it was given as, in full.
    value : object
    of : str
        What it should be the path of.

    Raises
    ------
    ConfigurationError
        Also for a text that is blank, which Python takes for the present folder, and
        for one that no system takes.
    """
    if not _is_path(value):
        kind = "" if isinstance(value, str) else f" of type {type(value).__name__}"
        raise ConfigurationError(
            f"{name} is {_shown(value)}{kind}; expected the path of {of}."
        )
    return Path(value)


def _is_path(value: Any) -> bool:
    """Return whether a value is a path, be there anything or not."""
    text = os.fspath(value) if isinstance(value, PathLike) else value
    return isinstance(text, str) and bool(text.strip()) and "\0" not in text


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
    beyond = _beyond(value, annotation)
    if beyond is not None:
        raise ConfigurationError(f"{name} is {_shown(value)}; expected {beyond}.")
    example = ""
    if default is not inspect.Parameter.empty and default is not None:
        example = f" such as the default {default!r}"
    raise ConfigurationError(
        f"{name} is {_shown(value)} of type {type(value).__name__}; expected "
        f"{_in_words(annotation)}{example}."
    )


def check_fields(settings: Any, group: str = "") -> None:
    """Raise :class:`ConfigurationError` unless every field of a dataclass fits.

    Numbers of NumPy become plain ones, also where the dataclass is frozen.
    """
    prefix = f"{group}." if group else ""
    known = _field_types(settings.__class__)
    for field in dataclasses.fields(settings):
        value = plain(getattr(settings, field.name))
        object.__setattr__(settings, field.name, value)
        check_value(f"{prefix}{field.name}", value, known[field.name], field.default)


@functools.cache
def _field_types(cls: type) -> Mapping[str, Any]:
    return option_types(cls)


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
    if origin is Annotated:
        return fits(value, inner[0]) and not _missed(value, inner)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in inner)
    if annotation is None or annotation is type(None):
        return value is None
    kind = origin or annotation
    if kind in (tuple, list, Sequence):
        return _is_list_of(value, kind, inner)
    if kind is Mapping and inner == (str, str):  # of names; an empty one names nothing
        known = [*value, *value.values()] if isinstance(value, Mapping) else []
        return bool(known) and all(fits(each, str) for each in known)
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


def _missed(value: Any, inner: tuple[Any, ...]) -> list[Bounds]:
    """Return the bounds of an annotation that a value is not within."""
    bounds = [each for each in inner if isinstance(each, Bounds)]
    return [each for each in bounds if not each.hold(value)]


def _beyond(value: Any, annotation: Any) -> str | None:
    """Return what is expected of a value that is of a type that fits, but beyond."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated and fits(value, inner[0]):
        return next(map(str, _missed(value, inner)), None)
    if origin is Annotated or origin in (Union, types.UnionType):
        found = (_beyond(value, each) for each in inner)
    elif isinstance(value, tuple | list) and origin in (tuple, list, Sequence):
        found = (_beyond(each, inner[0]) for each in value)
    else:
        return None
    return next((each for each in found if each is not None), None)


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
    if origin is Annotated:
        return _in_words(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(each) for each in inner if each is not type(None))
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    kind = origin or annotation
    if kind in (tuple, list, Sequence):
        each = [name for name in inner if name is not Ellipsis]
        return f"list of {_in_words(each[0])}" if each else "list"
    if kind is Callable:
        return "a function"
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
