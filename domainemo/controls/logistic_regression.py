"""Logistic regression on normalised windows: what a plain model gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Control, Rows
from ..registry import register

__all__ = ["LogisticRegression"]

# The same for all data; of 1, 0.1, 0.01 and 0.001 the best on eegmat and within a half
# point of the best on simulated recordings (seed 1): a choice in the baseline's favour.
_INVERSE_PENALTY = 0.01

_TOGETHER = 1024  # windows that are moved at once
_COLUMNS = 8  # features that are standardised at once


@register
class LogisticRegression(Control):
    """A linear model of the same normalised windows, without adaptation.

    They are standardised by the source; what is missing counts as the source's mean.
    """

    words = "a linear model on the same normalised features, without adaptation"
    sees_signals = True

    def predict(
        self,
        windows: pd.DataFrame,
        source: Rows,
        labels: NDArray[np.int64],
        test: Rows,
        values: NDArray[np.float64],
    ) -> NDArray[Any]:
        """Return each window's probabilities."""
        from sklearn import linear_model

        tested = values[test]
        train = _moved_to_front(values, source)
        _standardise(train, tested)
        model = linear_model.LogisticRegression(
            C=_INVERSE_PENALTY, class_weight="balanced", max_iter=2000
        )
        model.fit(train, labels)
        probabilities = np.zeros((len(test), labels.max() + 1))
        probabilities[:, model.classes_] = model.predict_proba(tested)
        return probabilities


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
