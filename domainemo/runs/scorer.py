"""The one place where target labels meet predictions, after every model is final."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import EmotionData
from ..training.batches import majority_label
from .job import Record
from .metrics import metrics

__all__ = ["oracle_epoch", "prediction_rows", "score_rows"]

_TRIAL = ["subject", "session", "trial"]


def prediction_rows(data: EmotionData, record: Record) -> pd.DataFrame:
    """Return a row per predicted sample: provenance, label, probabilities.

    Parameters
    ----------
    data : EmotionData
        All recordings, in canonical order.
    record : Record
        Of one finished job.
    """
    members = record.members
    windows = data.inputs.windows.iloc[members[:, 0]].reset_index(drop=True)
    labels = majority_label(members, data.labels)
    probabilities = {
        f"p_{name}": record.probabilities[:, index]
        for index, name in enumerate(data.classes)
    }
    return windows.assign(
        windows=(members >= 0).sum(1),
        label=labels,
        predicted=record.probabilities.argmax(1),
        **probabilities,
    )


def score_rows(
    predictions: pd.DataFrame, level: str, classes: int
) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield level, number of samples and metrics: per sample, and per trial.

    A trial's prediction is the mean of its samples' probabilities (``"trial"``), or
    their vote (``"trial, majority"``).

    Parameters
    ----------
    predictions : DataFrame
        Of one fold and one seed, from `prediction_rows`.
    level : str
        What one row is.
    classes : int
    """
    columns = [name for name in predictions.columns if name.startswith("p_")]
    probabilities = predictions[columns].to_numpy()
    labels = predictions["label"].to_numpy()
    yield level, len(labels), metrics(labels, probabilities)
    if level == "trial":
        return
    # Where a vote is tied, the more probable class wins, not the first.
    votes = np.eye(classes)[predictions["predicted"]] + 1e-6 * probabilities
    votes /= votes.sum(1, keepdims=True)
    codes = predictions.groupby(_TRIAL, sort=True).ngroup().to_numpy()
    truth = _per_group(codes, np.eye(classes)[labels]).argmax(1)
    for name, values in (("trial", probabilities), ("trial, majority", votes)):
        averaged = _per_group(codes, values)
        yield name, len(truth), metrics(truth, averaged)


def oracle_epoch(data: EmotionData, record: Record) -> int:
    """Return the epoch, from 1, whose predictions agree best with the test labels.

    This is what much of the field reports; here it is for diagnosis only.
    """
    labels = majority_label(record.members, data.labels)
    scores = [metrics(labels, epoch)["balanced_accuracy"] for epoch in record.trace]
    return int(np.argmax(scores)) + 1


def _per_group(
    codes: NDArray[np.integer], values: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the mean of `values` of shape (samples, classes) within each group."""
    sums = np.zeros((codes.max() + 1, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums / np.bincount(codes)[:, None]
