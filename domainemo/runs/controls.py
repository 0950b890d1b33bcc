"""Controls on the folds of a run: what they are shown, and what they say of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Control, Fold, Inputs, Normalisation, Retraining, Rows
from ..data.normalisation import normalise
from ..parts import Part
from ..places import called, contract_error

__all__ = [
    "control_name",
    "control_probabilities",
    "is_trained",
    "relabelled",
    "retraining",
]

_SUM = 1e-3  # how far from probabilities rounding may lead


def control_name(control: Part) -> str:
    """Return what a control is called in tables."""
    return control.name.replace("-", " ")


def is_trained(control: Part) -> bool:
    """Return whether a control runs as a job, as a network does.

    What comes from outside this package does: a job knows nothing of other folds.
    """
    made = control.build()
    return control.outside or isinstance(made, Retraining) or bool(made.sees_signals)


def retraining(control: Part | None) -> Retraining | None:
    """Return a control that is a training of the network; None for any other."""
    made = None if control is None or control.kind != "control" else control.build()
    return made if isinstance(made, Retraining) else None


def relabelled(
    control: Retraining,
    windows: pd.DataFrame,
    labels: NDArray[np.int64],
    classes: int,
    seed: int,
) -> NDArray[np.int64]:
    """Return the labels that a control trains with.

    Parameters
    ----------
    control : Retraining
    windows : DataFrame
        Provenance of the windows whose labels are known.
    labels : ndarray of int, shape (len(windows),)
    classes : int
    seed : int
    """
    given = control.relabel(windows, labels.copy(), np.random.default_rng(seed))
    found = np.asarray(given)
    whole = found.shape == labels.shape and found.dtype.kind in "iu"
    if not whole or not 0 <= found.min() <= found.max() < classes:
        expected = f"a class's number, 0 to {classes - 1}, for each of {len(labels)}"
        raise contract_error(control, "relabel", called(given), f"{expected} windows")
    return found.astype(np.int64)


def control_probabilities(
    control: Control,
    inputs: Inputs,
    normalisation: str | Normalisation,
    fold: Fold,
    labelled: Rows,
    labels: NDArray[np.int64],
    members: Rows,
    classes: int,
) -> NDArray[np.float32]:
    """Return what a control makes of samples: the mean over the windows of each.

    Parameters
    ----------
    control : Control
    inputs : Inputs
        All windows. They are normalised as for the network.
    normalisation : str or Normalisation
    fold : Fold
    labelled : ndarray of int
        The windows whose labels are known, of the source and of calibration.
    labels : ndarray of int, shape (len(labelled),)
    members : ndarray of int, shape (samples, time)
        Windows of each sample to predict, none of the source's; -1 where padded.
    classes : int

    Returns
    -------
    ndarray of float, shape (samples, classes)
    """
    values = np.empty((len(inputs), 0))
    if control.sees_signals:
        values = _side_by_side(inputs, normalisation, fold)
    tested = np.unique(members[members >= 0])
    target = fold.target if control.adapts else fold.target[:0]
    given = control.predict(inputs.windows, labelled, labels, target, tested, values)
    by_window = np.zeros((len(inputs), classes))
    # It counts classes from 0, and knows nothing of those after the source's last.
    least = int(labels.max(initial=-1)) + 1
    known = _probabilities(control, given, len(tested), classes, least)
    by_window[tested, : known.shape[1]] = known
    weights = (members >= 0)[..., None]
    averaged = (by_window[members] * weights).sum(1) / weights.sum(1)
    return np.asarray(averaged, dtype=np.float32)


def _probabilities(
    control: Control, given: object, tested: int, classes: int, least: int
) -> NDArray[Any]:
    """Return what a control predicts of each tested window, as probabilities.

    Of `least` classes at the least.
    """
    expected = (
        f"an array with a class's number, 0 to {classes - 1}, or the probabilities "
        f"of all {classes} classes, in order, for each of {tested} windows"
    )
    try:
        found = np.asarray(given)
    except ValueError as error:  # rows of several lengths
        shown = f"{called(given)} that is no array ({error})"
        raise contract_error(control, "predict", shown, expected) from error
    if found.ndim == 1 and found.dtype.kind in "iu":
        if len(found) and not 0 <= found.min() <= found.max() < classes:
            shown = f"classes from {found.min()} to {found.max()}"
            raise contract_error(control, "predict", shown, expected)
        found = np.eye(classes)[found]
    if found.ndim != 2 or len(found) != tested or found.shape[1] > classes:
        raise contract_error(control, "predict", called(given), expected)
    if found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        shown = f"{called(found)}, not all of it finite numbers"
        raise contract_error(control, "predict", shown, expected)
    off = np.maximum(abs(found.sum(1) - 1), -found.min(1, initial=0.0))
    if (off > _SUM).any():
        at = int(off.argmax())
        shown = f"{found[at].tolist()} for window {at}, which are no probabilities"
        raise contract_error(control, "predict", shown, expected)
    if found.shape[1] < least:  # of which ones, nobody could tell
        raise contract_error(control, "predict", called(found), expected)
    return found.clip(min=0)


def _side_by_side(
    inputs: Inputs, normalisation: str | Normalisation, fold: Fold
) -> NDArray[np.float64]:
    """Return all modalities side by side, in the one array that a solver works on."""
    widths = [array[0].size for array in inputs.signals.values()]
    values = np.empty((len(inputs), sum(widths)))
    edges = np.cumsum(widths)[:-1]
    parts = np.split(values, edges, axis=1)
    out = {
        name: part.reshape(array.shape)  # a view
        for (name, array), part in zip(inputs.signals.items(), parts, strict=True)
    }
    normalise(inputs, normalisation, source=fold.source, target=fold.seen, out=out)
    return values
