"""Logistic regression on normalised windows: what a plain model gets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core import Fold, Inputs, Rows

__all__ = ["LINEAR", "linear_probabilities"]

LINEAR = "logistic regression"
"""The name under which it stands beside a result."""

# The same for all data; of 1, 0.1, 0.01 and 0.001 the best on eegmat and within a half
# point of the best on simulated recordings (seed 1): a choice in the baseline's favour.
_INVERSE_PENALTY = 0.01


def linear_probabilities(
    normalised: Inputs,
    fold: Fold,
    source_labels: NDArray[np.int64],
    members: Rows,
    classes: int,
) -> NDArray[np.float32]:
    """Train on the source's windows; average a sample's windows.

    Parameters
    ----------
    normalised : Inputs
        All windows, normalised as for the network, and then standardised by the
        source; what is missing counts as the source's mean.
    fold : Fold
    source_labels : ndarray of int, shape (len(fold.source),)
    members : ndarray of int, shape (samples, time)
        Windows of each sample to predict, -1 where padded.
    classes : int

    Returns
    -------
    ndarray of float, shape (samples, classes)
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    features = np.concatenate(
        [array.reshape(len(normalised), -1) for array in normalised.signals.values()],
        axis=1,
    )
    # A feature that the source lacks altogether stays NaN, and then counts as zero.
    with np.errstate(invalid="ignore", over="ignore"):
        scaler = StandardScaler().fit(features[fold.source])
        scaled = scaler.transform(features)
        if np.isinf(scaled).any():  # beyond float32, where the source hardly varies
            scaled = scaler.transform(features.astype(np.float64))
        features = np.nan_to_num(scaled).astype(np.float64)
    model = LogisticRegression(
        C=_INVERSE_PENALTY, class_weight="balanced", max_iter=2000
    )
    model.fit(features[fold.source], source_labels)
    by_window = np.zeros((len(normalised), classes))
    by_window[:, model.classes_] = model.predict_proba(features)
    weights = (members >= 0)[..., None]
    averaged = (by_window[members] * weights).sum(1) / weights.sum(1)
    return np.asarray(averaged, dtype=np.float32)
