"""Names for parts: one decorator, lazy discovery, plug-ins.

A part is found by the folder it stands in and the name it is registered under. The
folders are read as text, so that listing every part imports none of them; a part's
module is imported when it is first asked for.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar, overload

from .errors import ConfigurationError, did_you_mean
from .places import PLUGIN as _PLUGIN
from .places import during_import, where
from .values import checks_options

__all__ = [
    "KINDS",
    "Entry",
    "base",
    "UnknownPart",
    "entries",
    "find",
    "joined",
    "kind_of",
    "leaves",
    "load_plugin",
    "loading",
    "name_of",
    "parameters",
    "plugin_loaded",
    "plugin_of",
    "register",
]

KINDS: Mapping[str, str] = {
    "dataset": "domainemo.data",
    "sampling": "domainemo.samplings",
    "normalisation": "domainemo.normalisations",
    "protocol": "domainemo.protocols",
    "backbone": "domainemo.backbones",
    "adapter": "domainemo.adapters",
    "screen": "domainemo.screens",
    "validator": "domainemo.validators",
    "control": "domainemo.controls",
}
"""Each kind of part, and the package whose files define it."""

T = TypeVar("T", bound=type)
_classes: dict[tuple[str, str], type] = {}


@dataclass(frozen=True)
class Entry:
    """A part that can be asked for by name.

    Attributes
    ----------
    kind, name : str
    summary : str
        First line of the docstring.
    origin : str
        Module, file or distribution it comes from.
    options : tuple of str or None
        Its constructor's, where the text of its module alone tells them.
    variety : bool
        Whether it is one of many alike, of which one stands for all in lists.
    """

    kind: str
    name: str
    summary: str
    origin: str
    options: tuple[str, ...] | None = None
    variety: bool = False


class UnknownPart(ConfigurationError):
    """There is no part of that name, among those that ship and those imported."""


@overload
def register(cls: T) -> T: ...
@overload
def register(*, name: str) -> Callable[[T], T]: ...
def register(cls: Any = None, *, name: str | None = None) -> Any:
    """Make a class known by name; the name defaults to its own in kebab case.

    Parameters
    ----------
    cls : type
        A part of one of the :data:`KINDS`.
    name : str, optional
        The name to use in place of the class's own.

    Raises
    ------
    ConfigurationError
        If the name is taken by another class, or the class is none of the kinds.

    Examples
    --------
    >>> @register
    ... class MeanAlignment(Adapter): ...
    """
    if not isinstance(name, str | None):
        raise ConfigurationError(
            f"A part is registered by the name {name!r}; expected a text, such as "
            f"@register(name='mean-alignment')."
        )

    def decorate(cls: T) -> T:
        key = (_kind(cls), name or name_of(cls.__name__))
        taken = _address(_classes[key]) if key in _classes else None
        built_in = _built_in(key[0]).get(key[1])
        if built_in is not None and built_in.origin != cls.__module__:
            taken = built_in.origin
        elif key in _classes and _is_again(cls, _classes[key]):
            taken = None
        if taken is not None and taken != _address(cls):
            raise ConfigurationError(
                f"Two {key[0]}s are called {key[1]!r}: {taken} and "
                f"{_address(cls)}. Rename one with @register(name=...)."
            )
        _check_whole(key[0], cls)
        checks_options(cls, key[1])
        _classes[key] = cls
        cls.registered_name = key[1]  # type: ignore[attr-defined]
        return cls

    return decorate if cls is None else decorate(cls)


def find(kind: str, name: str) -> type:
    """Return the class registered as `name`, importing its module if need be.

    Raises
    ------
    UnknownPart
        If there is none; the message suggests the nearest names.
    """
    if (kind, name) not in _classes:
        built_in = _built_in(kind)
        if name in built_in:
            importlib.import_module(built_in[name].origin)
        else:
            _load_entry_points()
    if (kind, name) not in _classes:
        if name in _left_out(kind):
            raise UnknownPart(
                f"There is no {kind} {name!r}: {_left_out(kind)[name]} `domainemo list "
                f"{kind}s` names those that there are."
            )
        every = [entry.name for entry in entries(kind, varieties=True)]
        begins = name[: name.find(":") + 1] or None
        alike = [each for each in every if begins and each.startswith(begins)]
        known = sorted(alike or (each.name for each in entries(kind)))
        hint = did_you_mean(name, every)
        if kind_of(kind, name) == "screen":
            hint = (
                f" It is a screen: join it to adapters that learn from it, as in "
                f"{name}+distillation."
            )
        raise UnknownPart(
            f"There is no {kind} called {name!r}.{hint} Known: "
            f"{', '.join(known)}. `domainemo list {kind}s` describes them."
        )
    return _classes[kind, name]


def joined(name: str) -> list[Any]:
    """Return what a name joins: ``a+(b+c)`` is ``["a", ["b", "c"]]``.

    Raises
    ------
    ConfigurationError
        If a name is missing, or a parenthesis has no other half.
    """
    groups: list[list[Any]] = [[]]
    told, wanted = re.findall(r"[+()]|[^+()]+", name), True
    for token in told:
        closes = token == ")" and len(groups) > 1
        # After a name or a group comes '+' or ')', elsewhere a name or '('.
        if (token in "+)") == wanted or (token == ")" and not closes):
            break
        if token == "(":
            groups.append([])
        elif closes:
            group = groups.pop()
            groups[-1].append(group)
        elif token != "+":
            groups[-1].append(token)
        wanted = token in "+("
    else:
        if len(groups) == 1 and not wanted:
            return groups[0]
    raise ConfigurationError(
        f"The name {name!r} joins parts in no way that can be read; expected names "
        f"with '+' between them, and groups of them in parentheses, as in "
        f"'a+b' and 'a+(b+c)'."
    )


def leaves(name: str) -> tuple[str, ...]:
    """Return the single names that a name joins, in order; usually one."""

    def flat(group: list[Any]) -> Iterator[str]:
        for each in group:
            yield from flat(each) if isinstance(each, list) else (each,)

    return tuple(flat(joined(name)))


def kind_of(kind: str, name: str) -> str:
    """Return the kind of a name among joined ones: adapters may have a screen."""
    every = entries(kind, varieties=True)
    if kind == "adapter" and name not in {each.name for each in every}:
        known = {each.name for each in entries("screen")}
        return "screen" if name in known else kind
    return kind


def entries(kind: str, *, varieties: bool = False) -> Iterator[Entry]:
    """Yield every part of a kind, built-in ones first, without importing those.

    Parameters
    ----------
    kind : str
    varieties : bool
        Whether to yield all of those of which one stands for many.
    """
    built_in = _built_in(kind)
    yield from (e for e in built_in.values() if varieties or not e.variety)
    _load_entry_points()
    for (its_kind, name), cls in sorted(_classes.items()):
        if its_kind == kind and name not in built_in:
            yield Entry(kind, name, _first_line(cls.__doc__), _address(cls))


def load_plugin(path: str | Path) -> None:
    """Import a Python file, so that the parts it registers can be asked for.

    This runs the file. So its path comes from whoever gave the command, never from a
    file that was read.

    Raises
    ------
    ConfigurationError
        If the file is missing or cannot be imported.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise ConfigurationError(
            f"Plug-in {path}: there is no such file. Give the path of a Python file "
            f"that registers a part with @register."
        )
    # The path is part of the module's name: two plug-ins of one file name can meet.
    place = sha256(str(path).encode()).hexdigest()[:8]
    module_name = f"{_PLUGIN}{path.stem}_{place}"
    if module_name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"Plug-in {path}: expected a Python file (*.py).")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        # Nothing of it stays, so that it can be imported once it is mended.
        del sys.modules[module_name]
        for key, cls in list(_classes.items()):
            if cls.__module__ == module_name:
                del _classes[key]
        raise ConfigurationError(
            f"Plug-in {path} could not be imported: {during_import(error)}"
        ) from error


def loading(paths: Sequence[str]) -> list[str]:
    """Return the lines of Python that import plug-ins."""
    return [f"domainemo.registry.load_plugin({path!r})" for path in paths]


def plugin_loaded(path: str | Path) -> bool:
    """Return whether a plug-in of that file name has been imported."""
    begins = f"{_PLUGIN}{Path(path).stem}_"
    return any(name.startswith(begins) for name in list(sys.modules))


def plugin_of(cls: type) -> str | None:
    """Return the path of the plug-in that a class comes from, if it does."""
    if not cls.__module__.startswith(_PLUGIN):
        return None
    return str(sys.modules[cls.__module__].__file__)


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return the keyword-only options of a part's constructor, by name."""
    return {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def base(kind: str) -> type:
    """Return the class of the contract that all parts of a kind inherit from."""
    from . import core

    found: type = getattr(core, kind.capitalize())
    return found


def options_in_text(
    node: ast.ClassDef, known: Mapping[str, tuple[str, ...] | None]
) -> tuple[str, ...] | None:
    """Return the keyword-only options of a constructor; None where they are not told.

    Parameters
    ----------
    node : ast.ClassDef
    known : mapping
        Those of the classes above it in the file and of imported ones, whose
        constructor it may inherit. The contract's own classes have none.
    """
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            if each.args.kwarg is not None:
                return None
            return tuple(argument.arg for argument in each.args.kwonlyargs)
    contract: dict[str, tuple[str, ...] | None] = {
        kind.capitalize(): () for kind in KINDS
    }
    parents = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return {**known, **contract}.get(parents[0]) if len(parents) == 1 else None


def _kind(cls: type) -> str:
    if not isinstance(cls, type):
        raise ConfigurationError(
            f"{cls!r:.80} cannot be registered: expected a class, as @register stands "
            f"above one."
        )
    for kind in KINDS:
        if issubclass(cls, base(kind)):
            return kind
    raise ConfigurationError(
        f"{_address(cls)} cannot be registered: expected a subclass of "
        f"{', '.join(base(kind).__name__ for kind in KINDS)}."
    )


@cache
def _built_in(kind: str) -> dict[str, Entry]:
    found = {}
    for path, module in _files(kind):
        for name, node, options in _registered_in(path, module):
            summary = _first_line(ast.get_docstring(node))
            found[name] = Entry(kind, name, summary, module, options)
            for other, told in _told(node, "varieties").items():
                found[other] = Entry(kind, other, told, module, options, variety=True)
    return found


@cache
def _left_out(kind: str) -> dict[str, str]:
    """Return names that one may ask for in vain, and why."""
    classes = (node for file in _files(kind) for _, node, _ in _registered_in(*file))
    return {name: why for c in classes for name, why in _told(c, "left_out").items()}


def _files(kind: str) -> Iterator[tuple[Path, str]]:
    """Yield the files that define a kind of part, and their modules."""
    spec = importlib.util.find_spec(KINDS[kind])
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in sorted(Path(folder).rglob("*.py")):
            inside = path.relative_to(folder).with_suffix("").parts
            yield path, ".".join([KINDS[kind], *inside])


def _told(node: ast.ClassDef, attribute: str) -> dict[str, str]:
    """Return names and what is said of them, as a class has them in its text.

    Parameters
    ----------
    node : ast.ClassDef
    attribute : {"varieties", "left_out"}
        Names of further classes of the module, for which this one stands in lists; or
        names that there are not. It holds a dictionary written out.
    """
    for each in node.body:
        match each:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict() as value):
                if name == attribute:
                    return dict(ast.literal_eval(value))
    return {}


def _registered_in(
    path: Path, module: str
) -> Iterator[tuple[str, ast.ClassDef, tuple[str, ...] | None]]:
    """Yield name, text and options of each class that a file registers."""
    if "@register" not in path.read_text(encoding="utf-8"):
        return
    for node, options in _classes_in(path, module).values():
        for decorator in node.decorator_list:
            match decorator:
                case ast.Name(id="register"):
                    name = name_of(node.name)
                case ast.Call(
                    func=ast.Name(id="register"),
                    keywords=[ast.keyword(arg="name", value=ast.Constant(value=name))],
                ):
                    pass
                case _:
                    continue
            yield str(name), node, options


@cache
def _classes_in(
    path: Path, module: str
) -> dict[str, tuple[ast.ClassDef, tuple[str, ...] | None]]:
    """Return the classes of a file, each with its options where the text tells them.

    Those that it inherits from another file of its package are looked up there.
    """
    found: dict[str, tuple[ast.ClassDef, tuple[str, ...] | None]] = {}
    known: dict[str, tuple[str, ...] | None] = {}
    body = ast.parse(path.read_text(encoding="utf-8")).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    bases = {each.id for c in classes for each in c.bases if isinstance(each, ast.Name)}
    package, top = module.split("."), path.parents[module.count(".") - 1]
    for node in body:
        match node:
            case ast.ImportFrom(module=str(name), level=level):
                place = [*package[: len(package) - level], *name.split(".")]
                place = place if level else name.split(".")
                other = top.joinpath(*place[1:]).with_suffix(".py")
                wanted = bases & {alias.name for alias in node.names}
                if wanted and place[0] == package[0] and other.is_file():
                    there = _classes_in(other, ".".join(place))
                    known |= {each: there[each][1] for each in wanted & there.keys()}
            case ast.ClassDef():
                known[node.name] = options_in_text(node, known)
                found[node.name] = node, known[node.name]
    return found


@cache
def _load_entry_points() -> None:
    for entry_point in entry_points(group="domainemo"):
        try:
            entry_point.load()
        except Exception as error:
            raise ConfigurationError(
                f"The installed plug-in {entry_point.name!r} ({entry_point.value}) "
                f"could not be imported: {during_import(error)} Repair or uninstall it."
            ) from error


_FIRST = {"dataset": "root", "backbone": "modalities"}
"""What constructors take before their options, in the first place."""


def _check_whole(kind: str, cls: type) -> None:
    """Refuse a class of which no object can be made by name and options."""
    lacking = sorted(getattr(cls, "__abstractmethods__", ()))
    if lacking:
        raise ConfigurationError(
            f"The {kind} {cls.__name__} has no method {', '.join(lacking)}; expected "
            f"every method of domainemo.{base(kind).__name__} that is abstract. Write "
            f"it in {where(cls)}."
        )
    for number, given in enumerate(inspect.signature(cls).parameters.values()):
        if given.kind in (given.VAR_POSITIONAL, given.VAR_KEYWORD):
            continue
        if number == 0 and _FIRST.get(kind) in (given.name, "modalities"):
            continue
        if given.kind is not given.KEYWORD_ONLY:
            found, expected = "is no keyword", f"`*, {given.name}=...`"
        elif given.kind is given.KEYWORD_ONLY and given.default is given.empty:
            found, expected = "has no default", f"`{given.name}=...`"
        else:
            continue
        raise ConfigurationError(
            f"The option {given.name!r} of the {kind} {cls.__name__} {found}; expected "
            f"{expected} in its constructor, so that it can be left out or set by "
            f"name. Correct {where(cls, '__init__')}."
        )


def name_of(name: str) -> str:
    """Return the name that a class is registered under where it is given none."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n", 1)[0]


def _is_again(cls: type, known: type) -> bool:
    """Return whether a class is one that is known, imported by another name."""
    files = [
        getattr(sys.modules.get(each.__module__), "__file__", None)
        for each in (cls, known)
    ]
    if None in files or cls.__module__ == known.__module__:
        return False
    one, other = (Path(str(file)).resolve() for file in files)
    return one == other and cls.__qualname__ == known.__qualname__


def _address(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
