"""Leaks: what would make a result look better than it is, looked for before training.

Each kind has a name, by which it may be waived: ``docs/leaks.md`` lists them. Nothing
here sees a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, Fold, Inputs, Modality, Protocol
from ..data.copies import scaled_copies
from ..data.identifying import Identifying, identifying_features
from ..data.scaling import Level, Looks, groups_of, look_at, scaled_over
from ..data.soundness import listed, trials_in_words
from ..data.summaries import summarise
from ..errors import ConfigurationError, DataError, did_you_mean
from ..words import are, count

__all__ = ["KINDS", "Leak", "check_leaks", "check_waived", "find_leaks", "waived_words"]

KINDS: Mapping[str, str] = {
    "overlapping-windows": "windows of one trial on both sides of a split that share "
    "samples",
    "smoothed-across-split": "windows on both sides of a split that were smoothed, or "
    "scaled, together",
    "divided-trials": "parts of one recorded trial, divided by labels, on both sides "
    "of a split",
    "shared-stimulus": "a stimulus, or whatever else the protocol keeps apart, in the "
    "source and in the test",
    "duplicate-recording": "one recording under two names, scaled anew, in the source "
    "and in the test",
    "identifying-feature": "a feature that tells trials apart: a number, a clock, a "
    "code of the stimulus",
}
"""What is looked for, by the name under which it may be waived."""

_NEVER = ("shared-trial",)
"""Kinds that nobody may waive: the protocol's folds are refused."""

_FEWEST_SAMPLES = 8
"""Of raw samples, how many must be the same, and different from each other."""

_SUMMED = 2_000_000
"""Values that are summed up at once, trials times features."""


@dataclass(frozen=True)
class Leak:
    """Something that was found.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    text : str
        What it is and where, as a phrase.
    """

    kind: str
    text: str


def check_waived(names: Sequence[str]) -> None:
    """Refuse names of no leak, and of one that cannot be waived.

    Raises
    ------
    ConfigurationError
    """
    for name in names:
        if name in _NEVER:
            raise ConfigurationError(
                f"waive names {name!r}, which cannot be waived: with a trial on both "
                f"sides, a result would mean nothing. Use a protocol that keeps trials "
                f"whole."
            )
        if name not in KINDS:
            raise ConfigurationError(
                f"waive names {name!r}, which is no kind of leak."
                f"{did_you_mean(name, KINDS)} Expected some of {', '.join(KINDS)}."
            )


def check_leaks(
    protocol: Protocol,
    inputs: Inputs,
    folds: Sequence[Fold],
    waived: Sequence[str] = (),
    windows: pd.DataFrame | None = None,
) -> dict[str, str]:
    """Refuse folds that leak, but for what is waived.

    Parameters
    ----------
    protocol, inputs, folds, windows
        See :func:`find_leaks`.
    waived : sequence of str
        Names of `KINDS`.

    Returns
    -------
    dict of str to str
        What was found of each kind that is waived; empty where nothing was.

    Raises
    ------
    DataError
        Naming every leak that is not waived.
    """
    found = find_leaks(protocol, inputs, folds, windows)
    refused = [leak for leak in found if leak.kind not in waived]
    if refused:
        kinds = list(dict.fromkeys(leak.kind for leak in refused))
        told = ". ".join(f"{leak.kind}: {leak.text}" for leak in refused)
        raise DataError(
            f"{inputs.name}: found {count(len(refused), 'leak')}, by which a result "
            f"would look better than it is; expected none. {told}. Correct the "
            f"recordings or the protocol, as docs/leaks.md says for each, or waive it "
            f"by name, which every result then says: --waive {','.join(kinds)}."
        )
    texts = {
        kind: [leak.text for leak in found if leak.kind == kind] for kind in waived
    }
    return {kind: ". ".join(each) for kind, each in texts.items()}


def waived_words(waived: Mapping[str, str]) -> str:
    """Say what was waived, and what of it was found."""
    return "; ".join(f"{kind} ({text or 'not found'})" for kind, text in waived.items())


def find_leaks(
    protocol: Protocol,
    inputs: Inputs,
    folds: Sequence[Fold],
    windows: pd.DataFrame | None = None,
) -> list[Leak]:
    """Return every leak in recordings that are split into folds.

    Parameters
    ----------
    protocol : Protocol
    inputs : Inputs
        In canonical order.
    folds : sequence of Fold
        Checked, as :func:`~domainemo.runs.folds.folds_of` returns them.
    windows : DataFrame, optional
        Where windows come from as messages say it, where that is not what `inputs` say.
    """
    windows = inputs.windows if windows is None else windows
    found = [
        *_overlapping(inputs, folds),
        *_divided(inputs, folds),
        *_looking_ahead(protocol, inputs),
        *_shared(protocol, windows, folds),
        *_duplicates(inputs, folds, windows),
    ]
    inductive = [fold for fold in folds if fold.access == "inductive"]
    for name, array in inputs.signals.items():
        modality = inputs.modalities[name]
        looks: list[Looks] = []
        told: list[Identifying] = []
        for some in _blocks(inputs.windows, modality):
            described = replace(modality, channels=modality.channels[some])
            values = array[:, some]
            part = replace(inputs, signals={name: values}, modalities={name: described})
            summary = summarise(inputs.windows, values)
            if inductive:
                looks.append(look_at(inputs.windows, summary))
            told += identifying_features(part, name, summary, array[0].size)
        level = scaled_over(looks) if looks else None
        found += _scaled(name, level, inputs.windows, inductive)
        found += _identifying(told)
    return sorted(found, key=lambda leak: list(KINDS).index(leak.kind))


def _blocks(windows: pd.DataFrame, modality: Modality) -> Iterator[slice]:
    """Yield a modality's channels some at a time, of which a summary is small."""
    trials = len(windows[TRIAL].drop_duplicates())
    size = max(_SUMMED // (trials * len(modality.features)), 1)
    for at in range(0, len(modality.channels), size):
        yield slice(at, at + size)


# ------------------------------------------------------------------ within one trial


def _overlapping(inputs: Inputs, folds: Sequence[Fold]) -> Iterator[Leak]:
    """Find windows of a trial, on both sides of a split, made of common samples."""
    trials = inputs.windows.groupby(TRIAL, sort=False).ngroup().to_numpy()
    borders = {fold.name: _borders(trials, fold) for fold in folds}
    apart = {name: np.abs(_times(inputs, pairs)) for name, pairs in borders.items()}
    for name, modality in inputs.modalities.items():
        span = modality.span
        if span is None:
            torn = [
                fold
                for fold, pairs in borders.items()
                if _shares_samples(inputs.signals[name], pairs)
            ]
            how = "hold the same samples, bit for bit"
        else:
            torn = [fold for fold, each in apart.items() if (each < span - 1e-6).any()]
            how = f"are made of {span:g} s each and lie nearer to each other"
        if torn and span == np.inf:
            yield Leak(
                "smoothed-across-split",
                f"values of {name!r} are made of the whole trial, as by a smoother "
                f"that looks ahead, and trials are split in {_folds(torn)}",
            )
        elif torn:
            yield Leak(
                "overlapping-windows",
                f"windows of {name!r} {how}, on both sides of the split in "
                f"{_folds(torn)}",
            )


def _looking_ahead(protocol: Protocol, inputs: Inputs) -> Iterator[Leak]:
    """Find values made of what comes later, where windows are tested as they arrive."""
    for name, modality in inputs.modalities.items() if protocol.causal else ():
        if modality.span == np.inf:
            yield Leak(
                "smoothed-across-split",
                f"values of {name!r} are made of the whole trial, as by a smoother "
                f"that looks ahead, and the protocol tests windows as they arrive",
            )


def _borders(trials: NDArray[Any], fold: Fold) -> NDArray[np.int64]:
    """Return neighbours in a trial, one of them seen in training and one tested."""
    if fold.access == "transductive":
        return np.empty((0, 2), dtype=np.int64)
    used, tested = np.zeros((2, len(trials)), dtype=bool)
    for part in fold.parts.values():
        used[part] = True
    tested[fold.test] = True
    rows = np.flatnonzero(used)
    border = (np.diff(trials[rows]) == 0) & (np.diff(tested[rows]) != 0)
    return np.stack([rows[:-1][border], rows[1:][border]], axis=1)


def _times(inputs: Inputs, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    start = inputs.windows["start"].to_numpy(np.float64)
    return np.asarray(start[pairs[:, 1]] - start[pairs[:, 0]])


def _shares_samples(
    array: NDArray[np.float32], pairs: NDArray[np.int64], most: int = 8
) -> bool:
    """Return whether the end of a window is the beginning of its neighbour.

    That can be seen of raw samples alone; of features it must be told, as their span.
    """
    samples = array.shape[2]
    for first, second in pairs[:most]:
        one, two = array[first], array[second]
        begins = (one[:, 1:-1] == two[:, :1]) & (one[:, 2:] == two[:, 1:2])
        shifts = 1 + np.flatnonzero(begins.any(axis=0))
        for shift in shifts[shifts <= samples - _FEWEST_SAMPLES]:
            same = one[:, shift:] == two[:, : samples - shift]
            for channel in np.flatnonzero(same.all(axis=1)):
                if len(np.unique(one[channel, shift:])) >= _FEWEST_SAMPLES:
                    return True
    return False


def _divided(inputs: Inputs, folds: Sequence[Fold]) -> Iterator[Leak]:
    """Find trials, as recorded, of which one part is seen in training, another tested.

    Trials that labels divided are numbered anew and keep their stimulus.
    """
    if not inputs.labelled_trials:
        return
    place = ["subject", "session", "stimulus"]
    codes = inputs.windows.groupby(place).ngroup().to_numpy()
    torn = [
        fold.name
        for fold in folds
        if np.isin(codes[fold.test], codes[np.setdiff1d(fold.used, fold.test)]).any()
    ]
    if torn:
        yield Leak(
            "divided-trials",
            f"trials were divided where their label changes, and parts of one that "
            f"follow each other are on both sides of the split in {_folds(torn)}",
        )


# --------------------------------------------------------------- source and test


def _shared(
    protocol: Protocol, windows: pd.DataFrame, folds: Sequence[Fold]
) -> Iterator[Leak]:
    """Find what a protocol promises to keep apart, and does not."""
    for column in protocol.disjoint:
        values = windows[column].to_numpy()
        met: dict[str, list[object]] = {}
        for fold in folds:
            labelled = fold.source
            if column == "stimulus":  # those are of the subject who is tested, too
                labelled = np.append(labelled, fold.given)
            common = set(values[labelled]) & set(values[fold.test])
            if common:
                met[fold.name] = sorted(common, key=str)
        if met:
            both = list(
                dict.fromkeys(str(each) for all_ in met.values() for each in all_)
            )
            yield Leak(
                "shared-stimulus",
                f"the {column} {listed(both)} is trained on and tested in "
                f"{_folds(list(met))}, which the protocol forbids",
            )


def _duplicates(
    inputs: Inputs, folds: Sequence[Fold], windows: pd.DataFrame
) -> Iterator[Leak]:
    """Find recordings that are trained on and tested, scaled anew."""
    for copies in scaled_copies(inputs):
        for fold in folds:
            seen = np.isin(copies, np.append(fold.source, fold.given))
            other = np.isin(copies, np.append(fold.target, fold.test))
            if seen.any() and other.any():
                places = windows.iloc[copies][TRIAL].itertuples(index=False)
                who = trials_in_words(places)
                yield Leak(
                    "duplicate-recording",
                    f"the same signals but for their scale in {listed(who, ' and ')}, "
                    f"trained on and tested in {_folds([fold.name])}",
                )
                break


def _scaled(
    name: str, level: Level | None, windows: pd.DataFrame, folds: Sequence[Fold]
) -> Iterator[Leak]:
    """Find values that were scaled over what a fold tests and what it trains on."""
    if level is None:
        return
    groups = groups_of(windows, level)
    torn = [
        fold.name
        for fold in folds
        if np.isin(groups[fold.test], groups[np.append(fold.source, fold.seen)]).any()
    ]
    if torn:
        over = "everybody" if level == "everybody" else f"each {level}"
        yield Leak(
            "smoothed-across-split",
            f"values of {name!r} were scaled over {over}, and so by windows on both "
            f"sides of the split in {_folds(torn)}",
        )


# ------------------------------------------------------------------------ features


def _identifying(found: Iterable[Identifying]) -> Iterator[Leak]:
    """Tell of the features that tell trials apart, those that do it alike together."""
    ordered = sorted(found, key=lambda each: each.how)
    for how, alike in groupby(ordered, key=lambda each: each.how):
        each = list(alike)
        places = listed([f"{it.feature!r} of {it.channel!r}" for it in each], "; ")
        one = len(each) == 1
        yield Leak(
            "identifying-feature",
            f"{each[0].modality!r}: the {'feature' if one else 'features'} {places} "
            f"{are(len(each))} {how}",
        )


def _folds(names: Sequence[str]) -> str:
    several = "fold" if len(names) == 1 else "folds"
    return f"{several} {listed([repr(name) for name in names])}"
