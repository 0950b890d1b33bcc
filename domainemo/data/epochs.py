"""Recordings out of MNE's epochs: each epoch becomes a trial of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..core import EmotionData
from ..errors import data_error
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
    columns_of,
    features_of,
    prepared,
)
from .signals.features import BANDS

if TYPE_CHECKING:
    import mne

__all__ = ["epochs_part", "from_epochs"]


def from_epochs(
    epochs: mne.BaseEpochs | Sequence[mne.BaseEpochs],
    labels: ArrayLike | str | None = None,
    *,
    subject: ArrayLike,
    session: ArrayLike = 1,
    trial: ArrayLike | None = None,
    stimulus: ArrayLike | None = None,
    feature: Feature = "de",
    bands: Bands = BANDS,
    window: float = 4.0,
    step: float | None = None,
    before_event: bool = False,
    bads: Bads = "interpolate",
    classes: Sequence[str] | None = None,
    name: str = "own epochs",
) -> EmotionData:
    """Make recordings out of MNE's epochs.

    Each epoch is a trial, cut into windows from its event on. EEG channels become the
    modality ``eeg``, with the `feature` of each band. ECG channels become ``ecg``, with
    the measures of the heart. Every other type of channel becomes a modality of the
    type's name, with mean, deviation and slope per window. With ``feature="raw"`` all
    of them hold their samples instead. Channels that hold no signal (stim, misc and the
    machine's own) are left out, as they may give the label away.

    EEG channels are called by the electrode that their name holds: ``EEG Fp1-REF`` is
    ``Fp1``. Nothing is filtered or referenced beforehand: do that in MNE. Each epoch is
    filtered by itself, so the slowest bands of epochs of a few seconds suffer from the
    ends; ``"psd"`` suffers less.

    Parameters
    ----------
    epochs : mne.Epochs, mne.EpochsArray or sequence of them
        At least one window long each. Several are of one sitting, or have epochs of
        different length; their channels are the same.
    labels : array of int or str, shape (epochs,), or str, optional
        One per epoch, or the name of a metadata column. The names of the epochs' events
        where it is not given. Epochs of several objects count on, in their order.
    subject, session : int, str, array of shape (epochs,)
        One value, one per epoch, or the name of a metadata column.
    trial : int, str, array of shape (epochs,), optional
        Given as `subject` is, one of its own for each epoch of a subject's session.
        The place in ``epochs.selection``, counted from 1, where it is not given; it
        counts on from object to object.
    stimulus : int, str, array of shape (epochs,), optional
        What was shown, given as `subject` is; leaving stimuli out needs to know it.
        The names of the epochs' events where it is not given; but the trial's number
        where these are the labels, and the events' numbers where these hold the
        labels' names, because the stimulus is shown where the label must not be. The
        name says so.
    feature : {"de", "psd", "raw"}
        Differential entropy, logarithm of the mean power spectral density, or the
        samples of every window, each called by its milliseconds from the window's
        onset, so that two sampling rates are never taken for one.
    bands : mapping of str to (float, float), or sequence of str
        Band edges in Hz, or names of the usual bands; samples have none.
    window : float
        Length of a window in seconds.
    step : float, optional
        Seconds from one window to the next; by default they follow one another.
        Modalities say by their ``span`` how long windows are, so that a split between
        windows that overlap is refused.
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
        the like do not fit them; if other sensors are typed as EEG; if a bad channel
        cannot be interpolated; or if several objects differ in what they hold.

    See Also
    --------
    domainemo.from_raw : Cuts continuous recordings by their annotations.
    domainemo.join : Puts several recordings together.

    Examples
    --------
    >>> parts = [from_epochs(mne.read_epochs(f"{s}-epo.fif"), "emotion", subject=s,
    ...                      stimulus="clip", classes=["calm", "tense"])
    ...          for s in subjects]
    >>> data = join(*parts)
    """
    cut = Cut(feature, bands_of(bands, name), window, step, bads)
    cut.check(name)
    several = list(epochs) if isinstance(epochs, list | tuple) else [epochs]
    if not several:
        raise data_error(name, "no epochs", "at least one object of them", "Give some.")
    parts: list[Part] = []
    so_far = 0
    for number, each in enumerate(several):
        where = f"{name}, object {number} (counted from 0)"
        one = name if len(several) == 1 else where
        part, drawn = epochs_part(each, cut, before_event, so_far, one)
        parts.append(part)
        so_far += drawn
    events = Events.of_all([part.events for part in parts])
    given = {
        "label": events.names if labels is None else labels,
        "subject": subject,
        "session": session,
        "trial": events.numbers if trial is None else trial,
        "stimulus": stimulus,
    }
    columns, notes = columns_of(events, given, labels is None, "epoch", name)
    return assemble(parts, columns, notes, cut, classes, name)


def epochs_part(
    epochs: Any, cut: Cut, before_event: bool, so_far: int, name: str
) -> tuple[Part, int]:
    """Return the features of one object of epochs, and how many it was drawn from.

    Parameters
    ----------
    epochs : mne.BaseEpochs
    cut : Cut
    before_event : bool
    so_far : int
        Epochs of the objects before, dropped ones among them.
    name : str
        What messages call it.
    """
    loaded = _loaded(epochs, name)
    events = _events(loaded, so_far)
    first, event = _first_sample(loaded, cut, before_event, name)
    notes = []
    if first:
        begin = loaded.times[first]
        notes.append(f"{first / loaded.info['sfreq']:g} s before the event left out")
        loaded = loaded.copy().crop(tmin=begin, tmax=None, verbose="error")
    ready, told = prepared(loaded, cut.bads, name)
    clips = [
        Clip(signals, float(ready.times[0]), event)
        for signals in ready.get_data(copy=False, verbose="error")
    ]
    part = features_of(ready, clips, events, cut, [*notes, *told], name)
    return part, max(len(epochs.drop_log), len(clips))


def _loaded(epochs: Any, name: str) -> mne.BaseEpochs:
    """Return the epochs in memory, the bad ones dropped; the caller's stay as is."""
    # Importing MNE takes seconds, which importing this file should not.
    import mne

    if not isinstance(epochs, mne.BaseEpochs):
        continuous = isinstance(epochs, mne.io.BaseRaw)
        raise data_error(
            name,
            f"a {type(epochs).__name__}",
            "mne.Epochs or mne.EpochsArray",
            "Cut it by its annotations with domainemo.from_raw."
            if continuous
            else "Cut a continuous recording with mne.Epochs first, or give it to "
            "domainemo.from_raw.",
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


def _events(epochs: mne.BaseEpochs, so_far: int) -> Events:
    names = {number: name for name, number in epochs.event_id.items()}
    shown = tuple(names[code] for code in epochs.events[:, 2].tolist())
    numbers = tuple((np.asarray(epochs.selection) + 1 + so_far).tolist())
    return Events(shown, numbers, epochs.metadata)


def _first_sample(
    epochs: mne.BaseEpochs, cut: Cut, before_event: bool, name: str
) -> tuple[int, int]:
    """Return where the first window begins, and how far after it the event lies.

    It begins at the event, or whole steps before.
    """
    times, rate = epochs.times, float(epochs.info["sfreq"])
    zero = int(np.searchsorted(times, -0.5 / rate))
    if before_event:
        first = zero % max(cut.hop(rate), 1)
        return first, zero - first
    if zero == len(times):
        raise data_error(
            name,
            f"epochs from {times[0]:g} to {times[-1]:g} s, all of it before the event",
            "something after it",
            "Cut the epochs around what was shown, or keep what lies before with "
            "before_event=True.",
        )
    return zero, 0
