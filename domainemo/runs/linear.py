"""Logistic regression on normalised windows: what a plain model gets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core import Fold, Inputs, Normalisation, Rows
from ..data.normalisation import normalise

__all__ = ["LINEAR", "linear_probabilities"]

LINEAR = "logistic regression"
"""The name under which it stands beside a result."""

# The same for all data; of 1, 0.1, 0.01 and 0.001 the best on eegmat and within a half
# point of the best on simulated recordings (seed 1): a choice in the baseline's favour.
_INVERSE_PENALTY = 0.01

_TOGETHER = 1024  # windows that are moved at once
_COLUMNS = 8  # features that are standardised at once


def linear_probabilities(
    inputs: Inputs,
    normalisation: str | Normalisation,
    fold: Fold,
    labelled: Rows,
    labels: NDArray[np.int64],
    members: Rows,
    classes: int,
) -> NDArray[np.float32]:
    """Train on the source's windows; average a sample's windows.

    Parameters
    ----------
    inputs : Inputs
        All windows. They are normalised as for the network, and then standardised by
        the source; what is missing counts as the source's mean.
    normalisation : str or Normalisation
    fold : Fold
    labelled : ndarray of int
        The windows of the source whose labels are known.
    labels : ndarray of int, shape (len(labelled),)
    members : ndarray of int, shape (samples, time)
        Windows of each sample to predict, none of the source's; -1 where padded.
    classes : int

    Returns
    -------
    ndarray of float, shape (samples, classes)
    """
    from sklearn.linear_model import LogisticRegression

    features = _features(inputs, normalisation, fold)
    tested = np.unique(members[members >= 0])
    test = features[tested]
    train = _moved_to_front(features, labelled)
    _standardise(train, test)
    model = LogisticRegression(
        C=_INVERSE_PENALTY, class_weight="balanced", max_iter=2000
    )
    model.fit(train, labels)
    by_window = np.zeros((len(inputs), classes))
    by_window[np.ix_(tested, model.classes_)] = model.predict_proba(test)
    weights = (members >= 0)[..., None]
    averaged = (by_window[members] * weights).sum(1) / weights.sum(1)
    return np.asarray(averaged, dtype=np.float32)


def _features(inputs: Inputs, normalisation: str | Normalisation, fold: Fold) -> NDArray[np.float64]:
    """Return all modalities side by side, in the one array that the solver works on."""
    widths = [array[0].size for array in inputs.signals.values()]
    features = np.empty((len(inputs), sum(widths)))
    edges = np.cumsum(widths)[:-1]
    parts = np.split(features, edges, axis=1)
    out = {
        name: part.reshape(array.shape)  # a view
        for (name, array), part in zip(inputs.signals.items(), parts, strict=True)
    }
    normalise(inputs, normalisation, source=fold.source, target=fold.target, out=out)
    return features


def _moved_to_front(features: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
    """Return some rows as the beginning of the array, whose other rows are lost."""
    if (np.diff(rows) <= 0).any():
        return features[rows]
    # No row is overwritten before it was moved, as none moves back.
    for start in range(0, len(rows), _TOGETHER):
        some = rows[start : start + _TOGETHER]
        features[start : start + len(some)] = features[some]
    return features[: len(rows)]


def _standardise(train: NDArray[np.float64], test: NDArray[np.float64]) -> None:
    """Standardise both by the first, in the precision of the recordings."""
    from sklearn.preprocessing import StandardScaler

    width = train.shape[1]
    for columns in np.array_split(np.arange(width), max(width // _COLUMNS, 1)):
        block = slice(columns[0], columns[-1] + 1)
        # A feature that the source lacks altogether stays NaN, and then counts as zero.
        with np.errstate(invalid="ignore", over="ignore"):
            scaler = StandardScaler().fit(train[:, block].astype(np.float32))
            for part in (train, test):
                values = scaler.transform(part[:, block].astype(np.float32))
                if np.isinf(values).any():  # where the source hardly varies
                    values = scaler.transform(part[:, block])
                part[:, block] = np.nan_to_num(values)
