"""Recordings out of MNE: each epoch becomes a trial of windows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..core import PROVENANCE, EmotionData, Inputs, Modality
from ..errors import ConfigurationError, data_error
from .given import expect_labelled
from .signals.features import (
    BANDS,
    HEART_MEASURES,
    band_power,
    differential_entropy,
    heart_measures,
)
from .signals.physiology import SIGNAL_STATISTICS, signal_statistics
from .table import from_arrays

if TYPE_CHECKING:
    import mne

__all__ = ["from_epochs", "join"]

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


def from_epochs(
    epochs: mne.BaseEpochs,
    labels: ArrayLike | str | None = None,
    *,
    subject: ArrayLike,
    session: ArrayLike = 1,
    stimulus: ArrayLike | None = None,
    feature: str = "de",
    bands: Bands = BANDS,
    window: float = 4.0,
    classes: Sequence[str] | None = None,
    name: str = "own epochs",
) -> EmotionData:
    """Make recordings out of MNE's epochs.

    Each epoch is a trial, numbered as in ``epochs.selection`` but from 1, and cut into
    windows that follow one another from the epoch's first sample on. EEG channels
    become the modality ``eeg``, with the `feature` of each band. ECG channels become
    ``ecg``, with the measures of the heart. Every other type of channel becomes a
    modality of the type's name, with mean, deviation and slope per window. Channels
    that hold no signal (stim, misc and the machine's own) are left out, as they may
    give the label away.

    Channels marked as bad are NaN throughout, as if their sensors were off, so that
    recordings keep the same channels; the name says which. Nothing is filtered or
    referenced beforehand: do that in MNE. Each epoch is filtered by itself, so the
    slowest bands of epochs of a few seconds suffer from the ends; ``"psd"`` suffers
    less.

    Parameters
    ----------
    epochs : mne.Epochs or mne.EpochsArray
        At least one window long each.
    labels : array of int or str, shape (epochs,), or str, optional
        One per epoch, or the name of a metadata column. The names of the epochs' events
        where it is not given.
    subject, session : int, str, array of shape (epochs,)
        One value, one per epoch, or the name of a metadata column.
    stimulus : int, str, array of shape (epochs,), optional
        What was shown, given as `subject` is. The names of the epochs' events where it
        is not given: if those name the emotion and not the clip, give it, because
        leaving stimuli out needs to know them.
    feature : str
        ``"de"``, differential entropy, or ``"psd"``, logarithm of the mean power
        spectral density.
    bands : mapping of str to (float, float)
        Band edges in Hz.
    window : float
        Length of a window in seconds.
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
        the like do not fit them.

    See Also
    --------
    join : Puts several recordings together.

    Examples
    --------
    >>> parts = [from_epochs(mne.read_epochs(f"{s}-epo.fif"), "emotion", subject=s,
    ...                      stimulus="clip", classes=["calm", "tense"])
    ...          for s in subjects]
    >>> data = join(*parts)
    """
    if feature not in _FEATURES:
        raise ConfigurationError(
            f"{name}: found feature={feature!r}; expected one of "
            f"{', '.join(map(repr, _FEATURES))}."
        )
    epochs = _loaded(epochs, name)
    _check_length(epochs, window, name)
    given = {
        "label": _event_names(epochs) if labels is None else labels,
        "subject": subject,
        "session": session,
        "stimulus": _event_names(epochs) if stimulus is None else stimulus,
    }
    columns = {key: _per_epoch(key, given[key], epochs, name) for key in given}
    parts = _modalities(epochs, feature, bands, window, name)
    trials, windows = next(iter(parts.values()))[0].shape[:2]
    step = round(window * epochs.info["sfreq"]) / epochs.info["sfreq"]
    repeated = {key: np.repeat(values, windows) for key, values in columns.items()}
    return from_arrays(
        {key: array.reshape(-1, *array.shape[2:]) for key, (array, _) in parts.items()},
        repeated["label"],
        subject=repeated["subject"],
        session=repeated["session"],
        stimulus=repeated["stimulus"],
        trial=np.repeat(np.asarray(epochs.selection) + 1, windows),
        start=np.tile(epochs.tmin + step * np.arange(windows), trials),
        classes=classes,
        modalities={key: modality for key, (_, modality) in parts.items()},
        name=f"{name} ({_choices(epochs, feature, window)})",
    )


def join(*datas: EmotionData) -> EmotionData:
    """Put recordings together, such as those of several subjects.

    Parameters
    ----------
    *datas : EmotionData
        With the same classes, modalities, channels and features.

    Returns
    -------
    EmotionData
        In order of subject, session, trial and time, under the joined names.

    Raises
    ------
    DataError
        If the recordings differ in what they hold, or two hold the same window.
    """
    if not datas:
        raise data_error("join", "no recordings", "at least one", "Give some.")
    for data in datas:
        expect_labelled(data, "join")
    for other in datas[1:]:
        _check_alike(datas[0], other)
    first = datas[0].inputs
    tables = [data.inputs.windows for data in datas]
    windows = pd.DataFrame(
        {key: _joined_column([table[key] for table in tables]) for key in PROVENANCE}
    )
    names = ", ".join(dict.fromkeys(data.inputs.name for data in datas))
    of_window = ["subject", "session", "trial", "start"]
    twice = windows.duplicated(of_window).to_numpy()
    if twice.any():
        row = windows.iloc[int(twice.argmax())]
        raise data_error(
            names,
            f"two windows with {', '.join(f'{key} {row[key]}' for key in of_window)}",
            "one window per subject, session, trial and start",
            "Give each recording its own subject or session.",
        )
    signals = {
        key: np.concatenate([data.inputs.signals[key] for data in datas])
        for key in first.signals
    }
    labels = np.concatenate([data.labels for data in datas])
    inputs = Inputs(signals, windows, first.modalities, names)
    order = windows.sort_values(of_window, kind="stable").index.to_numpy()
    return EmotionData(inputs, labels, datas[0].classes).take(order)


# ------------------------------------------------------------------------- signals


def _modalities(
    epochs: mne.BaseEpochs, feature: str, bands: Bands, window: float, name: str
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


def _choices(epochs: mne.BaseEpochs, feature: str, window: float) -> str:
    left_out = [
        f"{channel} left out"
        for channel, kind in zip(
            epochs.ch_names, epochs.get_channel_types(), strict=True
        )
        if kind in _NO_SIGNALS
    ]
    bad = [f"{channel} bad" for channel in epochs.info["bads"]]
    return "; ".join([f"{feature}, {window:g} s windows", *bad, *left_out])


# ------------------------------------------------------------------------- joining


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
    if set(two.modalities) != set(one.modalities):
        raise data_error(
            f"{where}, modalities",
            ", ".join(two.modalities),
            ", ".join(one.modalities),
            "Keep what all recordings have.",
        )
    for key, modality in one.modalities.items():
        _check_same_modality(modality, two.modalities[key], f"{where}, {key!r}")


def _check_same_modality(one: Modality, two: Modality, where: str) -> None:
    for field in ("channels", "features", "kind", "unit"):
        expected, found = getattr(one, field), getattr(two, field)
        if found != expected:
            raise data_error(
                f"{where}, {field}",
                found if isinstance(found, str) else ", ".join(found),
                expected if isinstance(expected, str) else ", ".join(expected),
                "Make all of them alike, in the same order.",
            )


def _joined_column(columns: Sequence[pd.Series[Any]]) -> pd.Series[Any]:
    """Join numbers with numbers; beside strings, numbers become strings."""
    if any(not pd.api.types.is_numeric_dtype(column) for column in columns):
        columns = [column.astype(str) for column in columns]
    return pd.concat(columns, ignore_index=True)
