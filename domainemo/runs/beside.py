"""Two recordings laid side by side: one that trains, one that is adapted to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import PROVENANCE, EmotionData, Inputs, Rows, spelling
from ..data.joining import widest
from ..data.labels import check_trials
from ..data.matching import match, step_of
from ..data.normalisation import check_enough, scales_of
from ..errors import DomainemoWarning, data_error
from .checks import check_modalities, check_signals, ordered, select_modalities
from .experiment import Experiment

__all__ = ["Beside", "check_source", "lay_beside"]


@dataclass(frozen=True)
class Beside:
    """Both recordings as one: the source's windows, and the target's behind them.

    Attributes
    ----------
    inputs : Inputs
        The target's people, sessions, trials and stimuli have new names here.
    windows : DataFrame
        Provenance as both recordings have it, and in the column ``new`` whose it is.
    source : EmotionData
        As it stands in `inputs`.
    target : ndarray of int
        The number among the given target's windows of each that stands in `inputs`.
    target_name : str
        What the target is, and which of its electrodes are interpolated.
    """

    inputs: Inputs
    windows: pd.DataFrame
    source: EmotionData
    target: Rows
    target_name: str

    @property
    def shown(self) -> pd.DataFrame:
        """Where windows come from, as tables say it."""
        return self.windows.drop(columns="new")


def lay_beside(source: EmotionData, target: Inputs, chosen: Experiment) -> Beside:
    """Fit a target's recordings to a source's, and lay both side by side.

    Parameters
    ----------
    source : EmotionData
    target : Inputs
        Its subjects, sessions, trials and stimuli are its own, whatever they are
        called. Modalities, channels and features are found by name.
    chosen : Experiment
        Which modalities and subjects of the source are used.

    Raises
    ------
    ConfigurationError, DataError
        For what cannot be trained on, or adapted to.

    Warns
    -----
    DomainemoWarning
        Of whatever the target lacks or has besides.
    """
    inputs = select_modalities(source.inputs, chosen.modalities)
    deselected = set(source.inputs.modalities) - set(inputs.modalities)
    source = replace(source, inputs=inputs).take(ordered(inputs, chosen.exclude))
    theirs = _fitted(_without(target, deselected), source.inputs)
    inputs = select_modalities(source.inputs, tuple(theirs.modalities))
    source = replace(source, inputs=inputs)
    rows = ordered(theirs)
    theirs = theirs.take(rows)
    check_source(source, chosen)
    _check_target(theirs, chosen)
    joined, shown = _side_by_side(source.inputs, theirs)
    new = np.arange(len(joined)) >= len(source)
    return Beside(joined, shown.assign(new=new), source, rows, theirs.name)


def check_source(source: EmotionData, chosen: Experiment) -> None:
    """Refuse labelled recordings that nothing can be learnt from."""
    check_trials(source)
    check_modalities(source.inputs)
    check_signals(source.inputs)
    there = np.unique(source.labels)
    if len(there) < 2:
        raise data_error(
            f"{source.inputs.name}, labels",
            f"the single class {source.classes[there[0]]!r}",
            "at least two classes to tell apart",
            "Give recordings of others, too.",
        )
    _check_enough(source.inputs, chosen)


def _check_target(inputs: Inputs, chosen: Experiment) -> None:
    """Refuse people of whom nothing is there, or nothing is left."""
    check_modalities(inputs)
    check_signals(
        inputs, "Interpolate it, or leave it out for all (--exclude-channels)."
    )
    _check_enough(inputs, chosen)


def _check_enough(inputs: Inputs, chosen: Experiment) -> None:
    check_enough(
        inputs,
        chosen.build_normalisation().by,
        [np.ones(len(inputs), dtype=bool)],
        remedy="Bring a longer recording, or choose another normalisation ({others}).",
    )


def _without(inputs: Inputs, deselected: set[str]) -> Inputs:
    """Return recordings without modalities that nobody wants of the source either."""
    out = set(map(spelling, deselected))
    left = [name for name in inputs.modalities if spelling(name) not in out]
    return select_modalities(inputs, tuple(left))


def _fitted(target: Inputs, source: Inputs) -> Inputs:
    """Return the target's recordings in the form of the source's.

    Without the modalities that they lack: what has not been recorded of anybody whom it
    is to serve is not trained on.
    """
    found = match(
        target,
        source.modalities,
        wanted_of=source.name,
        step=step_of(source.windows),
        scales=scales_of(source, np.arange(len(source))),
    )
    for sentence in (*found.warnings, *found.notes):
        warnings.warn(sentence, DomainemoWarning, stacklevel=4)
    there = [n for n, a in found.inputs.signals.items() if not np.isnan(a).all()]
    return select_modalities(found.inputs, tuple(there))


def _side_by_side(source: Inputs, target: Inputs) -> tuple[Inputs, pd.DataFrame]:
    """Return both as one, and its provenance as tables say it.

    The target stands behind. Inside, its names are replaced by others of the source's
    kind in the same order, none of which the source has: the same number, or the same
    word, does not make the same person.
    """
    apart = {
        column: _apart(source.windows[column], target.windows[column])
        for column in PROVENANCE[:-1]
    }
    tables = source.windows, target.windows.assign(**apart)
    joined = Inputs(
        {
            name: np.concatenate([array, target.signals[name]])
            for name, array in source.signals.items()
        },
        pd.concat(tables, ignore_index=True),
        # Which windows overlap depends on the longest.
        {
            name: replace(each, span=widest([each, target.modalities[name]]))
            for name, each in source.modalities.items()
        },
        source.name,
        # Of the source, all labels are known.
        target.labelled_trials,
    )
    shown = pd.concat([source.windows, target.windows], ignore_index=True)
    return joined, shown


def _apart(known: pd.Series[Any], given: pd.Series[Any]) -> NDArray[Any]:
    """Return names of the same order for `given`, of the kind of `known`, all new."""
    codes = pd.factorize(given, sort=True)[0]
    if known.dtype.kind in "iu":
        last = int(known.max())
        room = last + len(codes) < np.iinfo(np.int64).max
        first = last + 1 if room else int(known.min()) - len(codes) - 1
        return np.asarray(first + codes, dtype=np.int64)
    taken = set(known.astype(str).str.casefold())
    word = "new"
    while any(name.startswith(word) for name in taken):
        word += "-new"
    return np.array([f"{word} {code:09d}" for code in codes], dtype=object)
