"""What a comparison allows to be concluded, in sentences."""

from __future__ import annotations

from ..runs.metrics import LOWER
from ..statistics.effects import FEWEST_TO_SHOW, LEVEL
from ..statistics.paired import Comparison
from ..words import count, p_value, signed
from .comparison import Compared, OnDataset
from .sides import sides

__all__ = ["conclusions"]

_SURE = 0.95
_IN_POINTS = ("accuracy", "balanced_accuracy", "macro_f1", "selective_accuracy")


def conclusions(compared: Compared) -> list[str]:
    """Return a sentence or two per data set, and one on all of them together.

    Parameters
    ----------
    compared : Compared
    """
    several = len(compared.datasets) > 1
    found = []
    for each in compared.datasets:
        text = _on_dataset(compared, each)
        found.append(f"{each.name}: {text}" if several else text)
    for name, together in compared.combined.items():
        p = compared.combined_p[name]
        side = "better" if together.z > 0 else "worse"
        what = f"is {side} than" if p < LEVEL else "cannot be told from"
        found.append(
            f"Over {count(together.datasets, 'data set')}, {name} {what} "
            f"{compared.reference} (Stouffer's z = {together.z:+.2f}, Holm-corrected "
            f"{p_value(p)})."
        )
    if several and not compared.combined:
        found.append(
            "Nothing was combined over data sets: that needs a method that all of them "
            "have, on five subjects or more of each."
        )
    return found


def _on_dataset(compared: Compared, here: OnDataset) -> str:
    subjects = len(here.values)
    if subjects < FEWEST_TO_SHOW:
        return (
            f"With {count(subjects, 'subject')} no difference can be shown: even were "
            f"all of them better, a signed-rank test would not go below p = "
            f"{2 / 2**subjects:.3g}."
        )
    parts, least = [], 2 / 2**subjects * len(here.differences)
    if least >= LEVEL:
        parts.append(
            f"Corrected by Holm for {count(len(here.differences), 'comparison')}, a "
            f"signed-rank test over {count(subjects, 'subject')} cannot go below p = "
            f"{least:.2g}: it can show no difference here, however large."
        )
    for name, found in here.differences.items():
        parts.append(_told(compared, name, found, here.corrected[name]))
    return " ".join([*parts, _needed(here)])


def _told(compared: Compared, name: str, found: Comparison, corrected: float) -> str:
    """Return what may be said of one method beside the reference."""
    said = sides(found, p=corrected, lower=compared.metric in LOWER)
    numbers = f"{_size(compared, found)}, Holm-corrected {p_value(corrected)}"
    other = compared.reference
    if said.shown:
        return f"{name} is {said.shown} than {other} on these subjects ({numbers})."
    if found.chances.equal > _SURE:
        return (
            f"{name} and {other} are practically equal, within {compared.rope:g} "
            f"(probability {found.chances.equal:.2f}; {numbers})."
        )
    if said.silent:
        return f"{name} cannot be told from {other} by these subjects ({numbers})."
    if said.hinted:
        return (
            f"That {name} is {said.hinted} than {other} is a hint, not a finding: "
            f"{said.told()} ({numbers})."
        )
    return (
        f"Whether {name} is better or worse than {other} is left open: {said.told()} "
        f"({numbers})."
    )


def _needed(here: OnDataset) -> str:
    """Return how many subjects would show a difference of two points."""
    found = {n: d.needed for n, d in here.differences.items() if d.needed is not None}
    fewest, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    number = f"about {count(found[most], 'subject')}"
    if found[fewest] != found[most]:
        number = (
            f"{found[fewest]:,} ({fewest}) to {count(found[most], 'subject')} ({most})"
        )
    return (
        f"To see a difference of 0.02 it would take {number}: paired t test at 0.05, "
        f"power 0.8, differences that vary as these do."
    )


def _size(compared: Compared, found: Comparison) -> str:
    """Return a difference and its interval, which six subjects always have."""
    numbers = found.difference, found.low, found.high
    if compared.metric in _IN_POINTS:
        size, low, high = (signed(100 * v) for v in numbers)
        return f"{size} points [{low}, {high}]"
    size, low, high = (signed(v, 3) for v in numbers)
    return f"{size} [{low}, {high}]"
