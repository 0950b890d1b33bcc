"""Metrics of predicted class probabilities against true labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError

__all__ = [
    "BINS",
    "LOWER",
    "METRICS",
    "SHOWN",
    "auroc",
    "by_chance",
    "calibration_error",
    "confidence_bins",
    "log_loss",
    "metrics",
    "selective_accuracy",
]

SHOWN = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "kappa",
    "auroc",
    "calibration_error",
)
"""What a report shows; every table has all of `METRICS`."""

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "kappa",
    "calibration_error",
    "auroc",
    "log_loss",
    "selective_accuracy",
)

LOWER = ("calibration_error", "log_loss")
"""Of which a lower value is the better one."""

BINS = 10
"""Of confidence, for calibration."""

_DECIMALS = 9  # to which means of the same values agree, whatever their order
_LEAST = 1e-7  # about what single precision can tell from a certain prediction


def metrics(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> dict[str, float]:
    """Return every metric of `METRICS`.

    Averages over classes are over those present in `labels`. Where that is a single
    class, accuracy says nothing that a constant answer does not reach: balanced
    accuracy, macro F1, kappa and AUROC are NaN.

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
    # All that is counted is read off one matrix: scikit-learn's functions count anew
    # for each, and tables are made of thousands.
    classes = probabilities.shape[1]
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, probabilities.argmax(1)), 1)
    found = {
        "accuracy": float(np.trace(counts) / len(labels)),
        "balanced_accuracy": float("nan"),
        "macro_f1": float("nan"),
        "kappa": float("nan"),
        "calibration_error": calibration_error(labels, probabilities),
        "auroc": auroc(labels, probabilities),
        "log_loss": log_loss(labels, probabilities),
        "selective_accuracy": selective_accuracy(labels, probabilities),
    }
    right, true, told = np.diag(counts), counts.sum(1), counts.sum(0)
    present = true > 0
    if present.sum() > 1:
        recall = right[present] / true[present]
        f1 = 2 * right[present] / (true + told)[present]
        chance = (true * told).sum() / len(labels) ** 2
        found["balanced_accuracy"] = float(recall.mean())
        found["macro_f1"] = float(f1.mean())
        found["kappa"] = float((found["accuracy"] - chance) / (1 - chance))
    return found


def by_chance(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Return the balanced accuracy of the same answers, dealt at random over samples.

    One over the number of classes where all are there to be predicted. Of a person who
    lacks some it is more, up to one over the number that there are, the fewer answers
    go to those that are not.

    Parameters
    ----------
    labels, predicted : ndarray of int, shape (samples,)

    Returns
    -------
    float
        NaN where a single class is present, as of balanced accuracy.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return float("nan")
    return float(np.isin(predicted, present).mean() / len(present))


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
    bins = confidence_bins(confidence)
    gaps = np.bincount(bins, confidence - correct, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def confidence_bins(confidence: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the bin of each confidence, of ten equal ones, each with its upper end.

    Parameters
    ----------
    confidence : ndarray of float, shape (samples,)
    """
    tenths = np.round((confidence * BINS).astype(np.float64), _DECIMALS)
    return np.clip(np.ceil(tenths).astype(np.int64) - 1, 0, BINS - 1)


def auroc(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> float:
    """Return the area under the ROC curve, each class against the rest, their mean.

    Parameters
    ----------
    labels : ndarray of int, shape (samples,)
    probabilities : ndarray of float, shape (samples, classes)

    Returns
    -------
    float
        Over the classes present; NaN where there is one alone.
    """
    present, true = np.unique(labels, return_counts=True)
    if len(present) < 2:
        return float("nan")
    # By Mann and Whitney: the mean rank of the class among all, ties in between.
    rounded = np.round(probabilities[:, present].astype(np.float64), _DECIMALS)
    ranks = np.stack([_ranks(column) for column in rounded.T], axis=1)
    sums = np.where(labels[:, None] == present, ranks, 0).sum(0)
    areas = (sums - true * (true + 1) / 2) / (true * (len(labels) - true))
    return float(areas.mean())


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each value's rank, ties in between; NaN for all where one is NaN.

    As `scipy.stats.rankdata`, whose import takes longer than a small job's training.
    """
    if np.isnan(values).any():
        return np.full(len(values), np.nan)
    _, which, ties = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(ties) - (ties - 1) / 2)[which])


def log_loss(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> float:
    """Return the mean negative logarithm of the true class's probability.

    A probability below 1e-7 counts as that, so that one certain error is not infinite.

    Parameters
    ----------
    labels : ndarray of int, shape (samples,)
    probabilities : ndarray of float, shape (samples, classes)
    """
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(true, _LEAST, 1)).mean())


def selective_accuracy(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> float:
    """Return the accuracy of the half of the predictions that are most confident.

    Of an odd number, the larger half. Of predictions as confident as its last one,
    every choice counts alike.

    Parameters
    ----------
    labels : ndarray of int, shape (samples,)
    probabilities : ndarray of float, shape (samples, classes)
    """
    confidence = np.round(probabilities.max(1).astype(np.float64), _DECIMALS)
    right = probabilities.argmax(1) == labels
    half = (len(labels) + 1) // 2
    last = np.sort(confidence)[-half]
    above, tied = confidence > last, confidence == last
    chosen = right[above].sum() + (half - above.sum()) * right[tied].mean()
    return float(chosen / half)
