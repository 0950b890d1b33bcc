"""Calibration: some trials of the target whose labels are given on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..choices import CalibrationUse
from ..core import TRIAL, EmotionData, Fold, Rows
from ..errors import ConfigurationError, DataError, data_error
from ..training.seeds import derive_seed
from ..words import count, in_order, listed, were
from .experiment import Setup, use_of

__all__ = [
    "calibrated",
    "check_use",
    "give_labels",
    "per_class",
    "restored",
    "that_train",
    "trials_of",
    "trials_per_class",
]

Trials = list[list[str]]
"""Subject, session and trial of each, as text."""


def trials_per_class(chosen: Setup) -> int:
    """Return how many labelled trials of each class of the target are given."""
    return int(chosen.more.get("calibration", 0))


def that_train(labelled: Rows, fold: Fold, use: CalibrationUse) -> NDArray[np.bool_]:
    """Return which of a fold's labelled windows may train.

    Not its validation, nor calibration that is for selection alone.

    Parameters
    ----------
    labelled : ndarray of int
    fold : Fold
    use : {"training", "selection", "both"}
    """
    kept_out = np.isin(labelled, fold.validation)
    if use == "selection":
        kept_out |= np.isin(labelled, fold.calibration)
    return ~kept_out


def check_use(chosen: Setup, folds: Sequence[Fold]) -> None:
    """Refuse labels that are for selection, where none are given.

    Raises
    ------
    ConfigurationError
    """
    use = use_of(chosen)
    if use == "training" or any(len(fold.calibration) for fold in folds):
        return
    raise ConfigurationError(
        f"calibration_use is {use!r}, but no label of the target is given; expected "
        f"calibration to be 1 or more (--calibration), or a protocol that gives some. "
        f"Say how many, or leave calibration_use out."
    )


def give_labels(
    data: EmotionData, folds: Sequence[Fold], chosen: Setup
) -> tuple[list[Fold], dict[str, str]]:
    """Give folds the labels that a run is to be given of their targets.

    Parameters
    ----------
    data : EmotionData
        In canonical order, with one label a trial.
    folds : sequence of Fold
        As the protocol made them.
    chosen : Setup

    Returns
    -------
    folds : list of Fold
    short : dict of str to str
        Why others have too little to give, by their names, where the protocol skips
        them.

    Raises
    ------
    ConfigurationError
        If labels are for selection, and none are given.
    DataError
        If there are others, and the protocol skips none; or if there are no others.
    """
    given, short = calibrated(data, folds, trials_per_class(chosen), chosen.seeds[0])
    if not short:
        check_use(chosen, given)
    protocol = chosen.protocol.build()
    if not (given and protocol.unfit == "skip"):
        _check_given(short, data.inputs.name, protocol.takes_target)
    return given, short


def calibrated(
    data: EmotionData, folds: Sequence[Fold], number: int, seed: int
) -> tuple[list[Fold], dict[str, str]]:
    """Give every fold the labels of some trials of its target.

    For each subject of the target, `number` trials of every class that the source
    holds. The trials are walked through in a random order that depends on the seed,
    the fold's name and provenance alone, and one is taken if its class still lacks
    some, until none does. So the draw reveals of the target: the labels of the trials
    that are taken, which are given anyway; of those passed over, that their class had
    enough already, or is none of the source's; and of all behind the last one taken,
    nothing. A trial that is taken leaves the target and the test.

    Parameters
    ----------
    data : EmotionData
        In canonical order, with one label a trial.
    folds : sequence of Fold
    number : int
        Trials of each class; 0 leaves all as it is.
    seed : int

    Returns
    -------
    folds : list of Fold
        Those of which there is enough to give.
    short : dict of str to str
        Why there is not, by the others' names.
    """
    if number == 0:
        return list(folds), {}
    given, short = [], {}
    for fold in folds:
        made = _given(data, fold, number, seed)
        if isinstance(made, str):
            short[fold.name] = made
        else:
            given.append(made)
    return given, short


def _given(data: EmotionData, fold: Fold, number: int, seed: int) -> Fold | str:
    """Return a fold with labels given, or why there are too few."""
    if len(fold.calibration):
        return "its protocol gives labels of the target by itself"
    windows = data.inputs.windows
    trials = windows.groupby(TRIAL).ngroup().to_numpy()
    subjects = windows["subject"].to_numpy()
    classes = np.unique(data.labels[fold.source])
    taken: list[int] = []
    for subject in in_order(subjects[fold.target]):
        theirs = np.unique(trials[fold.target[subjects[fold.target] == subject]])
        labels = data.labels[[int(np.argmax(trials == each)) for each in theirs]]
        derived = derive_seed(seed, fold.name, "calibration", str(subject))
        order = np.random.default_rng(derived).permutation(len(theirs))
        found, lacking = _walk(labels[order], classes, number)
        if lacking:
            held = [
                f"{int((labels == each).sum())} of {data.classes[each]!r}"
                for each in lacking
            ]
            return (
                f"of subject {subject} there {were(len(theirs))} "
                f"{count(len(theirs), 'trial')} to give labels of, with "
                f"{listed(held)}, and {number} of each class are wanted"
            )
        taken += theirs[order[found]].tolist()
    made = _moved(fold, np.isin(trials, taken))
    for role, rows in (("target", made.target), ("test", made.test)):
        if not len(rows):
            return f"with {number} of each class given, no trial of its {role} is left"
    left = np.unique(data.labels[made.test])
    if len(left) < 2 <= len(np.unique(data.labels[fold.test])):
        name = data.classes[left[0]]
        return (
            f"with {number} of each class given, what is left to test is of the single "
            f"class {name!r}"
        )
    return made


def _walk(
    labels: NDArray[np.int64], classes: NDArray[np.int64], number: int
) -> tuple[list[int], list[int]]:
    """Return the places that are taken in passing, and the classes that lack some."""
    lacking = dict.fromkeys(classes.tolist(), number)
    found = []
    for place, label in enumerate(labels.tolist()):
        if not any(lacking.values()):
            break
        if lacking.get(label):
            lacking[label] -= 1
            found.append(place)
    return found, [label for label, left in lacking.items() if left]


def _moved(fold: Fold, given: NDArray[np.bool_]) -> Fold:
    """Return a fold whose windows `given`, of target and test, are its calibration."""
    rows = np.union1d(fold.target, fold.test)
    return replace(
        fold,
        target=fold.target[~given[fold.target]],
        test=fold.test[~given[fold.test]],
        calibration=rows[given[rows]],
    )


def _check_given(short: Mapping[str, str], recordings: str, apart: bool) -> None:
    """Refuse folds of which there is too little to give.

    Parameters
    ----------
    short : mapping of str to str
        Why, by the folds' names.
    recordings : str
    apart : bool
        Whether those who are tested are recordings of their own, of which --exclude
        leaves out nobody.

    Raises
    ------
    DataError
        Naming some of them.
    """
    if not short:
        return
    shown = [f"fold {name!r}: {why}" for name, why in [*short.items()][:3]]
    more = f"; and {count(len(short) - 3, 'more fold')}" if len(short) > 3 else ""
    raise data_error(
        f"{recordings}, calibration",
        f"{'; '.join(shown)}{more}",
        "enough trials of every class to give, and two classes left to test",
        f"Give fewer labels (--calibration), leave the "
        f"{'person out of the target' if apart else 'subject out (--exclude)'}, or use "
        f"another protocol.",
    )


# ------------------------------------------------------------------ in words, and kept


def per_class(labels: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Return how many trials of each class there are: "2 of each class".

    Parameters
    ----------
    labels : ndarray of int, shape (trials,)
    classes : sequence of str
    """
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    if len(set(counts)) == 1:
        return f"{counts[0]} of each class"
    held = zip(counts, classes, strict=True)
    return ", ".join(f"{number} {name}" for number, name in held if number)


def trials_of(windows: pd.DataFrame, rows: Rows) -> Trials:
    """Return the trials of some windows, in order, as a job keeps them."""
    found = windows.iloc[rows][TRIAL].astype(str).drop_duplicates()
    return [[str(name) for name in row] for row in found.itertuples(index=False)]


def restored(
    fold: Fold, windows: pd.DataFrame, facts: Mapping[str, Any], where: Path
) -> Fold:
    """Return a fold with the trials that a finished job was given of its target.

    Parameters
    ----------
    fold : Fold
        As the protocol makes it.
    windows : DataFrame
        Provenance of all windows, in canonical order.
    facts : mapping
        What the job's record says.
    where : Path
        The job's folder.

    Raises
    ------
    DataError
        If it names trials that are not the target's.
    """
    kept = facts.get("calibration", [])
    if not kept or len(fold.calibration):
        return fold
    names = pd.MultiIndex.from_frame(windows[TRIAL].astype(str))
    moved = _moved(fold, names.isin([tuple(each) for each in kept]))
    if trials_of(windows, moved.calibration) != kept:
        raise DataError(
            f"{where}: it names trials given for calibration that are not all of this "
            f"fold's target; expected those of the same recordings."
        )
    return moved
