"""Clips out of MNE: electrodes by name, bad channels, features of windows, columns.

Epochs and raw recordings are made ready and cut here alike. A clip becomes a trial.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, EmotionData, Modality, electrode_name
from ..errors import ConfigurationError, data_error
from ..values import check_value
from .joining import called_alike, check_modalities
from .montage import (
    FEWEST_ELECTRODES,
    HEAD_CENTRE,
    check_electrodes,
    other_sensor,
    standard_montage,
)
from .signals.features import (
    BANDS,
    HEART_MEASURES,
    band_power,
    constant_windows,
    differential_entropy,
    heart_measures,
)
from .signals.physiology import SIGNAL_STATISTICS, signal_statistics
from .table import from_arrays
from .telling import one_to_one, spells

if TYPE_CHECKING:
    import mne

__all__ = [
    "BAD_WINDOWS",
    "UNLABELLED",
    "Bads",
    "Bands",
    "Clip",
    "Cut",
    "Events",
    "Feature",
    "Part",
    "assemble",
    "bands_of",
    "check_number",
    "columns_of",
    "features_of",
    "prepared",
]

Array = NDArray[np.float64]
Bands = Mapping[str, tuple[float, float]] | Sequence[str]
Columns = dict[str, NDArray[np.object_]]

Feature = Literal["de", "psd", "raw"]
"""Differential entropy, logarithm of the power spectral density, or the samples."""

Bads = Literal["interpolate", "nan", "drop"]

_BAND_FEATURES: Mapping[str, tuple[Callable[..., Array], str]] = {
    "de": (differential_entropy, "nat"),
    "psd": (band_power, "ln(uV^2/Hz)"),
}

_UNITS: Mapping[str, tuple[float, str]] = {
    "eeg": (1e6, "uV"),
    "ecg": (1e3, "mV"),
    "eog": (1e6, "uV"),
    "emg": (1e6, "uV"),
    "gsr": (1e6, "uS"),
    "bio": (1e6, "uV"),
    "temperature": (1.0, "degrees Celsius"),
}
"""What MNE's unit of a channel type is multiplied by, and the unit that this gives."""

_HEART_SECONDS = 5.0
_HEART_SPAN = 16.0

_LARGEST = 1e36

_EYES = ("eyegaze", "pupil")

_NO_SIGNALS = ("stim", "misc", "syst", "exci", "ias", "chpi", "dipole", "gof")
"""Channel types that hold triggers, answers or the machine's state."""

BAD_WINDOWS = "windows annotated as bad left out"
UNLABELLED = "clips without a label left out"
"""Notes that stand behind a number, which several files add up."""

_WORDS = {"interpolate": ", interpolated", "nan": "", "drop": ", left out"}


@dataclass(frozen=True)
class Cut:
    """How clips become features of windows; the functions that take them tell each.

    Raises
    ------
    ConfigurationError
        If one of these does not fit.
    """

    feature: Feature
    bands: Mapping[str, tuple[float, float]]
    window: float
    step: float | None
    bads: Bads

    def check(self, name: str) -> None:
        """Refuse what is no feature, and the like; `name` is of the recordings."""
        check_value(f"{name}: feature", self.feature, Feature)
        check_value(f"{name}: bads", self.bads, Bads)
        check_number(f"{name}: window", self.window, "seconds")
        if self.step is not None:
            check_number(f"{name}: step", self.step, "seconds")

    def samples(self, rate: float) -> int:
        """Return the samples in a window."""
        return round(self.window * rate)

    def hop(self, rate: float) -> int:
        """Return the samples from one window to the next."""
        return self.samples(rate) if self.step is None else round(self.step * rate)

    def words(self) -> str:
        """Say it, for the name of recordings."""
        feature = "samples" if self.feature == "raw" else self.feature
        every = "" if self.step in (None, self.window) else f" every {self.step:g} s"
        return f"{feature}, {self.window:g} s windows{every}"


def check_number(where: str, value: Any, expected: str) -> None:
    """Refuse what is no number above 0."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not (number and 0 < value < np.inf):
        raise ConfigurationError(
            f"{where} is {value!r}; expected {expected}, more than 0."
        )


def bands_of(given: Bands, where: str) -> dict[str, tuple[float, float]]:
    """Return the edges of bands, of which the usual ones may be given by name."""
    if isinstance(given, Mapping):
        for name, edges in given.items():
            pair = isinstance(edges, tuple | list | np.ndarray) and len(edges) == 2
            if not pair or not all(isinstance(edge, Real) for edge in edges):
                raise ConfigurationError(
                    f"{where}: the band {name!r} is {edges!r}; expected its lower and "
                    f"its upper edge in Hz, such as (8, 14)."
                )
        return {name: (float(low), float(high)) for name, (low, high) in given.items()}
    names = (given,) if isinstance(given, str) else given
    listed = isinstance(names, tuple | list) and all(isinstance(n, str) for n in names)
    if (
        not listed
        or not names
        or not set(names) <= set(BANDS)
        or len(set(names)) < len(names)
    ):
        raise ConfigurationError(
            f"{where}: found bands={given!r}; expected some of {', '.join(BANDS)}, "
            f"each once."
        )
    return {name: BANDS[name] for name in names}


@dataclass(frozen=True)
class Clip:
    """What becomes one trial.

    Attributes
    ----------
    signals : ndarray of shape (channels, samples)
        In MNE's units.
    start : float
        Seconds from the event to the first sample.
    event : int
        The sample of the event; no window lies on both sides of it.
    bad : ndarray of bool, shape (samples,), optional
        What is annotated as bad; windows that hold any of it are left out.
    """

    signals: Array
    start: float = 0.0
    event: int = 0
    bad: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Events:
    """What MNE says of clips, one entry each.

    Attributes
    ----------
    names : tuple of str
        Of the events, or the descriptions of the annotations.
    numbers : tuple of int
        The clips' places, counted from 1.
    metadata : DataFrame or None
    others : tuple of str
        Descriptions of annotations that mark no clip.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    metadata: pd.DataFrame | None = None
    others: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @staticmethod
    def of_all(events: Sequence[Events]) -> Events:
        """Return those of several objects as one."""
        frames = [each.metadata for each in events]
        told = [frame for frame in frames if frame is not None]
        whole = pd.concat(told, ignore_index=True) if len(told) == len(frames) else None
        return Events(
            tuple(it for each in events for it in each.names),
            tuple(it for each in events for it in each.numbers),
            whole,
            tuple(it for each in events for it in each.others),
        )


@dataclass(frozen=True)
class Part:
    """What was made of one object of MNE.

    Attributes
    ----------
    modalities : mapping of str to Modality
    arrays : list of mapping of str to ndarray of shape (windows, channels, features)
        One mapping per clip.
    starts : list of ndarray of shape (windows,)
        Seconds from the event, by clip.
    events : Events
    rate : float
        In Hz.
    notes, left_out : list of str
        What was done to channels and windows, and which channels hold no signal.
    """

    modalities: Mapping[str, Modality]
    arrays: list[dict[str, NDArray[np.float32]]]
    starts: list[Array]
    events: Events
    rate: float
    notes: list[str]
    left_out: list[str]


# ------------------------------------------------------------------------ channels


def prepared(instance: Any, bads: Bads, name: str) -> tuple[Any, list[str]]:
    """Return epochs or a raw recording with electrodes' names, and without bads.

    The notes say what was done. What the caller has stays as it is.
    """
    notes: list[str] = []
    electrodes = _electrodes(instance, name)
    if electrodes or instance.info["bads"]:
        instance = instance.copy()
    if electrodes:
        instance.rename_channels(electrodes, verbose="error")
        example, electrode = next(iter(electrodes.items()))
        more = f" and {len(electrodes) - 1} more" * (len(electrodes) > 1)
        notes.append(f"{example}{more} called by the electrode, {electrode}")
    marked = list(instance.info["bads"])
    if marked and bads == "drop":
        instance.drop_channels(marked)
    elif marked and bads == "interpolate":
        instance = _interpolated(instance, name)
    mended = set(marked) - set(instance.info["bads"])
    notes += [f"{each} bad{_WORDS[bads] * (each in mended)}" for each in marked]
    return instance, notes


def _electrodes(instance: Any, name: str) -> dict[str, str]:
    """Return the electrode of each EEG channel that is called otherwise."""
    types = instance.get_channel_types()
    channels = [
        channel
        for channel, kind in zip(instance.ch_names, types, strict=True)
        if kind == "eeg"
    ]
    right = {each: kind for each in channels if (kind := other_sensor(each))}
    remedy = f"Set their types first: {_called(instance)}.set_channel_types({right})."
    check_electrodes(name, channels, remedy)
    called = {channel: electrode_name(channel) for channel in channels}
    others = [each for each in instance.ch_names if each not in called]
    twice = [
        channel
        for channel, electrode in called.items()
        if [*called.values(), *others].count(electrode) > 1
    ]
    if twice:
        raise data_error(
            f"{name}, channels of type eeg",
            f"{', '.join(map(repr, twice))}, which are the same electrodes",
            "each electrode once",
            "Drop or rename one of them.",
        )
    return {channel: it for channel, it in called.items() if it != channel}


def _called(instance: Any) -> str:
    """Return what the documentation of MNE calls such an object."""
    return "epochs" if hasattr(instance, "drop_log") else "raw"


def _interpolated(instance: Any, name: str) -> Any:
    """Return the recording with bad electrodes computed from the good ones.

    A type of channel that is bad altogether stays so: its sensor is lost.
    """
    bads = instance.info["bads"]
    types = dict(zip(instance.ch_names, instance.get_channel_types(), strict=True))
    good = [types[channel] for channel in instance.ch_names if channel not in bads]
    alone = [
        channel
        for channel in bads
        if types[channel] != "eeg"
        and types[channel] in good
        and types[channel] not in _NO_SIGNALS
    ]
    electrodes = [channel for channel in bads if types[channel] == "eeg"]
    if electrodes and "eeg" not in good:
        electrodes = []
    placed = _placed(instance) if electrodes else instance
    places = {
        channel["ch_name"]: np.asarray(channel["loc"][:3])
        for channel in placed.info["chs"]
        if types[channel["ch_name"]] == "eeg"
    }
    known = [each for each, it in places.items() if np.isfinite(it).all() and it.any()]
    lost = [each for each in electrodes if each not in known]
    neighbours = [each for each in known if each not in bads]
    if electrodes and (lost or len(neighbours) < FEWEST_ELECTRODES):
        alone = electrodes + alone
    if alone:
        raise data_error(
            f"{name}, bad channels",
            f"{', '.join(map(repr, alone))}, which cannot be interpolated",
            f"electrodes with a position, "
            f"beside at least {FEWEST_ELECTRODES} good ones",
            f"Set a montage ({_called(instance)}.set_montage), or choose bads='drop' "
            f"(join has common=True for it) or bads='nan' (as if the sensor had been "
            f"off).",
        )
    if not electrodes:
        return instance
    _check_neighbours(placed, neighbours, name)
    exclude = [each for each in places if each not in known]
    exclude += [each for each in bads if each not in electrodes]
    return placed.interpolate_bads(
        reset_bads=True, origin=HEAD_CENTRE, exclude=exclude, verbose="error"
    )


def _check_neighbours(placed: Any, neighbours: Sequence[str], name: str) -> None:
    values = placed.get_data(picks=list(neighbours), verbose="error")
    if values.ndim == 2:
        _check_whole(values, neighbours, name)
        return
    for number, each in enumerate(values):
        _check_whole(each, neighbours, f"{name}, epoch {number} (counted from 0)")


def _placed(instance: Any) -> Any:
    """Return it with positions, the standard montage's where it has none."""
    montage = instance.get_montage()
    has = montage is not None and len(montage.get_positions()["ch_pos"]) > 0
    if has:
        return instance
    return instance.set_montage(
        standard_montage(), match_case=False, on_missing="ignore", verbose="error"
    )


# ------------------------------------------------------------------------- features


def features_of(
    instance: mne.BaseEpochs | mne.io.BaseRaw,
    clips: Sequence[Clip],
    events: Events,
    cut: Cut,
    notes: Sequence[str],
    name: str,
) -> Part:
    """Return the features of clips.

    Parameters
    ----------
    instance : mne.BaseEpochs or mne.io.BaseRaw
        Which describes the clips' channels, as `prepared` returned it.
    clips : sequence of Clip
    events : Events
    cut : Cut
    notes : sequence of str
        What is to stand in the recordings' name.
    name : str
        What messages call it all.

    Raises
    ------
    ConfigurationError
        If bands and windows do not fit the sampling rate.
    DataError
        If a clip is shorter than a window, or holds what it should not.
    """
    rate = float(instance.info["sfreq"])
    channels = _channels(instance, name)
    word = "epoch" if _called(instance) == "epochs" else "clip"
    for clip in clips:
        _check_length(clip, rate, channels, cut, name, f"{word}s")
    kept = [_kept(clip, rate, cut) for clip in clips]
    arrays: list[dict[str, NDArray[np.float32]]] = [{} for _ in clips]
    modalities = {}
    for kind, names in channels.items():
        # By number: a channel may be called what MNE calls a type.
        numbers = [instance.ch_names.index(channel) for channel in names]
        bad = np.isin(names, instance.info["bads"])
        extract, described = _extractor(kind, names, cut, rate)
        modalities[kind] = described
        for number, clip in enumerate(clips):
            signals = clip.signals[numbers] * _UNITS.get(kind, (1.0, ""))[0]
            signals[bad] = 0.0
            if kind not in _EYES:
                where = f"{name}, {word} {number} (counted from 0)"
                _check_whole(signals, names, where)
            values = extract(signals)[kept[number]]
            _check_size(values, names, f"{name}, {word} {number} (counted from 0)")
            values[:, bad] = np.nan
            arrays[number][kind] = values.astype(np.float32)
    lost = sum(int((~_windows_kept(clip, rate, cut)).sum()) for clip in clips)
    told = [f"{lost} {BAD_WINDOWS}"] if lost else []
    starts: list[Array] = [
        np.asarray(clip.start + cut.hop(rate) / rate * np.flatnonzero(rows))
        for clip, rows in zip(clips, kept, strict=True)
    ]
    left_out = _left_out(instance)
    return Part(modalities, arrays, starts, events, rate, [*notes, *told], left_out)


def _channels(instance: Any, name: str) -> dict[str, tuple[str, ...]]:
    """Return the channels of each type that holds signals, EEG first."""
    kinds = instance.get_channel_types()
    held = sorted(set(kinds) - set(_NO_SIGNALS), key=lambda kind: (kind != "eeg", kind))
    if not held:
        raise data_error(
            f"{name}, channel types",
            ", ".join(sorted(set(kinds))),
            "channels of signals, such as eeg or ecg",
            f"Set them with {_called(instance)}.set_channel_types.",
        )
    return {
        kind: tuple(
            channel
            for channel, its_kind in zip(instance.ch_names, kinds, strict=True)
            if its_kind == kind
        )
        for kind in held
    }


def _extractor(
    kind: str, names: tuple[str, ...], cut: Cut, rate: float
) -> tuple[Callable[[Array], Array], Modality]:
    """Return what makes windows of a type of channel, and what they then are."""
    unit = _UNITS.get(kind, (1.0, ""))[1]
    described = "eeg" if kind == "eeg" else "physiology"
    described = "eye" if kind in _EYES else described
    window, step = cut.window, cut.step
    span = cut.samples(rate) / rate
    if cut.feature == "raw":
        features = tuple(
            f"{1e3 * it / rate:.10g} ms" for it in range(cut.samples(rate))
        )
        return partial(_samples_of, rate=rate, cut=cut), Modality(
            names, features, described, unit, span
        )
    if kind == "eeg":
        function, unit = _BAND_FEATURES[cut.feature]
        features = tuple(cut.bands)
        extract = partial(
            function, sampling_rate=rate, bands=cut.bands, window=window, step=step
        )
    elif kind == "ecg":
        features, unit = HEART_MEASURES, "bpm, ms, ms, ln(mV)"
        extract = partial(_hearts, rate=rate, cut=cut)
        span = max(span, _HEART_SPAN)
    else:
        features = SIGNAL_STATISTICS
        extract = partial(
            signal_statistics, sampling_rate=rate, window=window, step=step
        )
    return extract, Modality(names, features, described, unit, span)


def _samples_of(signals: Array, rate: float, cut: Cut) -> Array:
    """Return windows of samples; NaN where a channel held one value throughout."""
    samples, hop = cut.samples(rate), cut.hop(rate)
    every = np.lib.stride_tricks.sliding_window_view(signals, samples, axis=1)
    windows: Array = every[:, ::hop].swapaxes(0, 1).copy()
    windows[constant_windows(signals, samples, hop)] = np.nan
    return windows


def _hearts(signals: Array, rate: float, cut: Cut) -> Array:
    """Return the heart's measures of each ECG channel."""
    around = max(_HEART_SPAN, cut.window)
    found = [
        heart_measures(ecg, rate, cut.window, neighbourhood=around, step=cut.step)
        for ecg in signals
    ]
    return np.stack(found, axis=1)


def _begins(clip: Clip, rate: float, cut: Cut) -> NDArray[np.int64]:
    """Return the first sample of every window that fits into a clip."""
    last = clip.signals.shape[1] - cut.samples(rate)
    return np.arange(0, last + 1, cut.hop(rate))


def _windows_kept(clip: Clip, rate: float, cut: Cut) -> NDArray[np.bool_]:
    """Return which windows hold nothing that is annotated as bad."""
    begins = _begins(clip, rate, cut)
    if clip.bad is None:
        return np.ones(len(begins), dtype=bool)
    so_far = np.concatenate([[0], np.cumsum(clip.bad)])
    held: NDArray[np.bool_] = so_far[begins + cut.samples(rate)] == so_far[begins]
    return held


def _kept(clip: Clip, rate: float, cut: Cut) -> NDArray[np.bool_]:
    """Return which windows are kept: sound ones, on one side of the event."""
    begins = _begins(clip, rate, cut)
    across = (begins < clip.event) & (begins + cut.samples(rate) > clip.event)
    return _windows_kept(clip, rate, cut) & ~across


def _check_length(
    clip: Clip,
    rate: float,
    channels: Mapping[str, Any],
    cut: Cut,
    name: str,
    words: str,
) -> None:
    length = clip.signals.shape[1]
    samples, hop = cut.samples(rate), cut.hop(rate)
    if samples < 2 or hop < 1:
        seconds, least = (cut.window, 2) if samples < 2 else (cut.step, 1)
        what = "window" if samples < 2 else "step"
        raise ConfigurationError(
            f"{name}: a {what} of {seconds:g} s holds {min(samples, hop)} samples at "
            f"{rate:g} Hz; expected at least {least}. Choose a longer {what}."
        )
    found = f"{words} of {length / rate:g} s"
    if samples > length:
        raise data_error(
            name,
            found,
            f"at least one window of {cut.window:g} s in each",
            f"Choose a shorter window, or cut longer {words}.",
        )
    if cut.feature != "raw" and "ecg" in channels and length < _HEART_SECONDS * rate:
        raise data_error(
            f"{name}, ECG",
            found,
            f"at least {_HEART_SECONDS:g} s, to hold enough heart beats for a rhythm",
            f"Cut longer {words}, or drop the ECG's channels.",
        )


def _check_whole(signals: Array, channels: Sequence[str], where: str) -> None:
    broken = np.flatnonzero(~np.isfinite(signals).all(axis=1))
    if len(broken):
        raise data_error(
            f"{where}, channel {channels[broken[0]]!r}",
            "NaN or infinity",
            "finite values, as filters spread a gap over the whole of it",
            "Drop it, or interpolate the channel.",
        )


def _check_size(values: Array, channels: Sequence[str], where: str) -> None:
    """Refuse what float32 does not hold, or what overflows when it is normalised."""
    large = np.flatnonzero((np.abs(values) > _LARGEST).any(axis=(0, 2)))
    if len(large):
        raise data_error(
            f"{where}, channel {channels[large[0]]!r}",
            f"values beyond {_LARGEST:g}",
            "a measurement, in the units of MNE",
            "Look at the recording: the file may be damaged.",
        )


def _left_out(instance: Any) -> list[str]:
    return [
        f"{channel} left out"
        for channel, kind in zip(
            instance.ch_names, instance.get_channel_types(), strict=True
        )
        if kind in _NO_SIGNALS
    ]


# ------------------------------------------------------------------------- columns


def columns_of(
    events: Events, given: Mapping[str, Any], by_events: bool, what: str, name: str
) -> tuple[Columns, list[str]]:
    """Return labels and provenance by clip, and a note of the stimuli.

    The events' names are the label, where that is not given, and may tell it else; so
    they stand for stimuli only where they do not.

    Parameters
    ----------
    events : Events
    given : mapping of str to value
        ``label``, ``subject``, ``session``, ``trial`` and ``stimulus``: one value, one
        per clip, or the name of a column of the metadata. None where it is not given.
    by_events : bool
        Whether the labels are the events' names.
    what : str
        What messages call a clip.
    name : str
    """
    for key in ("subject", "session"):
        if given[key] is None:
            raise data_error(
                f"{name}, {key}", "None", f"one, or one per {what}", "Name it."
            )
    columns = {
        key: _per_clip(key, value, events, what, name)
        for key, value in given.items()
        if value is not None
    }
    table = pd.DataFrame({key: columns[key].astype(str) for key in TRIAL})
    twice = table.duplicated().to_numpy()
    if twice.any():
        clip = int(twice.argmax())
        raise data_error(
            f"{name}, trial, {what} {clip} (counted from 0)",
            f"a second {', '.join(f'{key} {columns[key][clip]!r}' for key in TRIAL)}",
            f"a trial of its own for each {what} of a session",
            f"Leave trial out to have the {what}s numbered.",
        )
    notes: list[str] = []
    if "stimulus" not in columns:
        columns["stimulus"], notes = _stimuli(events, columns, by_events)
    return columns, notes


def _per_clip(
    key: str, given: Any, events: Events, what: str, name: str
) -> NDArray[np.object_]:
    """Return one value per clip."""
    columns = [] if events.metadata is None else list(events.metadata.columns)
    where = f"{name}, {key}"
    if isinstance(given, str):
        # A label must be a column; a subject may have a name that is none.
        cutoff = 0.5 if key == "label" else 0.8
        near = difflib.get_close_matches(given, columns, n=1, cutoff=cutoff)
        if given in columns:
            where = f"{name}, metadata column {given!r}"
            given = events.metadata[given]  # type: ignore[index]
        elif key == "label" or near:
            raise data_error(
                where,
                repr(given),
                f"a metadata column ({', '.join(columns) or 'there is none'})",
                f"Did you mean {near[0]!r}?" if near else f"Give one label per {what}.",
            )
    values = np.array(
        given.tolist() if hasattr(given, "tolist") else given, dtype=object
    )
    if values.ndim == 0 and key != "label":
        values = np.full(len(events), values[()], dtype=object)
    if values.shape != (len(events),):
        raise data_error(
            where,
            f"values of shape {values.shape}",
            f"one per {what}, shape ({len(events)},)",
            "Bad epochs are dropped first: give one for each that is left."
            if what == "epoch"
            else "Give one for each that is a clip, in the order of the recordings.",
        )
    missing = np.flatnonzero(pd.isna(values))
    if len(missing):
        raise data_error(
            f"{where}, {what} {missing[0]} (counted from 0)",
            repr(values[missing[0]]),
            "a whole number or a non-empty string",
            f"Fill it in, or drop the {what}.",
        )
    return values


def _stimuli(
    events: Events, columns: Mapping[str, NDArray[np.object_]], by_events: bool
) -> tuple[NDArray[np.object_], list[str]]:
    """Return what stands for the stimuli that were not given, and a note of it."""
    names, labels = list(events.names), columns["label"].tolist()
    if by_events or one_to_one(names, labels):
        note = "stimuli numbered as the trials, as the events name the classes"
        return columns["trial"], [note]
    if spells(names, labels):
        note = "stimuli numbered by the events' names, which hold the classes"
        return np.array([_number_of(each) for each in names], dtype=object), [note]
    return np.array(names, dtype=object), []


def _number_of(name: str) -> int:
    """Return a number that is the same for a name in whatever file it stands.

    Codes of events are not: MNE counts the annotations of each file by itself.
    """
    return int(sha256(name.encode()).hexdigest(), 16) % 10**12


# --------------------------------------------------------------------- recordings


def assemble(
    parts: Sequence[Part],
    columns: Mapping[str, NDArray[np.object_]],
    notes: Sequence[str],
    cut: Cut,
    classes: Sequence[str] | None,
    name: str,
) -> EmotionData:
    """Return parts as recordings.

    Parameters
    ----------
    parts : sequence of Part
        With the same modalities; an electrode may be called otherwise, as FP1 is Fp1.
    columns : mapping of str to ndarray of shape (clips,)
        As `columns_of` returned it.
    notes : sequence of str
        What is to stand in the name beside the parts' own.
    cut : Cut
    classes : sequence of str or None
    name : str

    Raises
    ------
    DataError
        If the parts differ in what they hold, or no window is left.
    """
    modalities = _common(parts, cut, name)
    clips = [array for part in parts for array in part.arrays]
    starts = [each for part in parts for each in part.starts]
    counts = [len(each) for each in starts]
    if not sum(counts):
        raise data_error(
            name,
            "no window that is not annotated as bad",
            "some",
            "Look at what is annotated as BAD.",
        )
    repeated = {key: np.repeat(values, counts) for key, values in columns.items()}
    own = _summed([note for part in parts for note in part.notes])
    left_out = [note for part in parts for note in part.left_out]
    told = dict.fromkeys([cut.words(), *own, *notes, *left_out])
    return from_arrays(
        {key: np.concatenate([clip[key] for clip in clips]) for key in modalities},
        repeated["label"],
        subject=repeated["subject"],
        session=repeated["session"],
        trial=repeated["trial"],
        stimulus=repeated["stimulus"],
        start=np.concatenate(starts),
        classes=classes,
        modalities=modalities,
        name=f"{name} ({'; '.join(told)})",
    )


def _common(parts: Sequence[Part], cut: Cut, name: str) -> dict[str, Modality]:
    """Return the modalities that all parts have."""
    first = parts[0]
    for number, part in enumerate(parts[1:], 1):
        where = f"{name}, number {number} (counted from 0)"
        if cut.feature == "raw" and part.rate != first.rate:
            raise data_error(
                where,
                f"samples at {part.rate:g} Hz",
                f"{first.rate:g} Hz, as the first has",
                "Resample to one rate: raw.resample or epochs.resample, or resample= "
                "of from_raw.",
            )
        alike = called_alike(first.modalities, part.modalities)
        # Windows may differ by a rounding, where rates differ.
        check_modalities(first.modalities, alike, where)
    spans = {
        key: max(part.modalities[key].span or 0 for part in parts)
        for key in first.modalities
    }
    return {
        key: replace(modality, span=spans[key])
        for key, modality in first.modalities.items()
    }


def _summed(notes: Sequence[str]) -> list[str]:
    """Return notes once each, those that count what was left out as their sum."""
    others, totals = dict.fromkeys(notes), Counter[str]()
    for note in notes:
        number, _, words = note.partition(" ")
        if words in (BAD_WINDOWS, UNLABELLED):
            totals[words] += int(number)
            others.pop(note, None)
    return [*others, *(f"{total} {words}" for words, total in totals.items())]
