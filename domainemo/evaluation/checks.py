"""What must hold of recordings and folds before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..core import PROVENANCE, EmotionData, Fold, Inputs
from ..errors import ConfigurationError, DataError, data_error, did_you_mean

__all__ = [
    "canonical",
    "check_classes",
    "check_folds",
    "check_signals",
    "select_modalities",
]

_LARGEST = 1e36
"""Of a value. Beyond, sums and differences of a few leave the range of float32."""


def canonical(inputs: Inputs) -> np.ndarray:
    """Return the order by provenance, so that the order of files cannot matter.

    Raises
    ------
    DataError
        If two windows have the same provenance.
    """
    keys = inputs.windows[list(PROVENANCE)].reset_index(drop=True)
    place = ["subject", "session", "trial", "start"]
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
        If one of them is not there.
    """
    if names is None:
        return inputs
    missing = [name for name in names if name not in inputs.modalities]
    if missing:
        raise ConfigurationError(
            f"{inputs.name}: there is no modality {', '.join(map(repr, missing))}."
            f"{did_you_mean(missing[0], inputs.modalities)} Found "
            f"{', '.join(inputs.modalities)}. Choose among these with "
            f"--modalities."
        )
    return replace(
        inputs,
        signals={name: inputs.signals[name] for name in names},
        modalities={name: inputs.modalities[name] for name in names},
    )


def check_signals(inputs: Inputs) -> None:
    """Refuse infinite and huge values, and a channel that one subject never has.

    Raises
    ------
    DataError
        Naming the subject, the modality and the channel.
    """
    subjects = inputs.windows["subject"].to_numpy()
    for name, array in inputs.signals.items():
        channels = inputs.modalities[name].channels
        beyond = (array > _LARGEST) | (array < -_LARGEST)
        if beyond.any():
            window, channel, feature = np.argwhere(beyond)[0]
            value = array[window, channel, feature]
            if np.isfinite(value):
                raise data_error(
                    f"{inputs.name}, modality {name!r}",
                    f"{value:.3g} in channel {channels[channel]!r} in a window of "
                    f"subject {subjects[window]}",
                    f"values of a sensor, at most {_LARGEST:.0e} either way",
                    "Such values usually stand for missing ones: write NaN for them.",
                )
            raise DataError(
                f"{inputs.name}, modality {name!r}: channel {channels[channel]!r} is "
                f"infinite in a window of subject {subjects[window]}; expected finite "
                f"values, or NaN where the sensor lost the window."
            )
        absent = np.asarray(np.isnan(array).all(axis=2))
        for subject in np.unique(subjects):
            theirs = absent[subjects == subject]
            seen = theirs[~theirs.all(axis=1)]
            # A whole modality may be missing for a subject; a single channel may not.
            if len(seen) and seen.all(axis=0).any():
                channel = channels[int(seen.all(axis=0).argmax())]
                raise DataError(
                    f"{inputs.name}, modality {name!r}: channel {channel!r} is NaN in "
                    f"every window of subject {subject}, while other channels are "
                    f"there. Leave the channel out for everybody, interpolate it, or "
                    f"leave the subject out (--exclude {subject})."
                )


def _check_leakage(fold: Fold, trials: NDArray[np.int64]) -> None:
    size = len(trials)
    for role, rows in (
        ("source", fold.source),
        ("target", fold.target),
        ("test", fold.test),
    ):
        inside = len(rows) > 0 and rows.min() >= 0 and rows.max() < size
        if not inside or len(np.unique(rows)) < len(rows):
            raise ConfigurationError(
                f"Fold {fold.name!r}: its {role} rows are empty, repeated or outside "
                f"the {size} windows. The protocol must be corrected."
            )
    same = np.array_equal(np.sort(fold.target), np.sort(fold.test))
    leaks = {
        "source and target share windows": np.isin(fold.source, fold.target).any(),
        "source and test share windows": np.isin(fold.source, fold.test).any(),
        "source and test share a trial": np.isin(
            trials[fold.source], trials[fold.test]
        ).any(),
        "target and test overlap without being the same": not same
        and np.isin(fold.target, fold.test).any(),
    }
    for leak, found in leaks.items():
        if found:
            raise ConfigurationError(
                f"Fold {fold.name!r}: {leak}, so that a result would mean nothing. The "
                f"protocol must be corrected."
            )


def check_folds(inputs: Inputs, folds: list[Fold]) -> None:
    """Refuse folds that would leak.

    Raises
    ------
    ConfigurationError
        If names repeat, or a protocol lets training see the labels, or the trials,
        that it tests.
    """
    names = [fold.name for fold in folds]
    if len(set(names)) < len(names) or not names:
        raise ConfigurationError(
            f"The protocol made {len(names)} folds with {len(set(names))} distinct "
            f"names; expected at least one, each with a name of its own."
        )
    trials = np.asarray(
        inputs.windows.groupby(["subject", "session", "trial"]).ngroup(), dtype=np.int64
    )
    for fold in folds:
        _check_leakage(fold, trials)


def check_classes(data: EmotionData, folds: list[Fold]) -> None:
    """Refuse folds that cannot be trained or scored.

    Raises
    ------
    DataError
        If a fold's source or test part holds a single class.
    """
    for fold in folds:
        for role, rows in (("source", fold.source), ("test", fold.test)):
            found = np.unique(data.labels[rows])
            if len(found) < 2:
                held = data.classes[found[0]] if len(found) else "nothing"
                raise DataError(
                    f"{data.inputs.name}, fold {fold.name!r}: the {role} part holds "
                    f"a single class ({held}); expected at least two, as accuracy "
                    f"means nothing otherwise. Leave the subject out (--exclude), or "
                    f"use another protocol (pooled sessions, unit='time')."
                )
