"""The within-subject splits that data sets are published with, by trial number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from domainemo.errors import DataError
from domainemo.words import in_order

__all__ = ["PUBLISHED", "Published", "published_split"]


@dataclass(frozen=True)
class Published:
    """How a data set's trials are divided within a subject.

    Attributes
    ----------
    trials : int
        Of a session, numbered from 1.
    tested : sequence of range
        The trials that each fold tests; the others train.
    together : bool
        Whether a fold takes these trials of all sessions. Else each session has folds
        of its own.
    repeated : bool
        Whether every session shows the same clips. Else the clips' numbers go on from
        one session to the next.
    """

    trials: int
    tested: Sequence[range]
    together: bool
    repeated: bool = False


def _blocks(trials: int) -> tuple[range, ...]:
    """Return runs of five trials."""
    return tuple(range(first, first + 5) for first in range(1, trials + 1, 5))


_SEED = Published(15, (range(10, 16),), together=False, repeated=True)

PUBLISHED = {
    "seed": _SEED,
    "seed-multimodal": _SEED,
    "seed-iv": Published(24, (range(17, 25),), together=False),
    "seed-v": Published(15, _blocks(15), together=True),
    "seed-vii": Published(20, _blocks(20), together=True),
}
"""By the word that the recordings' name begins with."""

_INSTEAD = "Leave trials out instead (--set protocol.folds=3)."


def published_split(windows: pd.DataFrame) -> Published:
    """Return the split of the data set that recordings are of.

    Their name must say which one it is, and their sessions, trials and stimuli must be
    numbered as there: the same numbers alone could be anybody's.

    Parameters
    ----------
    windows : DataFrame
        Provenance; ``attrs["recordings"]`` is what the recordings are called.

    Raises
    ------
    DataError
        If it cannot be told, or trials are missing.
    """
    called = str(windows.attrs.get("recordings", ""))
    name = next(iter(called.split()), "").casefold().replace("_", "-").strip(",;:")
    if name not in PUBLISHED:
        raise DataError(
            f"within-subject: it cannot be told which published split is meant, as the "
            f"recordings are called {called!r}; expected a name that begins with one "
            f"of {', '.join(PUBLISHED)}. {_INSTEAD}"
        )
    split = PUBLISHED[name]
    numbers = [str(number + 1) for number in range(split.trials)]
    places = windows[["session", "trial", "stimulus"]].drop_duplicates().astype(str)
    for session, trials in places.groupby("session", sort=True):
        before = 0 if split.repeated else (_number(str(session)) - 1) * split.trials
        expected = {(each, str(before + int(each))) for each in numbers}
        found = set(zip(trials["trial"], trials["stimulus"], strict=True))
        if found != expected:
            shown = ", ".join(in_order(trials["trial"]))
            other = "" if {*trials["trial"]} != {*numbers} else ", with other stimuli"
            raise DataError(
                f"within-subject: the recordings are called {called!r}, but session "
                f"{session} has the trials {shown}{other}; expected the published "
                f"ones, {numbers[0]} to {numbers[-1]}, with the stimuli "
                f"{before + 1} to {before + split.trials}. {_INSTEAD}"
            )
    return split


def _number(session: str) -> int:
    return int(session) if session.isascii() and session.isdigit() else 1
