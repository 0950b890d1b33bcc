"""Metrics of predicted class probabilities against true labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError

__all__ = ["METRICS", "calibration_error", "metrics"]

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "kappa", "calibration_error")

_BINS = 10


def metrics(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> dict[str, float]:
    """Return every metric of `METRICS`.

    Averages over classes are over those present in `labels`. Where that is a single
    class, accuracy says nothing that a constant answer does not reach: balanced
    accuracy, macro F1 and kappa are NaN.

    Parameters
    ----------
    labels : ndarray of int, shape (samples,)
    probabilities : ndarray of float, shape (samples, classes)

    Raises
    ------
    RunError
        If a probability is not finite: there is no prediction to score.
    """
    if not np.isfinite(probabilities).all():
        raise RunError(
            "Predicted probabilities are not all finite, so that they cannot be "
            "scored: what predicted them has diverged."
        )
    from sklearn.metrics import (
        accuracy_score,
        cohen_kappa_score,
        f1_score,
        recall_score,
    )

    predicted = probabilities.argmax(1)
    present = np.unique(labels)
    averaged = {"labels": present, "average": "macro", "zero_division": 0}
    found = {
        "accuracy": float(accuracy_score(labels, predicted)),
        "balanced_accuracy": float("nan"),
        "macro_f1": float("nan"),
        "kappa": float("nan"),
        "calibration_error": calibration_error(labels, probabilities),
    }
    if len(present) > 1:
        found["balanced_accuracy"] = float(recall_score(labels, predicted, **averaged))
        found["macro_f1"] = float(f1_score(labels, predicted, **averaged))
        found["kappa"] = float(cohen_kappa_score(labels, predicted))
    return found


def calibration_error(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> float:
    """Return the expected calibration error in ten equal bins (Guo et al., 2017).

    Parameters
    ----------
    labels : ndarray of int, shape (samples,)
    probabilities : ndarray of float, shape (samples, classes)
    """
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    gaps = np.bincount(bins, confidence - correct, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(labels))
