"""Gradient-boosted trees on normalised windows: a strong plain model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Control, Rows
from ..registry import register
from .shared import as_probabilities, moved_to_front

__all__ = ["GradientBoosting"]


@register
class GradientBoosting(Control):
    """Gradient-boosted trees of the same normalised windows, without adaptation.

    scikit-learn's histogram trees (after Ke et al. 2017) as they are by default, but
    without early stopping: 100 rounds for all data, however many windows. What is
    missing stays so, and trees branch on it. Probabilities are those for classes of
    equal shares, ``p(c) / share(c)`` up to a factor (Saerens et al. 2002): weighted
    windows would take the trees many times as long.
    """

    words = "gradient-boosted trees on the same features, without adaptation"
    sees_signals = True

    def predict(
        self,
        windows: pd.DataFrame,
        source: Rows,
        labels: NDArray[np.int64],
        target: Rows,
        test: Rows,
        values: NDArray[np.float64],
    ) -> NDArray[Any]:
        """Return each window's probabilities."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits

        tested = values[test]
        train = moved_to_front(values, source)
        model = HistGradientBoostingClassifier(early_stopping=False, random_state=0)
        # Folds run beside each other, and a sum has one order.
        with threadpool_limits(1, user_api="openmp"):
            model.fit(train, labels)
            found = as_probabilities(model, tested, labels)
        found /= np.maximum(np.bincount(labels), 1)
        return np.asarray(found / found.sum(1, keepdims=True))
