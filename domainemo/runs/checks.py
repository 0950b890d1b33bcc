"""What must hold of recordings and folds before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import OPTIONAL, PROVENANCE, EmotionData, Fold, Inputs, Protocol, Rows
from ..data.montage import check_sensors
from ..data.soundness import (
    contents,
    copies_error,
    listed,
    lost_channels,
    lost_channels_error,
    lost_modalities_error,
)
from ..errors import (
    ConfigurationError,
    DataError,
    DomainemoWarning,
    data_error,
    did_you_mean,
)
from ..places import called, contract_error, where

__all__ = [
    "canonical",
    "check_classes",
    "check_modalities",
    "check_signals",
    "folds_of",
    "kept_rows",
    "provenance",
    "select_modalities",
    "unfit_folds",
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


def select_modalities(
    inputs: Inputs, names: tuple[str, ...] | None, exclude: Sequence[str] = ()
) -> Inputs:
    """Keep the modalities `names`, in that order; all of them if None.

    Parameters
    ----------
    inputs : Inputs
    names : tuple of str or None
    exclude : sequence of str
        What a run leaves out. Here the channels count, each ``"MODALITY/CHANNEL"``.

    Raises
    ------
    ConfigurationError
        If one of them is not there, a modality is named twice, or no channel is left.
    """
    channels = _channels(inputs, exclude)
    if names is not None:
        inputs = _chosen_modalities(inputs, names)
    modalities, signals = dict(inputs.modalities), dict(inputs.signals)
    for name, out in channels.items():
        if name not in modalities:
            continue
        modality = modalities[name]
        kept = [n for n, each in enumerate(modality.channels) if each not in out]
        if not kept:
            raise ConfigurationError(
                f"{inputs.name}: with {', '.join(out)} left out, {name!r} has no "
                f"channel at all; leave the modality out with --modalities."
            )
        left = tuple(modality.channels[n] for n in kept)
        modalities[name] = replace(modality, channels=left)
        signals[name] = signals[name][:, kept]
    return replace(inputs, signals=signals, modalities=modalities)


def _chosen_modalities(inputs: Inputs, names: tuple[str, ...]) -> Inputs:
    missing = [name for name in names if name not in inputs.modalities]
    if missing:
        raise ConfigurationError(
            f"{inputs.name}: there is no modality {', '.join(map(repr, missing))}."
            f"{did_you_mean(missing[0], inputs.modalities)} Found "
            f"{', '.join(inputs.modalities)}. Choose among these with "
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


def _channels(inputs: Inputs, exclude: Sequence[str]) -> dict[str, list[str]]:
    """Return the channels that are left out, by modality."""
    found: dict[str, list[str]] = {}
    subjects = {str(each) for each in inputs.windows["subject"].unique()}
    for entry in exclude:
        modality, slash, channel = entry.partition("/")
        if not slash or entry in subjects:
            continue
        known = inputs.modalities.get(modality)
        if known is None or channel not in known.channels:
            there = [
                f"{name}/{each}"
                for name, described in inputs.modalities.items()
                for each in (described.channels if name == modality else ["..."])
                if known is None or name == modality
            ]
            raise ConfigurationError(
                f"{inputs.name}: there is no subject and no channel {entry!r} to leave "
                f"out.{did_you_mean(entry, there)} Found {', '.join(there)}."
            )
        found.setdefault(modality, []).append(channel)
    return found


def kept_rows(inputs: Inputs, exclude: Sequence[str]) -> Rows:
    """Return the windows of all subjects but those left out.

    Raises
    ------
    ConfigurationError
        If there is no such subject.
    """
    subjects = inputs.windows["subject"].astype(str)
    known = set(subjects)
    unknown = [name for name in exclude if name not in known and "/" not in name]
    if unknown:
        raise ConfigurationError(
            f"{inputs.name}: there is no subject {', '.join(unknown)} to leave out."
            f"{did_you_mean(unknown[0], known)} Found "
            f"{', '.join(dict.fromkeys(subjects))}."
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
        names = ",".join(map(str, empty))
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


def folds_of(
    protocol: Protocol, inputs: Inputs, windows: pd.DataFrame | None = None
) -> list[Fold]:
    """Return the folds that a protocol makes of recordings, checked.

    Parameters
    ----------
    protocol : Protocol
    inputs : Inputs
    windows : DataFrame, optional
        Where windows come from as the protocol and messages see it, where that is not
        what `inputs` say.

    Raises
    ------
    ConfigurationError
        If they are none, or would leak, or its domain is no column.
    DataError
        If what is tested is, bit for bit, a recording that is trained on.
    """
    if protocol.domain not in PROVENANCE[:-1]:
        raise ConfigurationError(
            f"The protocol {type(protocol).__name__} has the domain "
            f"{protocol.domain!r}; expected one of {', '.join(PROVENANCE[:-1])}. "
            f"Correct {where(protocol)}."
        )
    windows = inputs.windows if windows is None else windows
    found = protocol.split(provenance(inputs, windows))
    if not isinstance(found, Iterable):
        raise contract_error(protocol, "split", called(found), "folds, by `yield`")
    folds = list(found)
    for fold in folds:
        if not isinstance(fold, Fold) or not isinstance(fold.name, str):
            shown = called(fold)
            if isinstance(fold, Fold):
                shown = f"a Fold whose name is {fold.name!r}"
            expected = "a domainemo.Fold, named by text"
            raise contract_error(protocol, "split", shown, expected)
    _check_folds(inputs, folds, f"Correct {where(protocol, 'split')}.", windows)
    return folds


def provenance(inputs: Inputs, windows: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return all that a protocol sees: a copy of the windows table, and its name.

    Parameters
    ----------
    inputs : Inputs
    windows : DataFrame, optional
        Where windows come from, where that is not what `inputs` say.

    Returns
    -------
    DataFrame
        What the recordings are called is its ``attrs["recordings"]``.
    """
    shown = (inputs.windows if windows is None else windows).copy()
    shown.attrs["recordings"] = inputs.name
    return shown


def _check_leakage(fold: Fold, trials: NDArray[np.int64], remedy: str) -> None:
    size = len(trials)
    for role, rows in fold.parts.items():
        whole = isinstance(rows, np.ndarray) and rows.ndim == 1
        if not (whole and rows.dtype.kind in "iu"):
            raise ConfigurationError(
                f"Fold {fold.name!r}: its {role} rows are {type(rows).__name__}; "
                f"expected an array of whole numbers, such as numpy.flatnonzero(...). "
                f"{remedy}"
            )
        if role in OPTIONAL and not len(rows):
            continue
        inside = len(rows) > 0 and rows.min() >= 0 and rows.max() < size
        if not inside or len(np.unique(rows)) < len(rows):
            raise ConfigurationError(
                f"Fold {fold.name!r}: its {role} rows are empty, repeated or outside "
                f"the {size} windows. {remedy}"
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
    # With one label a trial, a window's would tell the whole trial's.
    for apart, (role, rows) in product(OPTIONAL, fold.parts.items()):
        if apart != role:
            shared = np.isin(trials[fold.parts[apart]], trials[rows]).any()
            leaks[f"{apart} and {role} share a trial"] = shared
    for leak, found in leaks.items():
        if found:
            raise ConfigurationError(
                f"Fold {fold.name!r}: {leak}, so that a result would mean nothing "
                f"(shared-trial, which cannot be waived). {remedy}"
            )


def _check_folds(
    inputs: Inputs, folds: list[Fold], remedy: str, shown: pd.DataFrame
) -> None:
    """Refuse folds that would leak; the protocol must be corrected then."""
    names = [fold.name for fold in folds]
    if len(set(names)) < len(names) or not names:
        raise ConfigurationError(
            f"The protocol made {len(names)} folds with {len(set(names))} distinct "
            f"names; expected at least one, each with a name of its own. {remedy}"
        )
    trials = np.asarray(
        inputs.windows.groupby(["subject", "session", "trial"]).ngroup(), dtype=np.int64
    )
    people = inputs.windows["subject"].to_numpy()
    for fold in folds:
        _check_leakage(fold, trials, remedy)
        theirs = people[np.append(fold.target, fold.test)]
        if not np.isin(people[fold.calibration], theirs).all():
            raise ConfigurationError(
                f"Fold {fold.name!r}: calibration holds windows of subjects who are "
                f"neither in the target nor in the test; expected the target's. Whose "
                f"labels train otherwise belongs to the source. {remedy}"
            )
    _check_copies(inputs, folds, trials, shown)


def _check_copies(
    inputs: Inputs, folds: list[Fold], trials: NDArray[np.int64], shown: pd.DataFrame
) -> None:
    """Refuse folds that train on one copy of a recording and test the other.

    Where a single modality is a copy, warn: it may hold the stimulus, not the person.
    """
    everything = tuple(inputs.signals)
    for fold, names in _copies(inputs, folds, trials, everything, shown):
        raise copies_error(f"{inputs.name}, fold {fold}", [names])
    for each in everything if len(everything) > 1 else ():
        for fold, names in _copies(inputs, folds, trials, (each,), shown):
            warnings.warn(
                f"{inputs.name}, fold {fold}: the signals of {each!r} are the same, "
                f"bit for bit, in {' and '.join(names)}, while other modalities "
                f"differ. If they describe the stimulus, a network can learn the label "
                f"from them without the person; if not, look for a file read twice.",
                DomainemoWarning,
                stacklevel=3,
            )
            break


def _copies(
    inputs: Inputs,
    folds: list[Fold],
    trials: NDArray[np.int64],
    modalities: tuple[str, ...],
    shown: pd.DataFrame,
) -> Iterator[tuple[str, list[str]]]:
    """Yield folds that train on one of several trials which agree in some modalities.

    With the trials, in words.
    """
    order = np.argsort(trials, kind="stable")
    met: dict[bytes, list[Rows]] = {}
    for rows in np.split(order, np.flatnonzero(np.diff(trials[order])) + 1):
        for mark in sorted(contents(inputs.signals[each][rows] for each in modalities)):
            met.setdefault(mark, []).append(rows)
    for copies in (each for each in met.values() if len(each) > 1):
        firsts = np.array([rows[0] for rows in copies])
        for fold in folds:
            given = fold.source, *(fold.parts[name] for name in OPTIONAL)
            seen = np.isin(firsts, np.concatenate(given))
            other = np.isin(firsts, np.concatenate([fold.target, fold.test]))
            if seen.any() and other.any():
                agree = shown.iloc[firsts[seen | other]].itertuples()
                yield (
                    repr(fold.name),
                    [
                        f"subject {row.subject}, session {row.session}, "
                        f"trial {row.trial}"
                        for row in agree
                    ],
                )


def unfit_folds(
    data: EmotionData, folds: list[Fold], together: bool = False
) -> dict[str, str]:
    """Return why folds cannot be trained or scored, by the folds' names.

    Parameters
    ----------
    data : EmotionData
        With one label a trial, so that samples have the classes of their windows.
    folds : list of Fold
    together : bool
        Whether it is enough that all test parts together hold two classes.
    """
    found = {}
    for fold in folds:
        held = {
            role: np.unique(data.labels[rows])
            for role, rows in fold.parts.items()
            if role in ("source", "test") or (role == "validation" and len(rows))
        }
        new = np.setdiff1d(held["test"], held["source"])
        if together:
            tested = [data.labels[each.test] for each in folds]
            held["test"] = np.unique(np.concatenate(tested))
        alone = [role for role, classes in held.items() if len(classes) < 2]
        if alone:
            name = data.classes[held[alone[0]][0]]
            found[fold.name] = f"the {alone[0]} part holds a single class ({name})"
        elif len(new):
            names = ", ".join(repr(data.classes[number]) for number in new)
            found[fold.name] = (
                f"the test part holds the class {names}, which the source does not"
            )
    return found


def check_classes(
    data: EmotionData, folds: list[Fold], skippable: bool, together: bool = False
) -> None:
    """Refuse folds that cannot be trained or scored.

    Parameters
    ----------
    data : EmotionData
    folds : list of Fold
    skippable : bool
        Whether the protocol can be told to skip such folds.
    together : bool
        See :func:`unfit_folds`.

    Raises
    ------
    DataError
        If a fold's source, validation or test part holds a single class, or the test
        part one that the source lacks.
    """
    found = unfit_folds(data, folds, together)
    if not found:
        return
    shown = [f"fold {name!r}: {why}" for name, why in found.items()]
    more = f"; and {len(shown) - 4} more folds" if len(shown) > 4 else ""
    skip = (
        "skip such folds, which the results then name (--set protocol.unfit=skip), "
        if skippable
        else ""
    )
    raise DataError(
        f"{data.inputs.name}, {'; '.join(shown[:4])}{more}; expected at least two "
        f"classes in either part, and none in the test part that training never sees, "
        f"as accuracy means nothing otherwise. Leave the subject out (--exclude), "
        f"{skip}or use another protocol (pooled sessions, unit='time')."
    )
