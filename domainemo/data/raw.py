"""Recordings out of MNE's continuous ones: each annotation becomes a trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..core import EmotionData
from ..errors import ConfigurationError, data_error, did_you_mean
from .clips import (
    Bads,
    Bands,
    Clip,
    Cut,
    Events,
    Feature,
    Part,
    assemble,
    bands_of,
    check_number,
    columns_of,
    features_of,
    prepared,
)
from .signals.features import BANDS

if TYPE_CHECKING:
    import mne

__all__ = ["Clipping", "Duration", "from_raw", "joined", "raw_part"]

Duration = float | Literal["next"] | None


def from_raw(
    raw: mne.io.BaseRaw | Sequence[mne.io.BaseRaw],
    labels: ArrayLike | str | None = None,
    *,
    subject: ArrayLike,
    session: ArrayLike = 1,
    trial: ArrayLike | None = None,
    stimulus: ArrayLike | None = None,
    events: Sequence[str] | Mapping[str, str] | None = None,
    duration: Duration = None,
    feature: Feature = "de",
    bands: Bands = BANDS,
    window: float = 4.0,
    step: float | None = None,
    resample: float | None = None,
    bads: Bads = "interpolate",
    classes: Sequence[str] | None = None,
    name: str = "own recordings",
) -> EmotionData:
    """Make recordings out of MNE's continuous ones, by their annotations.

    Each annotation is a clip of any length, and becomes a trial of windows. Nothing
    outside an annotation is used, so nothing recorded before a stimulus gets its label.
    Each clip is filtered by itself. Modalities, electrodes' names and bad channels are
    as :func:`domainemo.from_epochs` has them; nothing is filtered or referenced
    beforehand: do that in MNE.

    Annotations whose description begins with ``BAD`` or ``EDGE`` are no clips: windows
    that hold any of them are left out, and the name says how many.

    Parameters
    ----------
    raw : mne.io.Raw or sequence of them
        The files of one sitting in their order; their trials count on.
    labels : array of int or str, shape (clips,), or str, optional
        One per clip, in order of the files and of time; or the name of a column of the
        annotations' ``extras``, as BIDS has them. Where it is not given, the
        annotations' descriptions, or what `events` makes of them.
    subject, session : int, str, array of shape (clips,)
        One value, one per clip, or the name of a column of the extras.
    trial, stimulus : int, str, array of shape (clips,), optional
        As for :func:`domainemo.from_epochs`: where no stimulus is given, the
        descriptions stand for it unless they tell the label. Then numbers do, and the
        name says so.
    events : sequence of str or mapping of str to str, optional
        The descriptions that mark clips; a mapping gives each its label. All others are
        left out, and named. By default every annotation is a clip.
    duration : float or "next", optional
        Seconds of every clip, where annotations are markers without a duration, or
        ``"next"`` where a clip lasts until the next annotation, whatever its
        description, or the end. By default, the annotations' own durations.
    feature, bands, window, step, bads, classes, name
        As for :func:`domainemo.from_epochs`.
    resample : float, optional
        Sampling rate in Hz to which MNE resamples before clips are cut, with its
        low-pass filter. For samples, as networks take them.

    Returns
    -------
    EmotionData
        ``start`` is in seconds from the clip's onset.

    Raises
    ------
    ConfigurationError
        If the feature is unknown, labels are given twice, or bands and window do not
        fit the sampling rate.
    DataError
        If these are no continuous recordings; if no annotation marks a clip, a clip is
        shorter than a window, or two clips overlap, as one moment would have two
        labels; and whatever :func:`domainemo.from_epochs` refuses.

    Examples
    --------
    >>> raws = [mne.io.read_raw(f"ann_{run}.edf") for run in (1, 2)]
    >>> data = from_raw(raws, subject="ann", events={"clip 1": "calm", "clip 2": "sad",
    ...                                              "clip 3": "calm"},
    ...                 classes=["calm", "sad"])
    """
    cut = Cut(feature, bands_of(bands, name), window, step, bads)
    cut.check(name)
    clipping = Clipping(events, duration, resample)
    clipping.check(labels, name)
    several = list(raw) if isinstance(raw, list | tuple) else [raw]
    if not several:
        raise data_error(name, "no recordings", "at least one", "Give some.")
    parts: list[Part] = []
    for number, each in enumerate(several):
        where = name if len(several) == 1 else f"{name}, file {number} (from 0)"
        so_far = sum(len(part.events) for part in parts)
        parts.append(raw_part(each, cut, clipping, so_far, where))
    place = {"subject": subject, "session": session, "trial": trial}
    return joined(parts, place, labels, stimulus, cut, clipping, classes, name)


# ----------------------------------------------------------------------- annotations


@dataclass(frozen=True)
class Clipping:
    """Which annotations are clips, how long they are, and the rate of their samples.

    See :func:`from_raw` for each.
    """

    events: Sequence[str] | Mapping[str, str] | None = None
    duration: Duration = None
    resample: float | None = None

    def check(self, labels: Any, name: str) -> None:
        """Refuse what does not fit; `labels` are those given beside it."""
        if isinstance(self.events, str):
            raise ConfigurationError(
                f"{name}: events is the text {self.events!r}; expected a list of "
                f"descriptions. Write [{self.events!r}]."
            )
        if labels is not None and isinstance(self.events, Mapping):
            raise ConfigurationError(
                f"{name}: labels were given, and others by events; expected one of "
                f"them. Give events as a list of descriptions."
            )
        if self.duration not in (None, "next"):
            check_number(f"{name}: duration", self.duration, "seconds, or 'next'")
        if self.resample is not None:
            check_number(f"{name}: resample", self.resample, "a rate in Hz")


@dataclass(frozen=True)
class _Marked:
    """An annotation that marks a clip: its samples, its text, and its row."""

    first: int
    last: int
    description: str
    row: int


def joined(
    parts: Sequence[Part],
    place: Mapping[str, Any],
    labels: Any,
    stimulus: Any,
    cut: Cut,
    clipping: Clipping,
    classes: Sequence[str] | None,
    name: str,
) -> EmotionData:
    """Return the clips of several files as recordings.

    Parameters
    ----------
    parts : sequence of Part
    place : mapping of str to value
        ``subject``, ``session`` and ``trial``, None where clips are numbered.
    labels, stimulus, cut, clipping, classes, name
        See :func:`from_raw`.
    """
    told = Events.of_all([part.events for part in parts])
    _check_named(told, clipping.events, name)
    given = {
        **place,
        "label": _labels(told, labels, clipping.events),
        "trial": told.numbers if place["trial"] is None else place["trial"],
        "stimulus": stimulus,
    }
    by_events = labels is None and not isinstance(clipping.events, Mapping)
    columns, notes = columns_of(told, given, by_events, "clip", name)
    return assemble(parts, columns, notes, cut, classes, name)


def _labels(told: Events, labels: Any, events: Any) -> Any:
    """Return the labels as they were given, or as the descriptions tell them."""
    if labels is not None:
        return labels
    if isinstance(events, Mapping):
        return tuple(events[description] for description in told.names)
    return told.names


def _check_named(told: Events, events: Iterable[str] | None, name: str) -> None:
    """Refuse events that no file has: misspelt, they would be missed in silence."""
    known = dict.fromkeys((*told.names, *told.others))
    for each in events or ():
        if each not in known:
            raise data_error(
                f"{name}, events",
                f"{each!r}, which no annotation is called",
                f"some of {', '.join(map(repr, known))}",
                f"Correct it, or leave it out.{did_you_mean(each, known)}",
            )


def raw_part(raw: Any, cut: Cut, clipping: Clipping, so_far: int, name: str) -> Part:
    """Return the features of one continuous recording.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    cut : Cut
    clipping : Clipping
    so_far : int
        Clips of the files before.
    name : str
        What messages call it.
    """
    raw = _continuous(raw, name)
    notes = []
    ready, told = prepared(raw, cut.bads, name)
    ready = ready if ready is not raw else raw.copy()
    ready.load_data(verbose="error")
    if clipping.resample and clipping.resample != ready.info["sfreq"]:
        ready.resample(clipping.resample, verbose="error")
        notes.append(f"resampled to {clipping.resample:g} Hz")
    marked, left_out = _marked(ready, clipping, cut, name)
    signals = ready.get_data(verbose="error")
    bad = _annotated_as_bad(ready)
    clips = [
        Clip(signals[:, it.first : it.last], bad=bad[it.first : it.last])
        for it in marked
    ]
    events = Events(
        tuple(it.description for it in marked),
        tuple(range(so_far + 1, so_far + 1 + len(marked))),
        _extras(ready, [it.row for it in marked]),
        tuple(left_out),
    )
    if left_out:
        notes.append(f"annotations left out: {', '.join(left_out)}")
    return features_of(ready, clips, events, cut, [*told, *notes], name)


def _continuous(raw: Any, name: str) -> mne.io.BaseRaw:
    # Importing MNE takes seconds, which importing this file should not.
    import mne

    if not isinstance(raw, mne.io.BaseRaw):
        raise data_error(
            name,
            f"a {type(raw).__name__}",
            "a continuous recording, as mne.io.read_raw gives it",
            "Give epochs to domainemo.from_epochs, and several files as a list.",
        )
    if len(raw.annotations) == 0:
        raise data_error(
            name,
            "no annotations",
            "one for each clip",
            "Set them with raw.set_annotations; those of a stimulus channel are made "
            "by mne.find_events and mne.annotations_from_events.",
        )
    return raw


def _texts(raw: mne.io.BaseRaw) -> list[str]:
    return [str(text) for text in raw.annotations.description]


def _says_bad(description: str) -> bool:
    return description.upper().startswith(("BAD", "EDGE"))


def _samples(raw: mne.io.BaseRaw) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first sample of each annotation, and how many it lasts."""
    told = raw.annotations
    first = raw.time_as_index(told.onset, use_rounding=True, origin=told.orig_time)
    if told.orig_time is None:  # then MNE counts from before what was cropped off
        first = first - raw.first_samp
    length = np.round(np.asarray(told.duration) * raw.info["sfreq"]).astype(np.int64)
    return np.asarray(first, dtype=np.int64), length


def _annotated_as_bad(raw: mne.io.BaseRaw) -> NDArray[np.bool_]:
    """Return the samples that are annotated as bad, a boundary's as one."""
    bad = np.zeros(raw.n_times, dtype=bool)
    for text, first, length in zip(_texts(raw), *_samples(raw), strict=True):
        if _says_bad(text):
            bad[max(first, 0) : max(first + max(length, 1), 0)] = True
    return bad


def _marked(
    raw: mne.io.BaseRaw, clipping: Clipping, cut: Cut, name: str
) -> tuple[list[_Marked], list[str]]:
    """Return the clips in order of time, and the descriptions that mark none."""
    texts = _texts(raw)
    firsts, lengths = _samples(raw)
    wanted = clipping.events
    good = [row for row, text in enumerate(texts) if not _says_bad(text)]
    chosen = [row for row in good if wanted is None or texts[row] in wanted]
    if not chosen:
        raise _none_marked(texts, wanted, name)
    ends = firsts + lengths
    if clipping.duration == "next":
        onsets = np.append(firsts[good], raw.n_times)
        ends = np.array([onsets[onsets > it].min(initial=raw.n_times) for it in firsts])
    elif clipping.duration is not None:
        ends = firsts + round(clipping.duration * float(raw.info["sfreq"]))
    marked = [
        _Marked(
            max(int(firsts[row]), 0), min(int(ends[row]), raw.n_times), texts[row], row
        )
        for row in sorted(chosen, key=lambda row: firsts[row])
    ]
    _check_long_enough(marked, raw, cut, name)
    _check_apart(marked, raw, name)
    left_out = dict.fromkeys(texts[row] for row in good if row not in chosen)
    return marked, list(left_out)


def _none_marked(texts: Iterable[str], wanted: Any, name: str) -> Exception:
    known = list(dict.fromkeys(texts))
    found = f"annotations {', '.join(map(repr, known))}"
    if wanted is None:
        return data_error(
            name, found, "some that are not bad", "Annotate every clip with its name."
        )
    near = "".join(did_you_mean(each, known) for each in wanted)
    return data_error(
        name,
        found,
        f"one of {', '.join(map(repr, wanted))}",
        f"Correct events.{near}",
    )


def _place(it: _Marked, rate: float) -> str:
    return f"{it.description!r} from {it.first / rate:g} to {it.last / rate:g} s"


def _check_long_enough(
    marked: Sequence[_Marked], raw: mne.io.BaseRaw, cut: Cut, name: str
) -> None:
    rate = float(raw.info["sfreq"])
    short = [it for it in marked if it.last - it.first < cut.samples(rate)]
    if short:
        more = f" and {len(short) - 3} more" * (len(short) > 3)
        raise data_error(
            name,
            f"{len(short)} of {len(marked)} clips that are shorter than a window: "
            f"{'; '.join(_place(it, rate) for it in short[:3])}{more}",
            f"at least {cut.window:g} s each",
            "Give duration= seconds, or duration='next', where annotations are "
            "markers; name those that are clips with events=[...]; or choose a shorter "
            "window.",
        )


def _check_apart(marked: Sequence[_Marked], raw: mne.io.BaseRaw, name: str) -> None:
    """Refuse clips that share samples: one moment would be in two trials."""
    rate = float(raw.info["sfreq"])
    for one, two in pairwise(marked):
        # Onsets and durations are rounded to samples apart from each other.
        if two.first < one.last - 1:
            raise data_error(
                name,
                f"clips that overlap: {_place(one, rate)}, and {_place(two, rate)}",
                "each moment in one clip",
                "Name the annotations that are clips with events=[...], or correct "
                "them; duration='next' ends a clip where the next begins.",
            )


def _extras(raw: mne.io.BaseRaw, rows: Sequence[int]) -> pd.DataFrame | None:
    """Return what the annotations say beside their description, a row per clip."""
    told = getattr(raw.annotations, "extras", None)
    if not told or not any(told):
        return None
    return pd.DataFrame([dict(told[row] or {}) for row in rows])
