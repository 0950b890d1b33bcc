"""Words for numbers and names: plurals, lists, and the order that people expect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "are",
    "but_for_calibration",
    "count",
    "divided",
    "duration",
    "first_few",
    "in_order",
    "listed",
    "natural",
    "p_value",
    "quoted",
    "signed",
    "were",
]


def count(number: int, noun: str) -> str:
    """Return a number of things: "1 fold", "2 folds", "3 classes"."""
    hissing = noun.endswith(("s", "ch")) and noun != "epoch"
    plural = f"{noun}es" if hissing else f"{noun}s"
    plural = f"{noun[:-1]}ies" if noun.endswith("ity") else plural
    return f"{number:,} {noun if number == 1 else plural}"


def duration(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 120:
        return count(round(seconds), "second")
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def were(number: int) -> str:
    """Return the verb that goes with a number of things."""
    return "was" if number == 1 else "were"


def are(number: int) -> str:
    """Return the verb that goes with a number of things now."""
    return "is" if number == 1 else "are"


def signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign; without one where no digit of it is left.

    Parameters
    ----------
    value : float
    digits : int
        After the point.
    """
    text = f"{value:+.{digits}f}"
    return text if text.strip("+-0.") else text[1:]


def p_value(value: float) -> str:
    """Return a p-value, of which nobody wants more than three digits."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def first_few(parts: Sequence[str], most: int) -> str:
    """Return the first few parts of a sentence, and how many more there are."""
    more = len(parts) - most
    return "; ".join(parts[:most]) + (f"; and {more} more" if more > 0 else "")


def but_for_calibration(given: bool) -> str:
    """Return what follows where no label of a target is said to have been seen.

    Parameters
    ----------
    given : bool
        Whether some were, on purpose: a fold's calibration.
    """
    return ", but for those given for calibration" if given else ""


def in_order(names: Iterable[Any]) -> list[Any]:
    """Return distinct names in natural order: session "2" before session "10"."""
    return sorted(set(names), key=natural)


_PIECE = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,]*?))\s*(,|$)')


def divided(text: str) -> list[str]:
    """Return the names of a text that has commas between them.

    A piece in double quotes is one name, as in CSV: ``"Lee, Ann",Bo`` are two. What no
    name can be, such as nothing between two commas, is left to the caller.

    Parameters
    ----------
    text : str
    """
    found, place, mark = [], 0, ","
    while mark:
        piece = _PIECE.match(text, place)
        assert piece is not None, text  # which anything before a comma is
        inside, plain, mark = piece.groups()
        found.append(plain.strip() if inside is None else inside.replace('""', '"'))
        place = piece.end()
    return found


def quoted(names: Iterable[Any], between: str = ", ") -> str:
    """Return names as :func:`divided` reads them: those with a comma in quotes.

    Parameters
    ----------
    names : iterable
    between : str
        A comma, alone or with a blank.
    """
    texts = map(str, names)
    return between.join(
        '"{}"'.format(text.replace('"', '""'))
        if "," in text or text.startswith('"')
        else text
        for text in texts
    )


def natural(name: Any) -> list[tuple[bool, int, str]]:
    """Return a key by which "2" comes before "10"."""
    parts = re.split(r"([0-9]+)", str(name))
    numbers = [re.fullmatch("[0-9]{1,4000}", part) is not None for part in parts]
    return [
        (number, int(part) if number else 0, part)
        for part, number in zip(parts, numbers, strict=True)
        if part
    ]
