"""What a shell completes: the names of parts, protocols, data sets and studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..registry import KINDS, entries
from .named import NAMED

__all__ = ["kinds", "names_of", "part_names"]

Completer = Callable[[str], list[tuple[str, str]]]
"""Is given what has been typed; returns names and what each is."""

_KINDS = {"controls": "control", "target": "dataset", "config": "study"}
"""The kind of the names that a choice takes, where it is not called like the kind."""

_JOINED = {"adapter": "+", "controls": ","}
"""What stands between several names."""


def names_of(choice: str) -> Completer | None:
    """Return what completes a choice that takes the name of a part; else None.

    Parameters
    ----------
    choice : str
        Such as ``"adapter"``. After a ``+``, or a comma, the next name is completed.
    """
    kind = _KINDS.get(choice, choice)
    if kind not in (*KINDS, *NAMED):
        return None

    def complete(incomplete: str) -> list[tuple[str, str]]:
        joint = _JOINED.get(choice, "")
        place = incomplete.rfind(joint) + 1 if joint else 0
        before, begun = incomplete[:place], incomplete[place:]
        return [
            (before + name, told)
            for name, told in _named(kind, begun)
            if name.startswith(begun)
        ]

    return complete


def part_names(incomplete: str) -> list[tuple[str, str]]:
    """Complete the name of a part of any kind."""
    found: dict[str, str] = {}
    for kind in (*KINDS, *NAMED):
        for name, told in _named(kind, incomplete):
            if name.startswith(incomplete):
                found.setdefault(name, f"{kind}: {told}" if told else kind)
    return list(found.items())


def kinds(incomplete: str) -> list[str]:
    """Complete a kind of part."""
    return [kind for kind in (*KINDS, *NAMED) if kind.startswith(incomplete)]


def _named(kind: str, begun: str) -> Iterator[tuple[str, str]]:
    """Yield names and what they are; varieties once what they share has been typed."""
    if kind in NAMED:
        yield from ((name, "") for name in NAMED[kind]())
        return
    for entry in entries(kind, varieties=":" in begun):
        yield entry.name, entry.summary
