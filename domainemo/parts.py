"""A part by name with its options: what a configuration holds, and how it is built."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from .errors import ConfigurationError
from .outside import code_of, is_plain, text_of
from .places import where
from .registry import (
    KINDS,
    base,
    entries,
    find,
    joined,
    kind_of,
    leaves,
    parameters,
    plugin_of,
)
from .values import check_value, given_options, option_types, plain
from .words import listed

__all__ = ["Part", "describe_object", "having", "named_controls", "of_controls", "part"]


@dataclass(frozen=True)
class Part:
    """A registered class and options for it, or an object made by hand.

    Attributes
    ----------
    kind : str
        One of `registry.KINDS`, or a part of a pre-training.
    name : str
        A registered name; for adapters also several joined by ``+``, which makes
        their composite, groups in parentheses among them. A screen that is joined to
        adapters is that of all in its group.
    options : mapping of str to value
        Constructor options; of a joined adapter, ``"marginal.weight"`` and the like.
    made : object, optional
        An adapter, protocol or validator made in Python, used as it is.
    cls : type, optional
        The class itself, where it was given in place of its name.
    """

    kind: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    made: Any = None
    cls: type | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", plain(self.options))
        if self.made is None:
            self._check_options()

    def __getstate__(self) -> dict[str, Any]:
        """Send the classes along, so that another process knows them by name."""
        return {**vars(self), "_classes": self._own_classes()}

    def build(self, *arguments: Any) -> Any:
        """Return a new object; `arguments` go before the options."""
        if self.made is not None:
            import copy

            return copy.deepcopy(self.made)
        if self.kind == "adapter" and self.name not in self.names:
            return self._compose(joined(self.name))
        return _made(self.kind, self._class(self.name), *arguments, **self.options)

    def with_options(self, options: Mapping[str, Any]) -> Part:
        """Return the same part with some options changed."""
        if self.made is not None:
            raise ConfigurationError(
                f"The {self.kind} was given as an object, whose options cannot be "
                f"changed. Give its name or its class."
            )
        return replace(self, options={**self.options, **options})

    @property
    def names(self) -> tuple[str, ...]:
        """The registered names that are joined; usually one."""
        if self.kind != "adapter":
            if "+" not in self.name:
                return (self.name,)
            names: tuple[str, ...] = ()
        else:
            names = leaves(self.name)
        if len(set(names)) < len(names) or not names:
            raise ConfigurationError(
                f"{self.kind} {self.name!r}: only different adapters can be joined "
                f"with '+'."
            )
        return names

    @property
    def classes(self) -> dict[str, type]:
        """The classes that are joined, by their names; usually one."""
        return {name: self._class(name) for name in self.names}

    def _compose(self, group: list[Any], screen: Any = None) -> Any:
        """Return the composite of a group, by its own screen or the one around it."""
        from .adapters.composite import Composite

        kinds = {each: kind_of(self.kind, each) for each in group if type(each) is str}
        screens = [name for name, kind in kinds.items() if kind == "screen"]
        if len(screens) > 1 or len(screens) == len(group):
            raise ConfigurationError(
                f"The adapter {self.name!r} joins {len(group) - len(screens)} adapters "
                f"by {len(screens)} screens, {' and '.join(screens)}; expected one "
                f"screen at most, and adapters that learn from it. Put each screen and "
                f"its adapters into parentheses of their own."
            )
        own = self._leaf(screens[0]) if screens else None
        if own is not None and not any(map(self._screened, leaves(_called(group)))):
            raise ConfigurationError(
                f"The adapter {self.name!r} has the screen {screens[0]!r} for adapters "
                f"that learn from none; expected one with an option 'screen', such as "
                f"distillation, in its group. Leave the screen out."
            )
        terms = {
            _called(each): self._compose(each, own or screen)
            if isinstance(each, list)
            else self._leaf(each, own or screen)
            for each in group
            if _called(each) not in screens
        }
        return Composite(terms=terms, screen=own)

    def _screened(self, name: str) -> bool:
        """Return whether one of the joined parts learns, or may, from a screen."""
        cls = self._class(name)
        return "screen" in parameters(cls) or (
            _is_outside(cls) and issubclass(cls, base("adapter"))
        )

    def _leaf(self, name: str, screen: Any = None) -> Any:
        """Return one of the joined parts; it learns from a screen if it can."""
        cls, options = self._class(name), self._options_of(name)
        if screen is not None and "screen" in parameters(cls):
            if options.get("screen") is not None:
                raise ConfigurationError(
                    f"The adapter {self.name!r} joins {name!r} to a screen, and the "
                    f"option {name}.screen names another; expected one that rules. "
                    f"Leave out either."
                )
            options["screen"] = screen
        return _made(kind_of(self.kind, name), cls, **options)

    def describe(self) -> dict[str, Any]:
        """Return every option with its value, defaults included."""
        if self.made is not None:
            described: dict[str, Any] = describe_object(self.made)
            return described
        options = {}
        for name in self.names:
            prefix = f"{name}." if len(self.names) > 1 else ""
            for option, parameter in parameters(self._class(name)).items():
                value = self._options_of(name).get(option, parameter.default)
                options[prefix + option] = describe_object(value)
        return options

    @property
    def plugins(self) -> tuple[str, ...]:
        """The files outside this package that its classes come from."""
        found = (plugin_of(cls) for cls in self._inner_classes())
        return tuple(sorted({path for path in found if path is not None}))

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of its classes from outside this package that are no plug-in's."""
        found = {
            cls
            for cls in self._inner_classes()
            if _is_outside(cls) and plugin_of(cls) is None
        }
        return tuple(sorted(map(text_of, found)))

    @property
    def outside(self) -> bool:
        """Whether any of it comes from outside this package."""
        return any(map(_is_outside, (*self._own_classes(), self.made, self.options)))

    def _own_classes(self) -> tuple[type, ...]:
        if self.made is not None:
            return (type(self.made),)
        return (*(self._class(name) for name in self.names), *self._named())

    def _inner_classes(self) -> tuple[type, ...]:
        """Return also the classes of what an object is made of."""
        inner = getattr(self.made, "modules", lambda: ())()
        return (*self._own_classes(), *(type(each) for each in inner))

    def _named(self) -> Iterator[type]:
        """Yield the classes of parts that options name: an adapter's screen."""
        for option, value in self.options.items():
            screens = self.kind == "adapter" and option.rpartition(".")[2] == "screen"
            if screens and isinstance(value, str):
                yield find("screen", value)

    def _class(self, name: str) -> type:
        kind = kind_of(self.kind, name) if self.name != name else self.kind
        return self.cls or find(kind, name)

    def _options_of(self, name: str) -> dict[str, Any]:
        if len(self.names) == 1:
            return dict(self.options)
        prefix = f"{name}."
        return {
            key.removeprefix(prefix): value
            for key, value in self.options.items()
            if key.startswith(prefix)
        }

    def _check_options(self) -> None:
        known: dict[str, tuple[Any, Any]] = {}
        for name in self.names:
            prefix = f"{name}." if len(self.names) > 1 else ""
            cls = self._class(name)
            types = option_types(cls)
            for option, parameter in parameters(cls).items():
                known[prefix + option] = types.get(option, Any), parameter.default
        for option, value in self.options.items():
            where = f"{self.kind} {self.name!r}"
            if option not in known:
                told = unknown_option(where, option, list(known))
                raise ConfigurationError(told + having(self.kind, option))
            check_value(f"{where}: {option}", value, *known[option])
            default = known[option][1]
            if value is None and default is not None:
                raise ConfigurationError(
                    f"{where}: {option} is None, and its default {default!r}; expected "
                    f"a value, as no configuration file can hold None, and what is "
                    f"trained would be read again with the default. Make None the "
                    f"default."
                )
        list(self._named())  # which refuses a name that nothing has


def _called(joined: Any) -> str:
    """Return the name of a part, or of a group, among those it is joined to."""
    return "+".join(map(_called, joined)) if isinstance(joined, list) else str(joined)


def part(kind: str, given: Any, options: Mapping[str, Any] | None = None) -> Part:
    """Make a part of a name, a registered class, or an object made in Python."""
    options = dict(options or {})
    if isinstance(given, Part):
        return given
    if isinstance(given, str):
        return Part(kind, given, options)
    if isinstance(given, type):
        if "registered_name" not in vars(given):
            raise ConfigurationError(
                f"{given.__name__} is not registered; put @register above the class."
            )
        if not issubclass(given, base(kind)):
            raise ConfigurationError(
                f"{given.__name__} is no {kind}; expected a subclass of "
                f"{base(kind).__name__}."
            )
        return Part(kind, str(vars(given)["registered_name"]), options, cls=given)
    if kind == "backbone" or options:
        raise ConfigurationError(
            f"The {kind} was given as an object of {type(given).__name__}; give its "
            f"name or class instead, so that every fold builds its own."
        )
    if not isinstance(given, base(kind)):
        raise ConfigurationError(
            f"The {kind} is {given!r:.80} of type {type(given).__name__}; expected a "
            f"name, a registered class or an object of {base(kind).__name__}."
        )
    name = str(vars(type(given)).get("registered_name", type(given).__name__))
    return Part(kind, name, made=given)


def _made(kind: str, cls: type, *arguments: Any, **options: Any) -> Any:
    """Return an object of a class; refuse one that lacks what the contract says."""
    made = cls(*arguments, **options)
    if kind not in KINDS:
        return made
    contract = base(kind)
    if hasattr(contract, "register_buffer") and "_buffers" not in vars(made):
        raise ConfigurationError(
            f"The constructor of the {kind} {cls.__name__} did not call "
            f"super().__init__(); expected it in the first line, before anything is "
            f"set. Correct {where(cls, '__init__')}."
        )
    for name in vars(contract).get("__annotations__", ()):
        # A backbone's sampling may be chosen beside it.
        if name != "sampling" and not hasattr(made, name):
            raise ConfigurationError(
                f"The {kind} {cls.__name__} has no {name!r}; expected it in the class, "
                f"as help(domainemo.{contract.__name__}) says. Add it in {where(cls)}."
            )
    return made


def unknown_option(where: str, option: str, known: list[str]) -> str:
    """Return the sentence that says so, with the nearest names."""
    by_last_name = {name.rpartition(".")[2]: name for name in known} | {
        name: name for name in known
    }
    near = difflib.get_close_matches(option.lower(), list(by_last_name), cutoff=0.6)
    if near:
        meant = dict.fromkeys(by_last_name[name] for name in near[:2])
        return (
            f"{where} has no option {option!r}. Did you mean "
            f"{' or '.join(map(repr, meant))}?"
        )
    expected = f"expected one of {', '.join(known)}" if known else "it has none at all"
    return f"{where} has no option {option!r}; {expected}."


def having(kind: str, option: str) -> str:
    """Return the sentence that says which adapters have an option; empty for none.

    It may have been meant for another one than was chosen, or none was named.

    Parameters
    ----------
    kind : str
        Of the part that has no such option.
    option : str
    """
    names = [
        entry.name
        for entry in (entries("adapter") if kind == "adapter" else ())
        if option in (entry.options or ())
    ]
    # Its namesakes last: `uf-ama` before `uf-ama-released`.
    names.sort(key=lambda name: (name != "uf-ama", len(name)))
    if not names:
        return ""
    has = "has it" if len(names) == 1 else "have it"
    return f" {listed(names[:3])} {has}: --adapter {names[0]}."


def named_controls(given: Sequence[Any]) -> list[Any]:
    """Return the controls that were asked for, with those that a word stands for.

    Parameters
    ----------
    given : sequence
        Names, classes or objects; ``"all"`` stands for those of this package that are
        not among them, ``"none"`` alone for none.

    Raises
    ------
    ConfigurationError
        If others stand beside ``"none"``.
    """
    names = [each.strip() if isinstance(each, str) else each for each in given]
    if "none" in names and len(names) > 1:
        raise ConfigurationError(
            f"The controls are {', '.join(map(str, names))}; 'none' stands alone. "
            f"Leave it out, or the others."
        )
    ours = [e.name for e in entries("control") if e.origin.startswith("domainemo.")]
    found: list[Any] = []
    for each in names:
        if isinstance(each, str) and each == "all":
            found += [name for name in ours if name not in names]
        elif not (isinstance(each, str) and each == "none"):
            found.append(each)
    return found


def of_controls(
    options: Mapping[str, Any], running: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return options of controls, each ``NAME.OPTION``, by the control's name.

    Parameters
    ----------
    options : mapping of str to value
    running : sequence of str
        The controls that are run.

    Raises
    ------
    ConfigurationError
        For one that is not run, and where none is named.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in running}
    shown = ", ".join(running) or "none"
    for key, value in options.items():
        name, dot, option = key.rpartition(".")
        if not dot:
            raise ConfigurationError(
                f"control.{key} names no control, of which several may run; expected "
                f"control.NAME.{key}. These are run: {shown}."
            )
        if name not in found:
            find("control", name)  # which refuses a name that nothing has
            raise ConfigurationError(
                f"control.{key} is set, but the control {name!r} is not run; these "
                f"are: {shown}. Name it among the controls (--controls), or leave its "
                f"option out."
            )
        found[name][option] = value
    return found


def describe_object(value: Any) -> Any:
    """Return what a configuration file can hold of `value`."""
    value = plain(value)
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, tuple | list):
        return ["none" if item is None else describe_object(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe_object(item) for key, item in value.items()}
    told = _in_words(value)
    if told is not None or not hasattr(value, "__dict__"):
        return told or repr(value)
    inner = {
        key: item
        for key, item in {**vars(value), **vars(value).get("_modules", {})}.items()
        if not key.startswith("_") and key != "training" and item is not None
    }
    # An option that no attribute tells, as it is kept in a private one.
    kept = vars(value).keys() | vars(value).get("_modules", {}).keys()
    given = {
        key: item
        for key, item in given_options(value).items()
        if key not in kept and is_plain(item)
    }
    described = {key: describe_object(item) for key, item in {**inner, **given}.items()}
    weights: Mapping[str, Any] = getattr(value, "state_dict", dict)()
    if weights:
        described["weights"] = _digest(*map(_bytes_of, weights.values()))
    return {"class": type(value).__qualname__, **described}


def _in_words(value: Any) -> str | None:
    """Return the name of a function or class, or the shape of an array; None of others.

    With it a digest of its text or its numbers, by which it is told from another one.
    """
    if isinstance(value, functools.partial):
        inner = (value.func, *value.args, *value.keywords.items())
        return f"partial of {', '.join(str(describe_object(each)) for each in inner)}"
    numbers = hasattr(value, "tobytes") or hasattr(value, "detach")  # NumPy's, torch's
    if numbers and not isinstance(value, type):
        shape = tuple(value.shape)
        return f"{type(value).__name__} {shape} {_digest(_bytes_of(value))}"
    name = getattr(value, "__qualname__", None) or (
        callable(value) and getattr(value, "__name__", None)
    )
    if not isinstance(name, str) or not name:
        return None
    text = text_of(value) + code_of(value) if _is_outside(value) else ""
    module = getattr(value, "__module__", None) or ""
    return f"{module}.{name} {_digest(text.encode())}" if text else f"{module}.{name}"


def _bytes_of(value: Any) -> bytes:
    """Return the numbers of an array or a tensor."""
    if not hasattr(value, "detach"):
        return bytes(value.tobytes())
    numbers = value.detach().cpu()
    try:
        return bytes(numbers.numpy().tobytes())
    except TypeError:  # a precision that NumPy does not have
        return bytes(numbers.double().numpy().tobytes())


def _digest(*contents: bytes) -> str:
    return sha256(b"".join(contents)).hexdigest()[:12]


_KNOWN = {"builtins", "collections", "domainemo", "numpy", "pathlib", "torch"}


def _is_outside(value: Any, seen: frozenset[int] = frozenset()) -> bool:
    """Return whether a class, or anything in an object, is somebody else's code."""
    if id(value) in seen:
        return False
    module = getattr(value, "__module__", None) or type(value).__module__
    if module.partition(".")[0] not in _KNOWN:
        return True
    if isinstance(value, type):
        return False
    inner = list(vars(value).values()) if hasattr(value, "__dict__") else []
    if isinstance(value, Mapping):
        inner += value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        inner += value
    return any(_is_outside(each, seen | {id(value)}) for each in inner)
