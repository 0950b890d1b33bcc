"""Classes of two data sets that are the same ones under two lists of names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import EmotionData, spelling
from ..errors import ConfigurationError, DomainemoWarning, data_error, did_you_mean
from ..words import are, count, divided, listed, quoted
from .task import unmarked

__all__ = ["share_classes", "written"]

_FORM = "SOURCE=TARGET+TARGET,..., such as positive=happy,negative=sad+fear"


def written(classes: Mapping[str, str | Sequence[str]]) -> str:
    """Return classes as an option has them, ``SOURCE=TARGET+TARGET,...``.

    Parameters
    ----------
    classes : mapping of str to str or sequence of str
        What each class of the source is called in the target.

    Raises
    ------
    ConfigurationError
        If it is no such mapping, or a name holds one of the marks between names.
    """
    if not isinstance(classes, Mapping):
        raise ConfigurationError(
            f"target_classes is {classes!r}; expected a mapping of the source's "
            f'classes to the target\'s, such as {{"positive": "happy"}}.'
        )
    parts = [
        f"{ours}={'+'.join(unmarked('target_classes', ours, theirs))}"
        for ours, theirs in classes.items()
    ]
    return quoted(parts, ",")


def share_classes(
    source: EmotionData, target: EmotionData, named: str | None = None
) -> tuple[EmotionData, EmotionData]:
    """Return two recordings with the classes that both have, under the source's names.

    Parameters
    ----------
    source, target : EmotionData
    named : str, optional
        What is called otherwise in the target, see :func:`written`. Classes of one name
        are the same by themselves. Those without a partner are left out of both, with
        their windows.

    Returns
    -------
    source, target : EmotionData
        Their names say what was taken for what, and how much was left out.

    Raises
    ------
    ConfigurationError
        If `named` has another form, or names a class twice, or one that there is not.
    DataError
        If fewer than two classes are shared, or no window of the target is left.

    Warns
    -----
    DomainemoWarning
        Of windows that are left out.
    """
    partners = _partners(source, target, _parsed(named))
    kept = [name for name in source.classes if name in partners.values()]
    if len(kept) < 2:
        raise data_error(
            f"{target.inputs.name}, classes",
            f"{', '.join(target.classes)}, of which {len(kept)} "
            f"{are(len(kept))} among those of {source.inputs.name} "
            f"({', '.join(source.classes)})",
            "at least two classes that both have",
            f"Say which are the same with --target-classes {_FORM}.",
        )
    ours = {name: name for name in kept}
    return _renamed(source, ours, kept, ""), _renamed(
        target, partners, kept, _told(partners, kept)
    )


def _parsed(named: str | None) -> list[tuple[str, list[str]]]:
    """Return pairs of a source's class and the target's that are the same."""
    pairs = []
    for part in divided(named) if named else ():
        ours, equals, theirs = (each.strip() for each in part.partition("="))
        names = [name.strip() for name in theirs.split("+")]
        if not (ours and equals and all(names)) or "=" in theirs:
            raise ConfigurationError(f"target_classes is {named!r}; expected {_FORM}.")
        pairs.append((ours, names))
    return pairs


def _partners(
    source: EmotionData, target: EmotionData, pairs: list[tuple[str, list[str]]]
) -> dict[str, str]:
    """Return the source's class for each class of the target that has one."""
    found: dict[str, str] = {}
    said: set[str] = set()
    for ours, names in pairs:
        one = _known(ours, source, "source")
        if one in said:
            raise ConfigurationError(
                f"target_classes names {one!r} of the source twice; expected it once, "
                f"with all of the target's that it stands for: {one}=FIRST+SECOND."
            )
        said.add(one)
        for each in names:
            other = _known(each, target, "target")
            if other in found:
                raise ConfigurationError(
                    f"target_classes names {other!r} of the target twice; expected it "
                    f"to be one class of the source."
                )
            found[other] = one
    free = {spelling(name): name for name in source.classes if name not in said}
    for other in target.classes:
        if other not in found and spelling(other) in free:
            found[other] = free[spelling(other)]
    return found


def _known(name: str, data: EmotionData, side: str) -> str:
    """Return a class as the recordings spell it."""
    for each in data.classes:
        if spelling(each) == spelling(name):
            return each
    raise ConfigurationError(
        f"target_classes names {name!r}, and {data.inputs.name}, the {side}, has no "
        f"such class.{did_you_mean(name, data.classes)} Found "
        f"{quoted(data.classes)}; expected {_FORM}."
    )


def _told(partners: Mapping[str, str], kept: Sequence[str]) -> str:
    """Return which classes of the target stand for which, where names differ."""
    parts = []
    for name in kept:
        theirs = [other for other, ours in partners.items() if ours == name]
        if theirs != [name]:
            parts.append(f"{listed(theirs)} as {name}")
    return ", ".join(parts)


def _renamed(
    data: EmotionData, partners: Mapping[str, str], kept: Sequence[str], told: str
) -> EmotionData:
    """Return recordings with the classes `kept` alone; the name says what was done."""
    place = {name: number for number, name in enumerate(kept)}
    new = np.array([place.get(partners.get(name, ""), -1) for name in data.classes])
    labels: NDArray[np.int64] = new[data.labels].astype(np.int64)
    there = np.flatnonzero(labels >= 0)
    name, lost = data.inputs.name, _lost(data, new)
    if lost:
        warnings.warn(
            f"{name}: left out are {lost}, as the other recordings have no such class. "
            f"Name partners with --target-classes {_FORM}.",
            DomainemoWarning,
            stacklevel=6,
        )
    if not len(there):
        raise data_error(
            f"{name}, labels",
            f"no window of {', '.join(partners)}",
            "some of each class that both recordings have",
            f"Say which classes are the same with --target-classes {_FORM}.",
        )
    notes = [told, f"left out: {lost}" if lost else ""]
    if any(notes):
        name = f"{name} ({'; '.join(note for note in notes if note)})"
    inputs: Any = replace(data.inputs, name=name)
    made = EmotionData(inputs.take(there), labels[there], tuple(kept))
    return made


def _lost(data: EmotionData, new: NDArray[np.int64]) -> str:
    """Return how many windows of which classes are left out."""
    counts = np.bincount(data.labels, minlength=len(data.classes))
    gone = [place for place in np.flatnonzero(new < 0) if counts[place]]
    return listed(
        [f"{count(int(counts[it]), 'window')} of {data.classes[it]}" for it in gone]
    )
