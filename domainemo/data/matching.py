"""New recordings, fitted to those that a model is, or will be, made for.

Everything is found by name. What the others have and the newcomer does not is computed
where that can be done honestly, and else named; no value is converted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, Inputs, Modality, canonical_name, spelling
from ..errors import DataError, data_error, did_you_mean
from ..words import are
from .montage import FEWEST_ELECTRODES, HEAD_CENTRE, standard_montage
from .normalisation import Scale
from .soundness import listed
from .units import distances

__all__ = ["Matched", "channels_within_reach", "match", "step_of"]

_Array = NDArray[np.float32]

_MOST_INTERPOLATED = 0.25
"""Of a modality's electrodes. Beyond, a montage is another one, not one with gaps."""

_SAME_STEP = 0.01
"""The share of a step by which windows may be nearer or farther."""


@dataclass(frozen=True)
class Matched:
    """New recordings as a model takes them, and what was found on the way.

    Attributes
    ----------
    inputs : Inputs
        The modalities, channels and features that were asked for, in that order and
        under these names. Their name says which electrodes are interpolated.
    missing : tuple of str
        Modalities that the recordings do not have at all.
    warnings : tuple of str
        Sentences on what changes, or may change, a prediction.
    notes : tuple of str
        Sentences on what was left out, or is called otherwise.
    """

    inputs: Inputs
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def match(
    inputs: Inputs,
    modalities: Mapping[str, Modality],
    *,
    wanted_of: str,
    step: float | None = None,
    scales: Mapping[str, Scale] | None = None,
    keep_missing: bool = False,
) -> Matched:
    """Fit new recordings to the modalities of others.

    Modalities, channels and features are found by name, in any order and spelling,
    electrodes also by what recorders write around them and by their old names (``T3``
    is ``T7``). What else was recorded is left out. Electrodes that were not recorded
    are interpolated by MNE from those that were asked for and are there, wherever these
    have a value, feature by feature, and others' values are the same bits.

    Parameters
    ----------
    inputs : Inputs
        As they were recorded, not normalised.
    modalities : mapping of str to Modality
        What the model is, or will be, made for.
    wanted_of : str
        Whose these are, as sentences name it: the other recordings' name, or ``"the
        training"``.
    step : float, optional
        Seconds from the start of a window to that of the next, from `step_of`; not
        compared by default.
    scales : mapping of str to Scale, optional
        Mean and deviation of those others' values as they were recorded; not compared
        by default.
    keep_missing : bool
        Keep a modality that the recordings lack, as one whose sensor lost all windows
        (NaN), instead of leaving it out.

    Returns
    -------
    Matched

    Raises
    ------
    DataError
        If there is no window, or no modality with a value; if windows follow one
        another at another distance; if a channel or a feature that is needed is not
        there, or twice, and is not interpolated; or if a value is infinite.
    """
    if not len(inputs):
        raise DataError(f"{inputs.name}: there are no windows at all.")
    places = _places(tuple(modalities), tuple(inputs.modalities), spelling)
    if not places:
        raise _nothing_in_common(inputs, modalities, wanted_of)
    warnings = _told_of_step(inputs, step, wanted_of)
    notes = _left_out(inputs.name, "modality", inputs.modalities, places, wanted_of)
    fitted: dict[str, _Array] = {}
    absent: list[str] = []
    for name, wanted in modalities.items():
        if name in places:
            called = tuple(inputs.modalities)[places[name]]
            array, lost, found, others = _fitted(inputs, called, wanted, wanted_of)
            fitted[name] = array
            absent += lost
            warnings += found
            notes += others
        elif keep_missing:
            shape = len(inputs), len(wanted.channels), len(wanted.features)
            fitted[name] = np.full(shape, np.nan, np.float32)
    described = {name: modalities[name] for name in fitted}
    for name, place in places.items():  # of how much their own windows are made
        span = tuple(inputs.modalities.values())[place].span
        described[name] = replace(described[name], span=span)
    said = (
        f"{inputs.name} ({', '.join(absent)} interpolated)" if absent else inputs.name
    )
    matched = replace(inputs, signals=fitted, modalities=described, name=said)
    missing = _absent(tuple(modalities), places)
    warnings = _told_of_lost(matched, missing, wanted_of, inputs.modalities) + warnings
    if scales:
        warnings += distances(matched, scales, f"those of {wanted_of}")
    return Matched(matched, tuple(missing), tuple(warnings), tuple(notes))


def channels_within_reach(
    inputs: Inputs, modalities: Mapping[str, Modality]
) -> dict[str, tuple[str, ...]]:
    """Return the channels of modalities that recordings have, or can be given.

    Those that :func:`match` finds, and where it can interpolate what is missing, all.

    Parameters
    ----------
    inputs : Inputs
    modalities : mapping of str to Modality

    Returns
    -------
    dict of str to tuple of str
        For each modality that the recordings have. All of its channels, too, where they
        have none of them: that is for `match` to refuse.
    """
    reach = {}
    places = _places(tuple(modalities), tuple(inputs.modalities), spelling)
    for name, place in places.items():
        wanted, found = modalities[name], [*inputs.modalities.values()][place]
        same = _electrode if wanted.kind == "eeg" else spelling
        channels = _places(wanted.channels, found.channels, same)
        absent = _absent(wanted.channels, channels)
        reach[name] = wanted.channels
        if channels and _why_not_interpolated(wanted, absent, found, same) is not None:
            twice = set(map(same, found.channels))  # named, but not as one
            reach[name] = tuple(
                each
                for each in wanted.channels
                if each in channels or same(each) in twice
            )
    return reach


def step_of(windows: pd.DataFrame) -> float | None:
    """Return the seconds from the start of a window to that of the trial's next.

    Parameters
    ----------
    windows : DataFrame
        As :class:`domainemo.core.Inputs` has them, in any order.

    Returns
    -------
    float or None
        The median. None where no window follows another, or where most do at another
        distance than this.
    """
    trials = windows.groupby(TRIAL).ngroup().to_numpy()
    start = windows["start"].to_numpy(np.float64)
    order = np.lexsort((start, trials))
    steps = np.diff(start[order])[np.diff(trials[order]) == 0]
    if not len(steps):
        return None
    step = float(np.median(steps))
    return step if np.mean(_same_step(steps, step)) > 0.5 else None


def _same_step(found: Any, step: float) -> Any:
    return np.abs(found - step) <= _SAME_STEP * step


def _told_of_step(inputs: Inputs, step: float | None, wanted_of: str) -> list[str]:
    """Refuse windows at another distance; tell where none can be compared."""
    if step is None:
        return []
    found = step_of(inputs.windows)
    if found is None:
        # Of windows that each stand alone there is nothing to compare.
        follow = bool(inputs.windows.duplicated(TRIAL).any())
        return follow * [
            f"{inputs.name}: windows do not follow one another at one distance, so "
            f"that nobody can tell whether they are as long as those of {wanted_of}, "
            f"which come every {step:g} s."
        ]
    if not _same_step(found, step):
        raise data_error(
            inputs.name,
            f"windows that follow one another every {found:g} s",
            f"windows every {step:g} s, as those of {wanted_of}",
            "What is measured depends on a window's length: cut the recording into "
            "such windows, and compute the features anew.",
        )
    return []


# ----------------------------------------------------------------------- by name


def _places(
    wanted: Sequence[str], found: Sequence[str], called: Callable[[str], str]
) -> dict[str, int]:
    """Return where each wanted name stands, but for those missing, or there twice.

    The very name comes before one that is only `called` the same.
    """
    places = {name: found.index(name) for name in wanted if name in found}
    asking, offering = (
        _by_call([name for name in names if name not in places], called)
        for names in (wanted, found)
    )
    for call, names in asking.items():
        offered = offering.get(call, [])
        if len(names) == len(offered) == 1:
            places[names[0]] = found.index(offered[0])
    return places


def _by_call(
    names: Iterable[str], called: Callable[[str], str]
) -> dict[str, list[str]]:
    calls: dict[str, list[str]] = {}
    for name in names:
        calls.setdefault(called(name), []).append(name)
    return calls


def _electrode(name: str) -> str:
    return canonical_name(spelling(name))


def _absent(wanted: Sequence[str], places: Mapping[str, int]) -> list[str]:
    return [name for name in wanted if name not in places]


def _others(found: Iterable[str], places: Mapping[str, int]) -> list[str]:
    """Return the names that were not asked for."""
    kept = set(places.values())
    return [name for place, name in enumerate(found) if place not in kept]


def _left_out(
    where: str,
    what: str,
    found: Iterable[str],
    places: Mapping[str, int],
    wanted_of: str,
) -> list[str]:
    """Return the note on what was recorded and is not wanted."""
    others = _others(found, places)
    if not others:
        return []
    return [f"{where}: left out, as {wanted_of} has no such {what}: {listed(others)}."]


def _called_otherwise(
    where: str, found: Sequence[str], places: Mapping[str, int]
) -> list[str]:
    """Return the note on names that differ in more than spelling."""
    pairs = [(found[place], name) for name, place in places.items()]
    others = [f"{it} as {name}" for it, name in pairs if spelling(it) != spelling(name)]
    return [f"{where}: taken by another name: {listed(others)}."] if others else []


def _nothing_in_common(
    inputs: Inputs, modalities: Mapping[str, Modality], wanted_of: str
) -> DataError:
    near = did_you_mean(next(iter(modalities)), inputs.modalities)
    return DataError(
        f"{inputs.name}: found the modalities {', '.join(inputs.modalities)}; expected "
        f"at least one of those of {wanted_of}, {', '.join(modalities)}.{near} Rename "
        f"the modalities of the recording if they are the same sensors."
    )


def _check_found(
    where: str,
    what: str,
    absent: Sequence[str],
    others: Sequence[str],
    found: Sequence[str],
    why: str = "",
) -> None:
    """Refuse what lacks a name that is needed, all of them at once, with near ones."""
    if absent:
        near = [f"{name}{_nearest(name, others)}" for name in absent]
        raise DataError(
            f"{where}: {what} are missing, or there twice: {', '.join(near)}; found "
            f"{', '.join(found)}.{why} Rename them where they are called otherwise, "
            f"interpolate what was not recorded, or leave out the whole modality."
        )


def _nearest(name: str, others: Sequence[str]) -> str:
    near = did_you_mean(name, others).strip()
    return f" ({near[0].lower()}{near[1:]})" if near else ""


# ------------------------------------------------------------------------ values


def _fitted(
    inputs: Inputs, called: str, wanted: Modality, wanted_of: str
) -> tuple[_Array, list[str], list[str], list[str]]:
    """Return a modality's values as they are wanted; what is interpolated; sentences.

    These are warnings and notes.
    """
    found = inputs.modalities[called]
    where = f"{inputs.name}, modality {called!r}"
    same = _electrode if wanted.kind == "eeg" else spelling
    channels = _places(wanted.channels, found.channels, same)
    features = _places(wanted.features, found.features, spelling)
    absent = _absent(wanted.features, features)
    others = _others(found.features, features)
    _check_found(where, f"features of {wanted_of}", absent, others, found.features)
    absent = _absent(wanted.channels, channels)
    why = _why_not_interpolated(wanted, absent, found, same) if absent else None
    if why is not None:
        others = _others(found.channels, channels)
        what = f"channels of {wanted_of}"
        _check_found(where, what, absent, others, found.channels, why)
    there = [name for name in wanted.channels if name in channels]
    array = _taken(
        inputs.signals[called],
        [channels[name] for name in there],
        [features[name] for name in wanted.features],
    )
    _check_finite(inputs, where, array, there)
    warnings = _told_of_values(where, array, found, wanted, wanted_of)
    if absent:
        array, told = _interpolated(array, wanted.channels, absent)
        warnings.append(f"{where}: {', '.join(absent)} of {wanted_of} {told}")
    notes = [
        *_left_out(where, "channel", found.channels, channels, wanted_of),
        *_left_out(where, "feature", found.features, features, wanted_of),
        *_called_otherwise(where, found.channels, channels),
    ]
    return array, absent, warnings, notes


def _taken(array: _Array, channels: list[int], features: list[int]) -> _Array:
    """Return channels and features by number; as they are where these are all.

    In one order in memory, as that of a sum depends on it.
    """
    everything = (list(range(size)) for size in array.shape[1:])
    if [channels, features] != list(everything):
        return array.take(channels, axis=1).take(features, axis=2)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _check_finite(
    inputs: Inputs, where: str, array: _Array, channels: Sequence[str]
) -> None:
    infinite = np.isinf(array)
    if infinite.any():
        window, channel, _ = np.argwhere(infinite)[0]
        raise DataError(
            f"{where}: channel {channels[channel]!r} is infinite in a window of "
            f"subject {inputs.windows['subject'].iloc[window]}; expected finite "
            f"values, or NaN where the sensor lost the window."
        )


def _told_of_values(
    where: str, array: _Array, found: Modality, wanted: Modality, wanted_of: str
) -> list[str]:
    """Return what may mean that these are other values than they are taken for."""
    told = []
    for what, ours, theirs in (
        ("unit", _plain_unit(found.unit), _plain_unit(wanted.unit)),
        ("kind", spelling(found.kind), spelling(wanted.kind)),
    ):
        if ours and theirs and ours != theirs:
            told.append(
                f"{where}: the {what} is {getattr(found, what)!r}, and that of "
                f"{wanted_of} {getattr(wanted, what)!r}; the values are taken as they "
                f"are. Give both recordings the same measures."
            )
    low, high = np.fmin.reduce(array, axis=0), np.fmax.reduce(array, axis=0)
    several = (~np.isnan(array)).any(axis=(1, 2)).sum() > 1
    if several and ((low == high) | np.isnan(low)).all():
        told.append(
            f"{where}: there are only values that are the same in all windows, such as "
            f"a sensor writes that is off. Write NaN if it was."
        )
    return told


def _plain_unit(unit: str) -> str:
    plain = unicodedata.normalize("NFKC", unit).replace("\u03bc", "u")
    return "".join(plain.split())


def _told_of_lost(
    matched: Inputs, missing: Sequence[str], wanted_of: str, found: Iterable[str]
) -> list[str]:
    """Tell of modalities without a single value; refuse recordings of no other."""
    lost = [name for name, array in matched.signals.items() if np.isnan(array).all()]
    there = [name for name in matched.signals if name not in lost]
    lost += [name for name in missing if name not in lost]
    if not there:
        raise DataError(
            f"{matched.name}: every value of {', '.join(lost)} is missing; expected at "
            f"least one modality of {wanted_of} to be there in some windows."
        )
    if not lost:
        return []
    known = set(map(spelling, matched.signals))
    others = [name for name in found if spelling(name) not in known]
    near = "".join(did_you_mean(name, others) for name in missing)
    return [
        f"{matched.name}: {', '.join(lost)} of {wanted_of} "
        f"{are(len(lost))} missing in all windows (the recording "
        f"has {', '.join(found)}); the predictions rest on {', '.join(there)} alone."
        + near
    ]


# ----------------------------------------------------------------- interpolation


def _why_not_interpolated(
    wanted: Modality,
    absent: Sequence[str],
    found: Modality,
    same: Callable[[str], str],
) -> str | None:
    """Return a sentence, with a blank before it; None where MNE can do it."""
    calls = set(map(same, found.channels))
    twice = any(same(name) in calls for name in absent)
    if wanted.kind != "eeg" or twice:
        return ""
    if len(absent) > _MOST_INTERPOLATED * len(wanted.channels):
        return (
            f" They are not interpolated, as {len(absent)} of {len(wanted.channels)} "
            f"electrodes are more than {_MOST_INTERPOLATED:.0%}."
        )
    places = _standard_places()
    lost = [name for name in absent if canonical_name(name) not in places]
    if lost:
        verb = "has" if len(lost) == 1 else "have"
        return (
            f" They are not interpolated, as {', '.join(lost)} {verb} no position in "
            f"MNE's standard montage."
        )
    number = len(_placed(wanted.channels, absent, places))
    if number < FEWEST_ELECTRODES:
        return (
            f" They are not interpolated, as there are {number} other electrodes with "
            f"a position, and at least {FEWEST_ELECTRODES} are needed."
        )
    return None


@cache
def _standard_places() -> frozenset[str]:
    """Return the electrodes of MNE's standard montage, in capitals."""
    return frozenset(name.upper() for name in standard_montage().ch_names)


def _placed(
    channels: Sequence[str], absent: Sequence[str], places: frozenset[str]
) -> list[str]:
    """Return the electrodes with a position that were recorded."""
    recorded = (name for name in channels if name not in absent)
    return [name for name in recorded if canonical_name(name) in places]


def _interpolated(
    array: _Array, channels: Sequence[str], absent: Sequence[str]
) -> tuple[_Array, str]:
    """Return the values with absent electrodes among them, and how they came there.

    A window's are the same bits wherever it stands among the others, which a product
    of matrices does not promise.
    """
    good = _placed(channels, absent, _standard_places())
    recorded = [name for name in channels if name not in absent]
    shape = len(array), len(channels), array.shape[2]
    kind = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
    result = np.empty(shape, kind)
    result[:, [channels.index(name) for name in recorded]] = array
    for name, weights in zip(absent, _weights(good, absent), strict=True):
        total = np.zeros((shape[0], shape[2]))
        for other, weight in zip(good, weights.tolist(), strict=True):
            total += weight * array[:, recorded.index(other)].astype(np.float64)
        result[:, channels.index(name)] = total
    were = "was" if len(absent) == 1 else "were"
    told = (
        f"{were} not recorded and {were} interpolated from {len(good)} other "
        f"electrodes, each feature by itself over the head, as if it were a potential "
        f"(spherical splines of MNE, standard montage)."
    )
    return result, told


def _weights(good: Sequence[str], absent: Sequence[str]) -> NDArray[np.float64]:
    """Return what MNE takes of each good electrode for each absent one."""
    # Importing MNE takes seconds, which importing this file should not.
    import mne

    names = [canonical_name(name) for name in (*good, *absent)]
    info = mne.create_info(names, sfreq=1.0, ch_types="eeg", verbose="error")
    one_each = mne.EvokedArray(np.eye(len(names), len(good)), info, verbose="error")
    one_each.set_montage(standard_montage(), match_case=False, verbose="error")
    one_each.info["bads"] = names[len(good) :]
    one_each.interpolate_bads(origin=HEAD_CENTRE, verbose="error")
    return np.asarray(one_each.data[len(good) :])
