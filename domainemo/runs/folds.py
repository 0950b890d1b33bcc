"""Folds: what a protocol makes of recordings, and what must hold of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import (
    OPTIONAL,
    PROVENANCE,
    TRIAL,
    EmotionData,
    Fold,
    Inputs,
    Protocol,
    Rows,
)
from ..data.normalisation import check_enough, check_visible
from ..data.soundness import contents, copies_error, trials_in_words
from ..errors import ConfigurationError, DataError, DomainemoWarning, did_you_mean
from ..places import called, contract_error, where
from ..words import count
from .experiment import Experiment, Setup
from .folder import folder_name

__all__ = [
    "chosen_folds",
    "fit_folds",
    "folds_of",
    "lay_out_folds",
    "provenance",
]


def lay_out_folds(
    inputs: Inputs, chosen: Setup, windows: pd.DataFrame | None = None
) -> list[Fold]:
    """Return the folds of a protocol, which a normalisation leaves something of.

    Parameters
    ----------
    inputs : Inputs
        In canonical order.
    chosen : Setup
    windows : DataFrame, optional
        See :func:`folds_of`.

    Raises
    ------
    ConfigurationError, DataError
        For folds that do not fit.
    """
    folds = folds_of(chosen.protocol.build(), inputs, windows)
    _check_normalisable(inputs, folds, chosen)
    return folds


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
    _check_places(names)
    trials = np.asarray(inputs.windows.groupby(TRIAL).ngroup(), dtype=np.int64)
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


def _check_places(names: Sequence[str]) -> None:
    """Refuse names of which two would share a folder: one would be read as the other.

    Of a name that no file may have, six digits of a hash tell it from others.
    """
    kept: dict[str, str] = {}
    for name in names:
        other = kept.setdefault(folder_name(name), name)
        if other != name:
            raise ConfigurationError(
                f"The folds {other!r} and {name!r} would both be kept in "
                f"{folder_name(name)}, the name that files can have; expected a folder "
                f"for each. Call one of them otherwise, such as its subject."
            )


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
            seen = np.isin(firsts, np.append(fold.source, fold.given))
            other = np.isin(firsts, np.append(fold.target, fold.test))
            if seen.any() and other.any():
                agree = shown.iloc[firsts[seen | other]][TRIAL]
                yield repr(fold.name), trials_in_words(agree.itertuples(index=False))


def _check_normalisable(inputs: Inputs, folds: Sequence[Fold], chosen: Setup) -> None:
    """Refuse folds of which a normalisation would leave nothing.

    Raises
    ------
    DataError
    """
    learns_by = chosen.build_normalisation().by
    for fold in folds:
        used = fold.used
        visible = np.isin(used, np.append(fold.source, fold.seen))
        windows = inputs.windows.iloc[used]
        check_visible(inputs.name, windows, learns_by, visible)
    check_enough(
        inputs,
        learns_by,
        (_visible(len(inputs), fold) for fold in folds),
        remedy="Leave out the subjects (--exclude) or the channels "
        "(--exclude-channels), or choose another normalisation ({others}).",
    )


def _visible(windows: int, fold: Fold) -> NDArray[np.bool_]:
    """Return which windows a fold's training may see."""
    visible = np.zeros(windows, dtype=bool)
    visible[fold.source] = visible[fold.seen] = True
    return visible


def chosen_folds(folds: list[Fold], wanted: Sequence[str]) -> list[Fold]:
    """Return the folds of these names; all where none is named."""
    there = [fold.name for fold in folds]
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise ConfigurationError(
            f"There is no fold {', '.join(map(repr, unknown))}."
            f"{_meant(unknown[0], there)} Found {', '.join(map(repr, there))}."
        )
    return [fold for fold in folds if fold.name in wanted or not wanted]


def _meant(name: str, there: Sequence[str]) -> str:
    """Ask after the nearest fold; the subject alone, without the word, names one."""
    alone = [fold for fold in there if name in fold.split(" ")]
    return f" Did you mean {alone[0]!r}?" if alone else did_you_mean(name, there)


def fit_folds(
    data: EmotionData, folds: list[Fold], chosen: Experiment
) -> tuple[list[Fold], dict[str, str]]:
    """Return the folds that can be trained and scored.

    Parameters
    ----------
    data : EmotionData
        In canonical order, with one label a trial.
    folds : list of Fold
        With their calibration, if any.
    chosen : Experiment

    Returns
    -------
    folds : list of Fold
    skipped : dict of str to str
        Why others are not run, by their names, where the protocol skips them.

    Raises
    ------
    DataError
        If there are others, and the protocol skips none; or if there are no others.
    """
    protocol = chosen.protocol.build()
    unfit = protocol.unfit
    skipped = _unfit_folds(data, folds) if unfit == "skip" else {}
    if len(skipped) < len(folds):
        folds = [fold for fold in folds if fold.name not in skipped]
    skippable = "unfit" in chosen.protocol.describe()
    told = {"together": unfit == "keep", "apart": protocol.takes_target}
    _check_classes(data, folds, skippable, **told)
    return folds, skipped


def _unfit_folds(
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


def _check_classes(
    data: EmotionData,
    folds: list[Fold],
    skippable: bool,
    together: bool = False,
    apart: bool = False,
) -> None:
    """Refuse folds that cannot be trained or scored.

    Parameters
    ----------
    data : EmotionData
    folds : list of Fold
    skippable : bool
        Whether the protocol can be told to skip such folds.
    together : bool
        See :func:`_unfit_folds`.
    apart : bool
        Whether those who are tested are recordings of their own.

    Raises
    ------
    DataError
        If a fold's source, validation or test part holds a single class, or the test
        part one that the source lacks; if all test parts do, where some may.
    """
    found = _unfit_folds(data, folds, together)
    if not found:
        if folds and not any(
            len(np.unique(data.labels[each.test])) > 1 for each in folds
        ):
            raise DataError(
                f"{data.inputs.name}: every one of {count(len(folds), 'part')} that is "
                f"tested holds a single class, so that none has a balanced accuracy; "
                f"expected two classes in some. Lay out longer parts, as the protocol "
                f"has it, such as fewer steps (--set protocol.steps=2); where these "
                f"are the longest, use another protocol."
            )
        return
    shown = [f"fold {name!r}: {why}" for name, why in found.items()]
    more = f"; and {count(len(shown) - 4, 'more fold')}" if len(shown) > 4 else ""
    skip = (
        "skip such folds, which the results then name (--set protocol.unfit=skip), "
        if skippable and len(found) < len(folds)  # else nothing would be left
        else ""
    )
    if apart:
        either = f"{skip}or " if skip else ""
        mend = f"{either}leave the person out of the target's recordings."
        mend = mend[0].upper() + mend[1:]
    else:
        mend = (
            f"Leave the subject out (--exclude), {skip}or lay out other folds, as the "
            f"protocol has it: fewer, of pooled sessions, another seed, or unit='time'."
        )
    raise DataError(
        f"{data.inputs.name}, {'; '.join(shown[:4])}{more}; expected at least two "
        f"classes in either part, and none in the test part that training never sees, "
        f"as accuracy means nothing otherwise. {mend}"
    )
