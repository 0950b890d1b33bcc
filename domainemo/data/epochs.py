"""Recordings out of MNE: each epoch becomes a trial of windows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..core import EmotionData, Modality, electrode_name
from ..errors import data_error
from ..values import check_value
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
    differential_entropy,
    heart_measures,
)
from .signals.physiology import SIGNAL_STATISTICS, signal_statistics
from .table import from_arrays
from .telling import one_to_one, spells

if TYPE_CHECKING:
    import mne

__all__ = ["from_epochs"]

Array = NDArray[np.float64]
Bands = Mapping[str, tuple[float, float]]

_FEATURES: Mapping[str, tuple[Callable[[Array, float, Bands, float], Array], str]] = {
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

_EYES = ("eyegaze", "pupil")

_NO_SIGNALS = ("stim", "misc", "syst", "exci", "ias", "chpi", "dipole", "gof")
"""Channel types that hold triggers, answers or the machine's state."""


Feature = Literal["de", "psd"]
Bads = Literal["interpolate", "nan", "drop"]


def from_epochs(
    epochs: mne.BaseEpochs,
    labels: ArrayLike | str | None = None,
    *,
    subject: ArrayLike,
    session: ArrayLike = 1,
    trial: ArrayLike | None = None,
    stimulus: ArrayLike | None = None,
    feature: Feature = "de",
    bands: Bands = BANDS,
    window: float = 4.0,
    before_event: bool = False,
    bads: Bads = "interpolate",
    classes: Sequence[str] | None = None,
    name: str = "own epochs",
) -> EmotionData:
    """Make recordings out of MNE's epochs.

    Each epoch is a trial, cut into windows that follow one another from its event on.
    EEG channels become the modality ``eeg``, with the `feature` of each band. ECG
    channels become ``ecg``, with the measures of the heart. Every other type of channel
    becomes a modality of the type's name, with mean, deviation and slope per window.
    Channels that hold no signal (stim, misc and the machine's own) are left out, as
    they may give the label away.

    EEG channels are called by the electrode that their name holds: ``EEG Fp1-REF`` is
    ``Fp1``. Nothing is filtered or referenced beforehand: do that in MNE. Each epoch is
    filtered by itself, so the slowest bands of epochs of a few seconds suffer from the
    ends; ``"psd"`` suffers less.

    Parameters
    ----------
    epochs : mne.Epochs or mne.EpochsArray
        At least one window long each.
    labels : array of int or str, shape (epochs,), or str, optional
        One per epoch, or the name of a metadata column. The names of the epochs' events
        where it is not given.
    subject, session : int, str, array of shape (epochs,)
        One value, one per epoch, or the name of a metadata column.
    trial : int, str, array of shape (epochs,), optional
        Given as `subject` is, one of its own for each epoch of a subject's session.
        The place in ``epochs.selection``, counted from 1, where it is not given. Give
        it, or join with ``number_trials=True``, where a sitting is in several objects,
        as with clips of different length.
    stimulus : int, str, array of shape (epochs,), optional
        What was shown, given as `subject` is; leaving stimuli out needs to know it.
        The names of the epochs' events where it is not given; but the trial's number
        where these are the labels, and the events' numbers where these hold the
        labels' names, because the stimulus is shown where the label must not be. The
        name says so.
    feature : str
        ``"de"``, differential entropy, or ``"psd"``, logarithm of the mean power
        spectral density.
    bands : mapping of str to (float, float)
        Band edges in Hz.
    window : float
        Length of a window in seconds.
    before_event : bool
        Keep the windows that end by the event, such as a baseline's, with the event's
        label. They are left out by default. No window lies on both sides.
    bads : {"interpolate", "nan", "drop"}
        What becomes of channels that are marked as bad. Electrodes are interpolated
        from the others, by their own positions or, where they have none, those of the
        standard montage. ``"nan"`` is as if their sensors had been off, which training
        refuses as long as others of the modality are there. ``"drop"`` leaves them out,
        for which `join` has ``common=True``. The name says which they were.
    classes : sequence of str, optional
        Class names, as for :func:`domainemo.from_arrays`. Give them wherever recordings
        are to be joined.
    name : str
        What the recordings are; printed beside every number made from them.

    Returns
    -------
    EmotionData
        ``start`` is in seconds from the event, as the epochs' own times are.

    Raises
    ------
    ConfigurationError
        If the feature is unknown, or bands and window do not fit the sampling rate.
    DataError
        If these are no epochs, they are shorter than a window, hold NaN, or labels and
        the like do not fit them; if other sensors are typed as EEG; or if a bad channel
        cannot be interpolated.

    See Also
    --------
    domainemo.join : Puts several recordings together.

    Examples
    --------
    >>> parts = [from_epochs(mne.read_epochs(f"{s}-epo.fif"), "emotion", subject=s,
    ...                      stimulus="clip", classes=["calm", "tense"])
    ...          for s in subjects]
    >>> data = join(*parts)
    """
    check_value(f"{name}: feature", feature, Feature)
    check_value(f"{name}: bads", bads, Bads)
    epochs, notes = _prepared(_loaded(epochs, name), window, before_event, bads, name)
    _check_length(epochs, window, name)
    columns = _columns(
        epochs,
        {
            "label": _event_names(epochs) if labels is None else labels,
            "subject": subject,
            "session": session,
            "trial": np.asarray(epochs.selection) + 1 if trial is None else trial,
            "stimulus": stimulus,
        },
        name,
    )
    if stimulus is None:
        columns["stimulus"], note = _stimuli(epochs, columns, labels is None)
        notes += note
    parts = _modalities(epochs, feature, bands, window, name)
    trials, windows = next(iter(parts.values()))[0].shape[:2]
    step = round(window * epochs.info["sfreq"]) / epochs.info["sfreq"]
    repeated = {key: np.repeat(values, windows) for key, values in columns.items()}
    notes = [f"{feature}, {window:g} s windows", *notes, *_left_out(epochs)]
    return from_arrays(
        {key: array.reshape(-1, *array.shape[2:]) for key, (array, _) in parts.items()},
        repeated.pop("label"),
        subject=repeated["subject"],
        session=repeated["session"],
        trial=repeated["trial"],
        stimulus=repeated["stimulus"],
        start=np.tile(epochs.tmin + step * np.arange(windows), trials),
        classes=classes,
        modalities={key: modality for key, (_, modality) in parts.items()},
        name=f"{name} ({'; '.join(notes)})",
    )


# ----------------------------------------------------------------------- preparation


def _prepared(
    epochs: mne.BaseEpochs, window: float, before_event: bool, bads: Bads, name: str
) -> tuple[mne.BaseEpochs, list[str]]:
    """Return the epochs with electrodes' names, from the event on, without bads.

    The notes say what was done. The caller's epochs stay as they are.
    """
    notes: list[str] = []
    electrodes = _electrodes(epochs, name)
    first = _first_sample(epochs, window, before_event, name)
    if electrodes or first or epochs.info["bads"]:
        epochs = epochs.copy()
    if electrodes:
        epochs.rename_channels(electrodes, verbose="error")
        example, electrode = next(iter(electrodes.items()))
        more = f" and {len(electrodes) - 1} more" * (len(electrodes) > 1)
        notes.append(f"{example}{more} called by the electrode, {electrode}")
    if first:
        rate = epochs.info["sfreq"]
        notes.append(f"{first / rate:g} s before the event left out")
        epochs.crop(tmin=epochs.times[first], tmax=None, verbose="error")
    marked = list(epochs.info["bads"])
    if marked and bads == "drop":
        epochs.drop_channels(marked)
    elif marked and bads == "interpolate":
        epochs = _interpolated(epochs, name)
    mended = set(marked) - set(epochs.info["bads"])
    notes += [f"{each} bad{_WORDS[bads] * (each in mended)}" for each in marked]
    return epochs, notes


_WORDS = {"interpolate": ", interpolated", "nan": "", "drop": ", left out"}


def _electrodes(epochs: mne.BaseEpochs, name: str) -> dict[str, str]:
    """Return the electrode of each EEG channel that is called otherwise."""
    types = epochs.get_channel_types()
    channels = [
        channel
        for channel, kind in zip(epochs.ch_names, types, strict=True)
        if kind == "eeg"
    ]
    right = {each: kind for each in channels if (kind := other_sensor(each))}
    remedy = f"Set their types first: epochs.set_channel_types({right})."
    check_electrodes(name, channels, remedy)
    called = {channel: electrode_name(channel) for channel in channels}
    others = [each for each in epochs.ch_names if each not in called]
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


def _first_sample(
    epochs: mne.BaseEpochs, window: float, before_event: bool, name: str
) -> int:
    """Return where the first window begins: at the event, or whole windows before."""
    times = epochs.times
    zero = int(np.searchsorted(times, -0.5 / epochs.info["sfreq"]))
    if before_event:
        return zero % max(round(window * float(epochs.info["sfreq"])), 1)
    if zero == len(times):
        raise data_error(
            name,
            f"epochs from {times[0]:g} to {times[-1]:g} s, all of it before the event",
            "something after it",
            "Cut the epochs around what was shown, or keep what lies before with "
            "before_event=True.",
        )
    return zero


def _interpolated(epochs: mne.BaseEpochs, name: str) -> mne.BaseEpochs:
    """Return the epochs with bad electrodes computed from the good ones.

    A type of channel that is bad altogether stays so: its sensor is lost.
    """
    bads = epochs.info["bads"]
    types = dict(zip(epochs.ch_names, epochs.get_channel_types(), strict=True))
    good = [types[channel] for channel in epochs.ch_names if channel not in bads]
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
    placed = _placed(epochs, types) if electrodes else epochs
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
            "Set a montage (epochs.set_montage), or choose bads='drop' (join has "
            "common=True for it) or bads='nan' (as if the sensor had been off).",
        )
    if not electrodes:
        return epochs
    _check_whole(placed.get_data(picks=neighbours, verbose="error"), neighbours, name)
    exclude = [each for each in places if each not in known]
    exclude += [each for each in bads if each not in electrodes]
    return placed.interpolate_bads(
        reset_bads=True, origin=HEAD_CENTRE, exclude=exclude, verbose="error"
    )


def _placed(epochs: mne.BaseEpochs, types: Mapping[str, str]) -> mne.BaseEpochs:
    """Return the epochs with positions, the standard montage's where they have none."""
    montage = epochs.get_montage()
    has = montage is not None and len(montage.get_positions()["ch_pos"]) > 0
    if has:
        return epochs
    return epochs.set_montage(
        standard_montage(), match_case=False, on_missing="ignore", verbose="error"
    )


# ------------------------------------------------------------------------- signals


def _modalities(
    epochs: mne.BaseEpochs, feature: Feature, bands: Bands, window: float, name: str
) -> dict[str, tuple[Array, Modality]]:
    """Return each modality's (epochs, windows, channels, features) and description."""
    parts = {}
    for kind, channels in _channels(epochs, name).items():
        scale, unit = _UNITS.get(kind, (1.0, ""))
        # By number: a channel may be called what MNE calls a type.
        numbers = [epochs.ch_names.index(channel) for channel in channels]
        signals = epochs.get_data(copy=False, verbose="error")[:, numbers] * scale
        rate = float(epochs.info["sfreq"])
        bad = np.isin(channels, epochs.info["bads"])
        signals[:, bad] = 0.0
        if kind not in _EYES:
            _check_whole(signals, channels, name)
        if kind == "eeg":
            extract, unit = _FEATURES[feature]
            values = [extract(epoch, rate, bands, window) for epoch in signals]
            features = tuple(bands)
        elif kind == "ecg":
            values = [_hearts(epoch, rate, window) for epoch in signals]
            features, unit = HEART_MEASURES, "bpm, ms, ms, ln(mV)"
        else:
            values = [signal_statistics(epoch, rate, window) for epoch in signals]
            features = SIGNAL_STATISTICS
        array = np.stack(values)
        array[:, :, bad] = np.nan
        described = "eeg" if kind == "eeg" else "physiology"
        described = "eye" if kind in _EYES else described
        parts[kind] = (array, Modality(channels, features, described, unit))
    return parts


def _channels(epochs: mne.BaseEpochs, name: str) -> dict[str, tuple[str, ...]]:
    """Return the channels of each type that holds signals, EEG first."""
    kinds = epochs.get_channel_types()
    held = sorted(set(kinds) - set(_NO_SIGNALS), key=lambda kind: (kind != "eeg", kind))
    if not held:
        raise data_error(
            f"{name}, channel types",
            ", ".join(sorted(set(kinds))),
            "channels of signals, such as eeg or ecg",
            "Set them with epochs.set_channel_types.",
        )
    return {
        kind: tuple(
            channel
            for channel, its_kind in zip(epochs.ch_names, kinds, strict=True)
            if its_kind == kind
        )
        for kind in held
    }


def _hearts(epoch: Array, rate: float, window: float) -> Array:
    """Return the heart's measures of each ECG channel."""
    return np.stack([heart_measures(ecg, rate, window) for ecg in epoch], axis=1)


def _check_whole(signals: Array, channels: Sequence[str], name: str) -> None:
    broken = np.argwhere(~np.isfinite(signals).all(axis=2))
    if len(broken):
        epoch, channel = broken[0]
        raise data_error(
            f"{name}, epoch {epoch} (counted from 0), channel {channels[channel]!r}",
            "NaN or infinity",
            "finite values, as filters spread a gap over the whole epoch",
            "Drop the epoch, or interpolate the channel.",
        )


# ------------------------------------------------------------------------- columns


def _loaded(epochs: Any, name: str) -> mne.BaseEpochs:
    """Return the epochs in memory, the bad ones dropped; the caller's stay as is."""
    # Importing MNE takes seconds, which importing this file should not.
    import mne

    if not isinstance(epochs, mne.BaseEpochs):
        raise data_error(
            name,
            f"a {type(epochs).__name__}",
            "mne.Epochs or mne.EpochsArray",
            "Cut a continuous recording with mne.Epochs first.",
        )
    if not epochs.preload:
        # Only once they are loaded is it known which epochs are bad.
        with mne.utils.use_log_level("error"):
            epochs = epochs.copy().load_data()
    if len(epochs) == 0:
        raise data_error(
            name, "no epochs", "at least one", "See epochs.drop_log for the reasons."
        )
    return epochs


def _check_length(epochs: mne.BaseEpochs, window: float, name: str) -> None:
    rate = epochs.info["sfreq"]
    found = f"epochs of {len(epochs.times) / rate:g} s"
    if round(window * rate) > len(epochs.times):
        raise data_error(
            name,
            found,
            f"at least one window of {window:g} s in each",
            "Choose a shorter window, or cut longer epochs.",
        )
    if (
        "ecg" in epochs.get_channel_types()
        and len(epochs.times) < _HEART_SECONDS * rate
    ):
        raise data_error(
            f"{name}, ECG",
            found,
            f"at least {_HEART_SECONDS:g} s, to hold enough heart beats for a rhythm",
            "Cut longer epochs, or drop the ECG's channels.",
        )


def _event_names(epochs: mne.BaseEpochs) -> list[str]:
    names = {number: name for name, number in epochs.event_id.items()}
    return [names[number] for number in epochs.events[:, 2].tolist()]


def _per_epoch(
    key: str, given: Any, epochs: mne.BaseEpochs, name: str
) -> NDArray[np.object_]:
    """Return one value per epoch."""
    columns = [] if epochs.metadata is None else list(epochs.metadata.columns)
    where = f"{name}, {key}"
    if isinstance(given, str):
        # A label must be a column; a subject may have a name that is none.
        cutoff = 0.5 if key == "label" else 0.8
        near = difflib.get_close_matches(given, columns, n=1, cutoff=cutoff)
        if given in columns:
            where, given = f"{name}, metadata column {given!r}", epochs.metadata[given]
        elif key == "label" or near:
            raise data_error(
                where,
                repr(given),
                f"a metadata column ({', '.join(columns) or 'there is none'})",
                f"Did you mean {near[0]!r}?" if near else "Give one label per epoch.",
            )
    values = np.array(
        given.tolist() if hasattr(given, "tolist") else given, dtype=object
    )
    if values.ndim == 0 and key != "label":
        values = np.full(len(epochs), values[()], dtype=object)
    if values.shape != (len(epochs),):
        raise data_error(
            where,
            f"values of shape {values.shape}",
            f"one per epoch, shape ({len(epochs)},)",
            "Bad epochs are dropped first: give one for each that is left.",
        )
    missing = np.flatnonzero(pd.isna(values))
    if len(missing):
        raise data_error(
            f"{where}, epoch {missing[0]} (counted from 0)",
            repr(values[missing[0]]),
            "a whole number or a non-empty string",
            "Fill it in, or drop the epoch.",
        )
    return values


def _columns(
    epochs: mne.BaseEpochs, given: Mapping[str, Any], name: str
) -> dict[str, NDArray[np.object_]]:
    """Return the values per epoch of what was given; trials differ within a session."""
    columns = {
        key: _per_epoch(key, value, epochs, name)
        for key, value in given.items()
        if value is not None
    }
    place = ("subject", "session", "trial")
    table = pd.DataFrame({key: columns[key].astype(str) for key in place})
    twice = table.duplicated().to_numpy()
    if twice.any():
        epoch = int(twice.argmax())
        raise data_error(
            f"{name}, trial, epoch {epoch} (counted from 0)",
            f"a second {', '.join(f'{key} {columns[key][epoch]!r}' for key in place)}",
            "a trial of its own for each epoch of a session",
            "Leave trial out to have the epochs numbered.",
        )
    return columns


def _stimuli(
    epochs: mne.BaseEpochs, columns: Mapping[str, NDArray[np.object_]], by_events: bool
) -> tuple[NDArray[np.object_], list[str]]:
    """Return what stands for the stimuli that were not given, and a note of it.

    The events' names are the label, where that is not given, and may tell it else.
    """
    names, labels = _event_names(epochs), columns["label"].tolist()
    if by_events or one_to_one(names, labels):
        note = "stimuli numbered as the trials, as the events name the classes"
        return columns["trial"], [note]
    if spells(names, labels):
        note = "stimuli numbered as the events, as their names hold the classes"
        return np.array(epochs.events[:, 2].tolist(), dtype=object), [note]
    return np.array(names, dtype=object), []


def _left_out(epochs: mne.BaseEpochs) -> list[str]:
    return [
        f"{channel} left out"
        for channel, kind in zip(
            epochs.ch_names, epochs.get_channel_types(), strict=True
        )
        if kind in _NO_SIGNALS
    ]
