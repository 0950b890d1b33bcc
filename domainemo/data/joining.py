"""Several recordings as one: what must agree, and what is left out otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ..core import (
    PROVENANCE,
    TRIAL,
    EmotionData,
    Inputs,
    Modality,
    canonical_name,
    require_one_spelling,
)
from ..errors import DomainemoWarning, data_error
from .given import expect_labelled
from .matching import step_of
from .soundness import listed, lost_channels
from .units import warn_of_units

__all__ = ["called_alike", "check_modalities", "join", "widest"]

_PLACE = [*TRIAL, "start"]


def join(
    *datas: EmotionData, number_trials: bool = False, common: bool = False
) -> EmotionData:
    """Put recordings together, such as those of several subjects.

    Parameters
    ----------
    *datas : EmotionData
        With the same classes, modalities, channels and features. An electrode is the
        same under two spellings, such as ``FP1`` and ``Fp1`` or ``T3`` and ``T7``, and
        has the first one's name.
    number_trials : bool
        Number the trials of each subject's session anew, from 1, in the order of the
        recordings. For several recordings of one sitting, each of which counts its
        trials from 1. Where the trial's number stood for the stimulus, the new one
        does.
    common : bool
        Keep what all recordings have: leave out, for everybody, modalities and channels
        that one of them lacks, or that are NaN throughout for a subject whose other
        channels are there. The name says which.

    Returns
    -------
    EmotionData
        In order of subject, session, trial and time, under the joined names.

    Raises
    ------
    DataError
        If the recordings differ in what they hold, or two hold the same window.

    Warns
    -----
    DomainemoWarning
        If a channel is lost for a subject, which training would refuse, if a subject's
        values are on another scale than the others', or if windows follow one another
        at several distances.
    """
    if not datas:
        raise data_error("join", "no recordings", "at least one", "Give some.")
    for data in datas:
        expect_labelled(data, "join")
    datas = tuple(_called_alike(datas[0], data) for data in datas)
    left_out: list[str] = []
    if common:
        datas, left_out = _in_common(datas)
    for other in datas[1:]:
        _check_alike(datas[0], other)
    first = datas[0].inputs
    tables = [data.inputs.windows for data in datas]
    if number_trials:
        tables = _numbered(tables)
    windows = pd.DataFrame(
        {key: _joined_column([table[key] for table in tables]) for key in PROVENANCE}
    )
    names = ", ".join(dict.fromkeys(data.inputs.name for data in datas))
    if left_out:
        names += f" (left out: {', '.join(left_out)})"
    _check_distinct(windows, names)
    signals = {
        key: np.concatenate([data.inputs.signals[key] for data in datas])
        for key in first.signals
    }
    labels = np.concatenate([data.labels for data in datas])
    modalities = {
        key: replace(
            modality, span=widest(data.inputs.modalities[key] for data in datas)
        )
        for key, modality in first.modalities.items()
    }
    divided = any(data.inputs.labelled_trials for data in datas)
    inputs = Inputs(signals, windows, modalities, names, divided)
    order = windows.sort_values(_PLACE, kind="stable").index.to_numpy()
    joined = EmotionData(inputs, labels, datas[0].classes).take(order)
    _note_lost(joined.inputs)
    _note_steps(datas)
    if len(datas) > 1:
        warn_of_units(joined.inputs)
    return joined


def _note_steps(datas: Sequence[EmotionData]) -> None:
    """Warn of windows that may be of several lengths, which nothing else tells."""
    steps = [step_of(data.inputs.windows) for data in datas]
    found = [step for step in steps if step is not None]
    if found and max(found) > 1.01 * min(found):
        told = ", ".join(f"{s:g} s" for s in sorted({round(s, 3) for s in found}))
        names = dict.fromkeys(data.inputs.name for data in datas)
        warnings.warn(
            f"{listed([*names])}: windows follow one another every {told}. What is "
            f"measured depends on a window's length: where these are of several, cut "
            f"all recordings into windows of one, and compute the features anew.",
            DomainemoWarning,
            stacklevel=3,
        )


def _check_distinct(windows: pd.DataFrame, names: str) -> None:
    twice = windows.duplicated(_PLACE).to_numpy()
    if twice.any():
        row = int(twice.argmax())
        place = ", ".join(f"{key} {windows[key].iloc[row]}" for key in _PLACE)
        raise data_error(
            names,
            f"two windows with {place}",
            "one window per subject, session, trial and start",
            "If these are two recordings of one sitting, number their trials anew with "
            "join(..., number_trials=True); if they are of two days, give each its own "
            "session. A person keeps one name in all of them.",
        )


def _numbered(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Return the tables with trials that count on from one to the next."""
    numbered = []
    last: dict[tuple[str, str], int] = {}
    for table in tables:
        trials = np.empty(len(table), dtype=np.int64)
        sittings = table["subject"].astype(str), table["session"].astype(str)
        for place in dict.fromkeys(zip(*sittings, strict=True)):
            rows = ((sittings[0] == place[0]) & (sittings[1] == place[1])).to_numpy()
            codes, found = pd.factorize(table["trial"][rows])
            trials[rows] = last.get(place, 0) + 1 + codes
            last[place] = last.get(place, 0) + len(found)
        own = (table["stimulus"].astype(str) == table["trial"].astype(str)).all()
        stimuli = trials if own else table["stimulus"]
        numbered.append(table.assign(trial=trials, stimulus=stimuli))
    return numbered


def widest(modalities: Iterable[Modality]) -> float | None:
    """Return the longest span of recordings; None where none of them tells one.

    Parameters
    ----------
    modalities : iterable of Modality
        One and the same of several recordings.
    """
    return max((each.span for each in modalities if each.span), default=None)


def _joined_column(columns: Sequence[pd.Series[Any]]) -> pd.Series[Any]:
    """Join numbers with numbers; beside strings, numbers become strings."""
    if any(not pd.api.types.is_numeric_dtype(column) for column in columns):
        columns = [column.astype(str) for column in columns]
    return pd.concat(columns, ignore_index=True)


# ---------------------------------------------------------------------- in agreement


def _called_alike(first: EmotionData, other: EmotionData) -> EmotionData:
    """Return the other recordings with electrodes called as in the first."""
    modalities = called_alike(first.inputs.modalities, other.inputs.modalities)
    if modalities == other.inputs.modalities:
        return other
    return replace(other, inputs=replace(other.inputs, modalities=modalities))


def called_alike(
    first: Mapping[str, Modality], other: Mapping[str, Modality]
) -> dict[str, Modality]:
    """Return other modalities with electrodes called as in the first."""
    modalities = dict(other)
    for key, modality in modalities.items():
        one = first.get(key)
        if modality.kind == "eeg" and one and one.channels != modality.channels:
            names = {canonical_name(name): name for name in one.channels}
            called = [names.get(canonical_name(it), it) for it in modality.channels]
            modalities[key] = replace(modality, channels=tuple(called))
    return modalities


def _check_alike(first: EmotionData, other: EmotionData) -> None:
    one, two = first.inputs, other.inputs
    where = f"{two.name}, joined to {one.name}"
    if other.classes != first.classes:
        raise data_error(
            f"{where}, classes",
            ", ".join(other.classes),
            ", ".join(first.classes),
            "Make all of them with the same classes=[...].",
        )
    check_modalities(one.modalities, two.modalities, where)


def check_modalities(
    one: Mapping[str, Modality], two: Mapping[str, Modality], where: str
) -> None:
    """Refuse what is not the same modalities, channels, features and units.

    Parameters
    ----------
    one, two : mapping of str to Modality
    where : str
        What has the second ones.

    Raises
    ------
    DataError
    """
    if set(two) != set(one):
        raise data_error(
            f"{where}, modalities",
            ", ".join(two),
            ", ".join(one),
            "Keep what all recordings have, with join(..., common=True).",
        )
    for key, modality in one.items():
        _check_same_modality(modality, two[key], f"{where}, {key!r}")


def _check_same_modality(one: Modality, two: Modality, where: str) -> None:
    for field in ("channels", "features", "kind", "unit"):
        expected, found = getattr(one, field), getattr(two, field)
        if found != expected:
            remedy = "Make all of them alike, in the same order."
            if field == "channels":
                remedy += " join(..., common=True) keeps the channels that all have."
            raise data_error(
                f"{where}, {field}",
                ", ".join([found] if isinstance(found, str) else found) or "none",
                ", ".join([expected] if isinstance(expected, str) else expected)
                or "none",
                remedy,
            )


def _in_common(
    datas: Sequence[EmotionData],
) -> tuple[tuple[EmotionData, ...], list[str]]:
    """Return the recordings with what all of them have, and what was left out."""
    everything = dict.fromkeys(key for data in datas for key in data.inputs.modalities)
    where = ", ".join(dict.fromkeys(data.inputs.name for data in datas))
    require_one_spelling(f"{where}, modalities", "modality", everything)
    kept: dict[str, list[str]] = {}
    left_out = []
    for key in everything:
        if not all(key in data.inputs.modalities for data in datas):
            left_out.append(key)
            continue
        held = [data.inputs.modalities[key].channels for data in datas]
        lost = {name for data in datas for name in _lost_channels(data.inputs, key)}
        common = set(held[0]).intersection(*held[1:]) - lost
        every = dict.fromkeys(name for channels in held for name in channels)
        left_out += [f"{key} {name}" for name in every if name not in common]
        if common:
            kept[key] = [name for name in held[0] if name in common]
    if not kept:
        raise data_error(
            where,
            "no channel that all recordings have",
            "one or more of one modality",
            "Rename channels that are the same sensors.",
        )
    return tuple(_keep(data, kept) for data in datas), left_out


def _keep(data: EmotionData, kept: dict[str, list[str]]) -> EmotionData:
    """Return the recordings with these channels, in this order."""
    inputs = data.inputs
    signals, modalities = {}, {}
    for key, names in kept.items():
        modality = inputs.modalities[key]
        places = [modality.channels.index(name) for name in names]
        signals[key] = inputs.signals[key][:, places]
        modalities[key] = replace(modality, channels=tuple(names))
    return replace(data, inputs=replace(inputs, signals=signals, modalities=modalities))


# ----------------------------------------------------------------------------- losses


def _lost_channels(inputs: Inputs, modality: str) -> dict[str, list[str]]:
    """Return the subjects who lack a channel while they have others, by channel."""
    found: dict[str, list[str]] = {}
    observed = np.asarray((~np.isnan(inputs.signals[modality])).any(axis=2))
    subjects = inputs.windows["subject"].to_numpy()
    channels = inputs.modalities[modality].channels
    for subject in pd.unique(inputs.windows["subject"]):
        lost = lost_channels(observed[subjects == subject].sum(axis=0))
        for channel in np.flatnonzero(lost):
            found.setdefault(channels[channel], []).append(str(subject))
    return found


def _note_lost(inputs: Inputs) -> None:
    """Warn of channels that training would refuse."""
    listed = [
        f"{key} {channel} (subject {', '.join(subjects)})"
        for key in inputs.modalities
        for channel, subjects in _lost_channels(inputs, key).items()
    ]
    if listed:
        warnings.warn(
            f"{inputs.name}: NaN throughout for some, while their other channels are "
            f"there: {'; '.join(listed)}. Training refuses this. Leave the channels "
            f"out for everybody with join(..., common=True), or interpolate them "
            f"(from_epochs does, by default).",
            DomainemoWarning,
            stacklevel=3,
        )
