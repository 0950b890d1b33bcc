"""What must hold of recordings: one rule for checking them and for training on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, data_error
from ..words import quoted

__all__ = [
    "contents",
    "copies_error",
    "listed",
    "lost_channels",
    "lost_channels_error",
    "lost_modalities_error",
    "single_class_error",
    "trials_in_words",
]

_LOOKED_AT = 64
_FEWEST_VALUES = 8
_SHOWN = 4


def lost_channels(observed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which channels a subject lacks while others of the modality are there.

    Parameters
    ----------
    observed : ndarray of int, shape (channels,)
        In how many of the subject's windows each channel has a value.
    """
    return np.asarray((observed == 0) & observed.any())


def lost_channels_error(
    recordings: str,
    modality: str,
    lost: Mapping[Any, Sequence[str]],
    remedy: str | None = None,
) -> DataError:
    """Return the error that names the channels, and how they are left out.

    Parameters
    ----------
    recordings, modality : str
    lost : mapping of subject to sequence of str
        The channels that each of these subjects lacks; not empty.
    remedy : str, optional
        What to do instead of what training allows.
    """
    places = [f"{listed(names)} of subject {who}" for who, names in lost.items()]
    channels = dict.fromkeys(name for names in lost.values() for name in names)
    out = quoted((f"{modality}/{name}" for name in channels), ",")
    who = quoted(lost, ",")
    return data_error(
        f"{recordings}, modality {modality!r}",
        f"NaN in every window in {listed(places)}, while other channels are there",
        "a channel to be there for every subject, at least in some windows",
        remedy
        or f"Leave the channel out for everybody (--exclude-channels {out!r}), or all "
        f"of which that is true (--exclude-channels lacking), interpolate it, "
        f"or leave the subject out (--exclude '{who}').",
    )


def lost_modalities_error(
    recordings: str, lost: Sequence[str], others: Sequence[str]
) -> DataError:
    """Return the error that names modalities without a value, and how to do without.

    Parameters
    ----------
    recordings : str
    lost, others : sequence of str
        The modalities that nobody has, and those that are left.
    """
    remedy = "Look at what was read: there is nothing to train on."
    if others:
        shown = quote(quoted(others, ","))
        remedy = f"Use the others: --modalities {shown}."
    return data_error(
        f"{recordings}, modality {listed([repr(name) for name in lost])}",
        "not one value, for nobody",
        "every modality to be there for somebody",
        remedy,
    )


def single_class_error(recordings: str, alone: Mapping[Any, str]) -> DataError:
    """Return the error that names the subjects with a single class.

    Parameters
    ----------
    recordings : str
    alone : mapping of subject to str
        The one class of each.
    """
    people = [f"{name} for subject {who}" for who, name in alone.items()]
    names = quoted(alone, ",")
    return data_error(
        recordings,
        f"a single class, {listed(people)}",
        "at least two classes for whoever is tested, as accuracy means nothing "
        "otherwise",
        f"Leave the subject out (--exclude '{names}'), or train on "
        f"it and skip its test, which the results then name (--set "
        f"protocol.unfit=skip).",
    )


def copies_error(recordings: str, copies: Sequence[Sequence[str]]) -> DataError:
    """Return the error that names trials which are one recording under two names.

    Parameters
    ----------
    recordings : str
    copies : sequence of sequence of str
        The trials that agree, in words.
    """
    places = [" and ".join(places) for places in copies]
    return data_error(
        recordings,
        f"the same signals, bit for bit, in {listed(places, '; ')}",
        "recordings that differ: one person under two names would be trained on and "
        "tested",
        "Look for a file that was read twice, and keep it under one name; a "
        "duplicate-recording, bit for bit, cannot be waived.",
    )


def contents(signals: Iterable[NDArray[np.floating]]) -> set[bytes]:
    """Return what tells a trial's signals from all others, by every bit of them.

    The trial as a whole has a mark, and each window that is there once has one, so that
    a copy is known which lacks some windows or has them in another order. What holds so
    few different values that two recordings may agree by chance has none.

    Parameters
    ----------
    signals : iterable of ndarray of float, shape (windows, channels, features)
        One array per modality, always in the same order.
    """
    flat = np.concatenate(
        [np.asarray(each, np.float32).reshape(len(each), -1) for each in signals],
        axis=1,
    )
    windows = [_mark(each) for each in flat if _tells(each)]
    found = {mark for mark, number in Counter(windows).items() if number == 1}
    return found | ({_mark(flat)} if _tells(flat) else set())


def _mark(values: NDArray[np.float32]) -> bytes:
    return blake2b(np.ascontiguousarray(values).data, digest_size=16).digest()


def _tells(values: NDArray[np.float32]) -> bool:
    """Return whether values are so many different ones that none agree by chance."""
    some = values[np.isfinite(values)][:_LOOKED_AT]
    return len(set(some.tolist())) >= _FEWEST_VALUES


def trials_in_words(places: Iterable[tuple[Any, ...]]) -> list[str]:
    """Return trials, each given by its subject, session and number, in words."""
    return [
        f"subject {subject}, session {session}, trial {trial}"
        for subject, session, trial in places
    ]


def listed(names: Sequence[str], between: str = ", ") -> str:
    """Return the first few names, and how many more there are."""
    more = len(names) - _SHOWN
    return between.join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
