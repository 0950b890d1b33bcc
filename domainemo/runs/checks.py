"""What is used of recordings, in what order, and what must hold of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core import PROVENANCE, TRIAL, Adapter, EmotionData, Inputs, Rows, Sampling
from ..data.channels import choose_channels
from ..data.given import expect_inputs, expect_labelled
from ..data.montage import check_sensors
from ..data.soundness import (
    listed,
    lost_channels,
    lost_channels_error,
    lost_modalities_error,
)
from ..data.task import OF_TARGETS, choose_classes
from ..errors import (
    ConfigurationError,
    DataError,
    DomainemoWarning,
    data_error,
    did_you_mean,
)
from ..training.batches import samples_of
from ..words import quoted
from .experiment import Setup

__all__ = [
    "canonical",
    "check_asked_trials",
    "check_divided_samples",
    "check_modalities",
    "check_signals",
    "choose",
    "choose_inputs",
    "ordered",
    "prepare",
    "select_modalities",
]

_LARGEST = 1e36
"""Of a value. Beyond, sums and differences of a few leave the range of float32."""


def choose(
    data: EmotionData,
    chosen: Setup,
    *,
    whose: str = OF_TARGETS,
    beside: Inputs | None = None,
) -> tuple[EmotionData, dict[str, str]]:
    """Return recordings with the channels and classes that were chosen alone.

    This comes before all else that is done to recordings, as it says what they are.

    Parameters
    ----------
    data : EmotionData
    chosen : Setup
    whose : str
        By whose labels windows are left out, for the words.
    beside : Inputs, optional
        Other people that are adapted to, whose lost channels count.

    Returns
    -------
    data : EmotionData
    task : dict of str to str
        What every result says of it, by column; empty where nothing was chosen.

    Raises
    ------
    ConfigurationError, DataError
        For a name that there is not, and if nothing is left.
    """
    data, classes = choose_classes(data, chosen.classes, chosen.merge, whose=whose)
    inputs, channels = _with_channels(data.inputs, chosen, beside)
    return replace(data, inputs=inputs), _task(classes, channels)


def choose_inputs(
    recordings: EmotionData | Inputs, chosen: Setup
) -> tuple[Inputs, dict[str, str]]:
    """Do the same, and leave labels behind; see :func:`choose`.

    Parameters
    ----------
    recordings : EmotionData or Inputs
        With labels where classes were chosen.
    chosen : Setup
    """
    classes = ""
    if chosen.classes is not None or chosen.merge:
        data = expect_labelled(recordings, "the recordings, of chosen classes")
        recordings, classes = choose_classes(data, chosen.classes, chosen.merge)
    inputs = expect_inputs(recordings, "the recordings")
    inputs, channels = _with_channels(inputs, chosen)
    return inputs, _task(classes, channels)


def _with_channels(
    inputs: Inputs, chosen: Setup, beside: Inputs | None = None
) -> tuple[Inputs, str]:
    return choose_channels(
        inputs,
        chosen.channels,
        chosen.exclude_channels,
        modalities=chosen.modalities,
        exclude=chosen.exclude,
        beside=beside,
    )


def _task(classes: str, channels: str) -> dict[str, str]:
    said = {"classes": classes, "channels": channels}
    return {name: words for name, words in said.items() if words}


def prepare(inputs: Inputs, chosen: Setup) -> tuple[Inputs, Rows]:
    """Return what is used of recordings, checked and in canonical order.

    Parameters
    ----------
    inputs : Inputs
    chosen : Setup
        Which modalities and subjects are used.

    Returns
    -------
    inputs : Inputs
    rows : ndarray of int
        Which windows of the recordings these are.

    Raises
    ------
    ConfigurationError, DataError
        For recordings that do not fit.
    """
    inputs = select_modalities(inputs, chosen.modalities)
    rows = ordered(inputs, chosen.exclude)
    inputs = inputs.take(rows)
    check_modalities(inputs)
    check_signals(inputs)
    return inputs, rows


def ordered(inputs: Inputs, exclude: Sequence[str] = ()) -> Rows:
    """Return the windows that are used, in canonical order.

    Parameters
    ----------
    inputs : Inputs
    exclude : sequence of str
        Subjects to leave out.
    """
    kept = _kept_rows(inputs, exclude)
    bare = replace(inputs, signals={}, modalities={})
    rows: Rows = kept[canonical(bare.take(kept))]
    return rows


def canonical(inputs: Inputs) -> np.ndarray:
    """Return the order by provenance, so that the order of files cannot matter.

    Raises
    ------
    DataError
        If two windows have the same provenance.
    """
    keys = inputs.windows[list(PROVENANCE)].reset_index(drop=True)
    place = [*TRIAL, "start"]
    twice = keys.duplicated(place)
    if twice.any():
        first = keys.loc[twice, place].iloc[0].to_dict()
        raise DataError(
            f"{inputs.name}: two windows have the same place {first}; expected every "
            f"window of a trial to start at a time of its own. Check the columns "
            f"'trial' and 'start'."
        )
    return keys.sort_values(place, kind="stable").index.to_numpy()


def select_modalities(inputs: Inputs, names: tuple[str, ...] | None) -> Inputs:
    """Keep the modalities `names`, in that order; all of them if None.

    Raises
    ------
    ConfigurationError
        If one of them is not there, or is named twice.
    """
    if names is None:
        return inputs
    missing = [name for name in names if name not in inputs.modalities]
    if missing:
        raise ConfigurationError(
            f"{inputs.name}: there is no modality {', '.join(map(repr, missing))}."
            f"{did_you_mean(missing[0], inputs.modalities)} Found "
            f"{quoted(inputs.modalities)}. Choose among these with "
            f"--modalities."
        )
    if len(set(names)) < len(names):
        raise ConfigurationError(
            f"{inputs.name}: the modalities {', '.join(names)} name one of them twice; "
            f"name each once."
        )
    return replace(
        inputs,
        signals={name: inputs.signals[name] for name in names},
        modalities={name: inputs.modalities[name] for name in names},
    )


def _kept_rows(inputs: Inputs, exclude: Sequence[str]) -> Rows:
    """Return the windows of all subjects but those left out.

    Raises
    ------
    ConfigurationError
        If there is no such subject.
    """
    subjects = inputs.windows["subject"].astype(str)
    known = set(subjects)
    unknown = [name for name in exclude if name not in known]
    if unknown:
        there = [quoted([name]) for name in dict.fromkeys(subjects)]
        # Several may be one, with a comma in it.
        near = (did_you_mean(each, there) for each in (unknown[0], ", ".join(unknown)))
        raise ConfigurationError(
            f"{inputs.name}: there is no subject {quoted(unknown)} to leave out."
            f"{next(filter(None, near), '')} Found {', '.join(there)}. Channels are "
            f"left out with --exclude-channels."
        )
    kept = np.flatnonzero(~subjects.isin(exclude))
    if len(inputs) and not len(kept):
        raise ConfigurationError(
            f"{inputs.name}: with {', '.join(exclude)} left out, there is no subject "
            f"at all; leave fewer out."
        )
    return kept


def check_modalities(inputs: Inputs) -> None:
    """Refuse a modality that nobody has, somebody who has none, and other sensors.

    Raises
    ------
    DataError
    """
    for name, modality in inputs.modalities.items():
        if modality.kind == "eeg":
            check_sensors(f"{inputs.name}, modality {name!r}", modality.channels)
    lost = [name for name, array in inputs.signals.items() if np.isnan(array).all()]
    if lost:
        others = [name for name in inputs.signals if name not in lost]
        raise lost_modalities_error(inputs.name, lost, others)
    there = np.zeros(len(inputs), dtype=bool)
    for array in inputs.signals.values():
        there |= ~np.isnan(array).all(axis=(1, 2))
    subjects = inputs.windows["subject"]
    empty = [each for each in subjects.unique() if not there[subjects == each].any()]
    if empty:
        names = quoted(empty, ",")
        raise data_error(
            inputs.name,
            f"not one value in {', '.join(inputs.signals)} of subject {names}",
            "something of every subject",
            f"There is nothing to train on or to test: leave it out (--exclude "
            f"'{names}').",
        )


def check_signals(inputs: Inputs, remedy: str | None = None) -> None:
    """Refuse infinite values, and a channel that one subject never has.

    Warns of a single value, such as one feature of a channel, that one subject never
    has: it is filled with the mean of the source.

    Parameters
    ----------
    inputs : Inputs
    remedy : str, optional
        What to do about such a channel, instead of what training allows.

    Raises
    ------
    DataError
        Naming the subjects, the modality and the channels.
    """
    subjects = inputs.windows["subject"].to_numpy()
    for name, array in inputs.signals.items():
        channels = np.array(inputs.modalities[name].channels)
        beyond = (array > _LARGEST) | (array < -_LARGEST)
        if beyond.any():
            window, channel, feature = np.argwhere(beyond)[0]
            value = array[window, channel, feature]
            if np.isfinite(value):
                raise data_error(
                    f"{inputs.name}, modality {name!r}",
                    f"{value:.3g} in channel {str(channels[channel])!r} in a window of "
                    f"subject {subjects[window]}",
                    f"values of a sensor, at most {_LARGEST:.0e} either way",
                    "Such values usually stand for missing ones: write NaN for them.",
                )
            raise DataError(
                f"{inputs.name}, modality {name!r}: channel "
                f"{str(channels[channel])!r} is infinite in a window of subject "
                f"{subjects[window]}; expected finite values, or NaN where the sensor "
                f"lost the window."
            )
        lost, filled = {}, []
        features = np.array(inputs.modalities[name].features)
        for subject in np.unique(subjects):
            there = ~np.isnan(array[subjects == subject])
            # A whole modality may be missing for a subject; a single channel may not.
            out = channels[lost_channels(there.any(2).sum(0))]
            if len(out):
                lost[subject] = out.tolist()
            gone = there.any((0, 2))[:, None] & ~there.any(0)
            filled += [
                f"{features[feature]} of {channels[channel]}, subject {subject}"
                for channel, feature in np.argwhere(gone)
            ]
        if lost:
            raise lost_channels_error(inputs.name, name, lost, remedy)
        if filled:
            warnings.warn(
                f"{inputs.name}, modality {name!r}: no window holds a value for "
                f"{listed(filled)}; the mean of the source takes its place. Leave the "
                f"feature out for everybody, or the subject, where it matters.",
                DomainemoWarning,
                stacklevel=2,
            )


def check_asked_trials(adapter: Adapter, name: str, inputs: Inputs) -> None:
    """Refuse an adapter that would be told of labels by where a trial ends.

    Parameters
    ----------
    adapter : Adapter
    name : str
        As results call it.
    inputs : Inputs
        What it is trained with.

    Raises
    ------
    ConfigurationError
        If it asks which windows share a trial, and labels divided the trials.
    """
    if adapter.sees_trials and inputs.labelled_trials:
        raise ConfigurationError(
            f"The adapter {name!r} asks which of the target's windows share a trial, "
            f"and the trials of {inputs.name} were divided by their labels, so that "
            f"where one ends tells of a label; expected trials as they were recorded. "
            f"Give each its commonest label (label='majority'; --set "
            f"data.label=majority), or choose an adapter that does not ask, such as "
            f"uf-ama (--adapter uf-ama)."
        )


def check_divided_samples(sampling: Sampling, inputs: Inputs) -> None:
    """Refuse samples that end where a label changes.

    Parameters
    ----------
    sampling : Sampling
    inputs : Inputs
        Of which targets are shown, or predicted.

    Raises
    ------
    ConfigurationError
        If a sample is made of several windows, and labels divided the trials.
    """
    if not inputs.labelled_trials:
        return
    windows = inputs.windows.reset_index(drop=True)
    if ((samples_of(sampling, windows) >= 0).sum(1) > 1).any():
        raise ConfigurationError(
            f"A sample is several windows of one trial ({type(sampling).__name__}), "
            f"and the trials of {inputs.name} were divided by their labels, so that "
            f"where a sample of the target ends tells of a label; expected samples of "
            f"one window. Choose --sampling windows, or give each trial its commonest "
            f"label (label='majority'; --set data.label=majority)."
        )
