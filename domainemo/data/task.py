"""The task: which classes there are, and so, by their labels, which windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core import EmotionData, spelling
from ..errors import ConfigurationError, data_error, did_you_mean
from ..words import count, divided, quoted

__all__ = ["OF_TARGETS", "choose_classes", "merges", "unmarked"]

_MERGE = "OLD+OLD=NEW, such as happy+surprised=positive"
_MARKS = "=+"

OF_TARGETS = (
    "of targets too (the task's definition; a newcomer's windows cannot be chosen so)"
)
"""By whose labels windows are left out, where nothing else is said."""


def merges(given: str | Sequence[str] | Mapping[str, str | Sequence[str]]) -> list[str]:
    """Return which classes are made one as texts ``OLD+OLD=NEW``.

    Parameters
    ----------
    given : str, sequence of str or mapping
        Such texts, several in one with commas between, in which one with a comma of
        its own stands in double quotes; or the classes that each new
        one is made of, such as ``{"positive": ["happy", "surprised"]}``.

    Raises
    ------
    ConfigurationError
        If a text has another form, a class is in two groups, or two groups become one
        class.
    """
    if isinstance(given, Mapping):
        given = [
            f"{'+'.join(unmarked('merge', new, olds))}={new}"
            for new, olds in given.items()
        ]
    texts = divided(given) if isinstance(given, str) else list(given)
    made = [_parsed(text) for text in texts]
    for what, names in (
        ("is to be made of two groups", [new for _, new in made]),
        ("is in a group twice", [old for olds, _ in made for old in olds]),
    ):
        calls = [spelling(name) for name in names]
        for name, call in zip(names, calls, strict=True):
            if calls.count(call) > 1:
                raise ConfigurationError(
                    f"merge is {', '.join(texts)!r}, in which {name!r} {what}; "
                    f"expected every class in one group, once: {_MERGE}."
                )
    return [f"{'+'.join(olds)}={new}" for olds, new in made]


def unmarked(option: str, one: Any, others: Any) -> list[str]:
    """Return the others as a list; refuse a name that holds a mark between names."""
    names = [others] if isinstance(others, str) else list(others)
    for name in (one, *names):
        if not isinstance(name, str) or any(mark in name for mark in _MARKS):
            raise ConfigurationError(
                f"{option} names {name!r}; expected text without {_MARKS!r}, which "
                f"stand between names. Rename that class in the recordings."
            )
    return names


def _parsed(text: Any) -> tuple[list[str], str]:
    """Return the classes of one group, and what they become."""
    olds, equals, new = str(text).partition("=")
    names = [name.strip() for name in olds.split("+")]
    if not (equals and new.strip() and all(names)) or any(m in new for m in _MARKS):
        raise ConfigurationError(f"merge is {text!r}; expected {_MERGE}.")
    return names, new.strip()


def choose_classes(
    data: EmotionData,
    wanted: Sequence[str] | None = None,
    merge: Sequence[str] = (),
    *,
    whose: str = OF_TARGETS,
) -> tuple[EmotionData, str]:
    """Return recordings with some classes alone, after some were made one.

    A class that is left out leaves no window of it: labels define the task, and so
    which windows there are. The order of classes is the recordings', a new one's that
    of the first it is made of.

    Parameters
    ----------
    data : EmotionData
    wanted : sequence of str, optional
        The classes to use, by their names after merging; all by default.
    merge : sequence of str
        From :func:`merges`.
    whose : str
        By whose labels windows are left out, for the words.

    Returns
    -------
    data : EmotionData
    words : str
        Which classes there are, made of which, and what was left out by its label;
        empty where nothing was chosen.

    Raises
    ------
    ConfigurationError
        For a class that there is not, a new one called as another one that is not in
        its group, and if fewer than two classes are left.
    DataError
        If no window is left.
    """
    if wanted is None and not merge:
        return data, ""
    made_of = _made_of(data, merge)
    new = {old: made for made, olds in made_of.items() for old in olds}
    kept = list(made_of)
    if wanted is not None:
        names = {_known(each, kept, data.inputs.name, "use") for each in wanted}
        kept = [name for name in kept if name in names]
    if len(kept) < 2:
        raise ConfigurationError(
            f"{data.inputs.name}: the only class left is {', '.join(kept)!r}; expected "
            f"at least two to tell apart (--classes, --merge). Found "
            f"{quoted(data.classes)}."
        )
    place = {name: number for number, name in enumerate(kept)}
    places = np.array([place.get(new[old], -1) for old in data.classes])
    labels = places[data.labels]
    there = np.flatnonzero(labels >= 0)
    if not len(there):
        raise data_error(
            f"{data.inputs.name}, labels",
            f"no window of {', '.join(kept)}",
            "some of each class that is used",
            "Choose others with --classes.",
        )
    told = _told_of_classes(data, made_of, kept, places, whose)
    chosen = labels[there].astype(np.int64)
    return EmotionData(data.inputs.take(there), chosen, tuple(kept)), told


def _made_of(data: EmotionData, merge: Sequence[str]) -> dict[str, list[str]]:
    """Return the recordings' classes that each class is made of, in order."""
    where, new = data.inputs.name, {name: name for name in data.classes}
    for text in merge:
        names, made = _parsed(text)
        olds = [_known(name, data.classes, where, "merge") for name in names]
        for other in data.classes:
            if other not in olds and spelling(other) == spelling(made):
                raise ConfigurationError(
                    f"{where}: {' and '.join(olds)} are to become {made!r}, which is a "
                    f"class of its own; expected another name, or that one in the "
                    f"group as well: {'+'.join([*olds, other])}={made}."
                )
        new |= dict.fromkeys(olds, made)
    found: dict[str, list[str]] = {}
    for old in data.classes:
        found.setdefault(new[old], []).append(old)
    return found


def _known(name: str, classes: Sequence[str], recordings: str, purpose: str) -> str:
    """Return a class as the recordings spell it."""
    for each in classes:
        if spelling(each) == spelling(name):
            return each
    raise ConfigurationError(
        f"{recordings}: there is no class {name!r} to {purpose}."
        f"{did_you_mean(name, classes)} Found {quoted(classes)}."
    )


def _told_of_classes(
    data: EmotionData,
    made_of: Mapping[str, list[str]],
    kept: Sequence[str],
    places: Any,
    whose: str,
) -> str:
    parts = [
        name if made_of[name] == [name] else f"{name} ({' + '.join(made_of[name])})"
        for name in kept
    ]
    counts = np.bincount(data.labels, minlength=len(data.classes))
    lost = [
        f"{count(int(counts[place]), 'window')} of {data.classes[place]}"
        for place in np.flatnonzero(places < 0)
    ]
    out = f"; left out by their labels, {whose}: {', '.join(lost)}" if lost else ""
    return f"{', '.join(parts)}{out}"
