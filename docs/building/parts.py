"""A page for every part, made of its docstring: formula, paper, options, loss.

What ``domainemo show`` prints in a terminal stands here as reStructuredText, in which
the docstrings are written, so that formulas are set as such.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from types import FunctionType

import domainemo
from domainemo.cli.docstrings import sections
from domainemo.cli.show import command_for, facts, options, prefix
from domainemo.registry import KINDS, Entry, entries, find

__all__ = ["pages", "places"]


@dataclass(frozen=True)
class Kind:
    """How a kind of part is called on the site, and what is said of it.

    Attributes
    ----------
    title, about : str
        `about` is reStructuredText.
    own : str
        What parts are called that stand in no family.
    """

    title: str
    about: str
    own: str = ""


TITLES = {
    "adapter": Kind(
        "Adapters",
        "The methods that adapt a network, by family; :doc:`/methods` says how they "
        "are joined, :doc:`/new-adapter` how to write one.",
        "UF-AMA and its parts",
    ),
    "validator": Kind(
        "Validators",
        "What chooses an epoch, an option or a method without the target's labels. "
        ":doc:`/validators` compares them; :doc:`/new-validator` says how to write "
        "one.",
    ),
    "backbone": Kind(
        "Backbones",
        "The networks. Any other is wrapped: :doc:`/own-network`; "
        ":doc:`/new-backbone` says how to write one.",
    ),
    "protocol": Kind(
        "Protocols",
        "Who trains and who is tested. :doc:`/protocols` says which claim each tests; "
        ":doc:`/new-protocol` how to write one.",
    ),
    "dataset": Kind(
        "Data sets",
        "What recordings are read from. :doc:`/datasets` has folders and traps; "
        ":doc:`/own-recordings` is for your own, :doc:`/new-dataset` for a published "
        "set.",
    ),
    "normalisation": Kind(
        "Normalisations",
        "The scale of the values, before any network; :doc:`/new-normalisation` says "
        "how to write one.",
    ),
    "sampling": Kind(
        "Samplings",
        "How windows become samples; :doc:`/new-sampling` says how to write one.",
    ),
    "screen": Kind(
        "Screens",
        "Which samples of the target to believe. :doc:`/screening` compares them; "
        ":doc:`/new-screen` says how to write one.",
    ),
    "control": Kind(
        "Controls",
        "What knows next to nothing, and plain models, on the same folds. "
        ":doc:`/controls` says what they are for; :doc:`/new-control` how to write "
        "one.",
    ),
}
"""In the order of the site."""


def pages() -> dict[str, str]:
    """Return the text of every page, in reStructuredText, by its path without ending.

    Paths are relative to the folder of all parts, such as ``"adapter/dan"``.
    """
    found = {"index": _front()}
    for kind in TITLES:
        listed = list(entries(kind, varieties=True))
        found[f"{kind}/index"] = _lines(_listing(kind, listed))
        told: set[str] = set()
        for entry in listed:
            # A module's functions stand on the page of its first part.
            first = entry.origin not in told
            told.add(entry.origin)
            found[f"{kind}/{_slug(entry.name)}"] = _lines(_page(entry, first))
    return found | {"losses": _lines(_losses())}


def places(kind: str) -> dict[str, str]:
    """Return where the page of each part of a kind is, as links of Markdown have it."""
    listed = entries(kind, varieties=True)
    return {
        entry.name: f"/_generated/parts/{kind}/{_slug(entry.name)}.rst"
        for entry in listed
    }


def _slug(name: str) -> str:
    """Return the name of a part's page; that of one from a library has a colon."""
    return name.lower().replace(":", "-")


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


def _title(text: str, mark: str = "=") -> list[str]:
    return [text, mark * len(text), ""]


def _toctree(names: Iterable[str], caption: str = "") -> Iterator[str]:
    yield from [".. toctree::", "   :hidden:"]
    yield from [f"   :caption: {caption}"] if caption else []
    yield from ["", *(f"   {name}" for name in names), ""]


def _front() -> str:
    """Return the page above the kinds."""
    lines = [
        *_title("Methods and parts"),
        "All that can be asked for by name, a page each: what it is, its formula and "
        "paper, its options and what a study searches of them. ``domainemo show NAME`` "
        "prints the same.",
        "",
    ]
    for kind, told in TITLES.items():
        count = len(list(entries(kind, varieties=True)))
        lines += [f"* :doc:`{told.title} <{kind}/index>` ({count}). {told.about}"]
    lines += ["* :doc:`losses`: the formulas as functions of tensors.", ""]
    lines += _toctree([*(f"{kind}/index" for kind in TITLES), "losses"])
    return _lines(lines)


# -------------------------------------------------------------------------- of a kind


def _listing(kind: str, listed: list[Entry]) -> Iterator[str]:
    """Yield the lines of the page that lists a kind, by family."""
    told = TITLES[kind]
    yield from [*_title(told.title), told.about, ""]
    families: dict[str, list[Entry]] = {}
    for entry in listed:
        families.setdefault(_family(kind, entry), []).append(entry)
    for family, members in families.items():
        if family:
            yield from _title(family, "-")
        for entry in members:
            place = f"{entry.name} <{_slug(entry.name)}>"
            yield f"* :doc:`{place}`: {entry.summary}"
        yield ""
    for family, members in families.items():
        yield from _toctree((_slug(entry.name) for entry in members), family)


def _family(kind: str, entry: Entry) -> str:
    """Return the heading that a part stands under; "" where a kind has none."""
    if kind == "validator":
        return _evidence(find(kind, entry.name))
    *folders, _ = entry.origin.removeprefix(f"{KINDS[kind]}.").split(".")
    if kind != "adapter":
        return ""
    return _named(folders[0]) if folders else TITLES[kind].own


def _named(folder: str) -> str:
    """Return what a folder of adapters is called."""
    if folder == "pytorch_adapt":
        return "Of pytorch-adapt"
    return folder.replace("_", " ").capitalize()


def _evidence(cls: type) -> str:
    """Return what a validator looks at."""
    made = cls()
    if not made.sees_target:
        return "Without the target"
    return "By source and target" if made.held_out else "By the target alone"


# -------------------------------------------------------------------------- of a part


def _page(entry: Entry, functions: bool) -> Iterator[str]:
    """Yield the lines of a part's page, with its module's functions or a link there."""
    kind, name = entry.kind, entry.name
    cls = find(kind, name)
    told = sections(cls.__doc__)
    yield from [f".. py:currentmodule:: {cls.__module__}", ""]
    yield from [*_title(name), told[""], ""]
    for heading, text in told.items():
        if heading not in ("", "Parameters", "Attributes", "Raises", "Examples"):
            yield from [f".. rubric:: {heading}", "", text, ""]
    yield from [" ".join(facts(kind, cls)), ""]
    command = command_for(kind, name, "root" in inspect.signature(cls).parameters)
    yield from [*_title("Use it", "-"), "::", "", f"    {command}", ""]
    yield from _options(kind, name, cls)
    yield from _title("In Python", "-")
    yield from _class(cls)
    if functions:
        yield from _functions(cls.__module__)


def _options(kind: str, name: str, cls: type) -> Iterator[str]:
    """Yield the lines on a part's options."""
    told = list(options(kind, cls))
    if not told:
        yield from ["It has no options.", ""]
        return
    yield from _title("Options", "-")
    yield from [f"Each is set by ``--set {prefix(kind, name)}.NAME=VALUE``.", ""]
    for option in told:
        yield f"``{option.name} = {option.default}`` : {option.kind}"
        yield f"    {option.meaning}"
        yield from ["", f"    A study searches {option.searched}."] * bool(
            option.searched
        )
        yield ""


def _class(cls: type) -> Iterator[str]:
    """Yield the lines on a part's class, which links lead to."""
    if cls.__name__ in domainemo.__all__:
        yield from [f"See :class:`domainemo.{cls.__name__}`.", ""]
        return
    signature = inspect.signature(cls)
    bare = [
        each.replace(annotation=inspect.Parameter.empty)
        for each in signature.parameters.values()
    ]
    shown = signature.replace(
        parameters=bare, return_annotation=inspect.Signature.empty
    )
    yield from [f".. py:class:: {cls.__qualname__}{shown}", ""]


def _functions(module: str) -> Iterator[str]:
    """Yield the lines on the public functions of a module."""
    for name in _public(module):
        yield from [f".. autofunction:: {module}.{name}", ""]


def _public(module: str) -> list[str]:
    """Return the names of the public functions of a module that no page has else."""
    home = import_module(module)
    found = []
    for name in getattr(home, "__all__", ()):
        value = getattr(home, name)
        own = isinstance(value, FunctionType) and value.__module__ == module
        if own and name not in domainemo.__all__:
            found.append(name)
    return found


# ---------------------------------------------------------------------- of the losses


def _losses() -> Iterator[str]:
    """Yield the lines of the page of all formulas as functions.

    Those of a module that registers parts are described on the page of the first.
    """
    yield from _title("Losses and scores as functions")
    yield "Pure functions of tensors; adapters and validators are thin classes beside."
    yield ""
    registered = {
        entry.origin for kind in TITLES for entry in entries(kind, varieties=True)
    }
    for kind in ("adapter", "validator"):
        yield from _title(TITLES[kind].title, "-")
        package = KINDS[kind]
        modules = [name for name in _modules(package) if _public(name)]
        for module in modules:
            if module in registered:
                for name in _public(module):
                    yield f"* :func:`~{module}.{name}`: {_summary(module, name)}"
        yield ""
        for module in modules:
            if module not in registered:
                heading = f"``{module.removeprefix(package + '.')}``"
                yield from _title(heading, "~")
                yield from [str(inspect.getdoc(import_module(module))), ""]
                yield from _functions(module)


def _summary(module: str, name: str) -> str:
    text = inspect.getdoc(getattr(import_module(module), name)) or ""
    return text.split("\n\n", 1)[0].replace("\n", " ")


def _modules(package: str) -> list[str]:
    """Return the names of the modules of a package, its sub-packages' included."""
    from pkgutil import walk_packages

    home = import_module(package)
    found = walk_packages(home.__path__, f"{package}.")
    return sorted(each.name for each in found if not each.ispkg)
