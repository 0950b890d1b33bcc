"""Logistic regression on normalised windows: what a plain model gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Control, Rows
from ..registry import register
from .shared import linear_probabilities, moved_to_front, standardise

__all__ = ["LogisticRegression"]


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
        target: Rows,
        test: Rows,
        values: NDArray[np.float64],
    ) -> NDArray[Any]:
        """Return each window's probabilities."""
        tested = values[test]
        train = moved_to_front(values, source)
        standardise(train, tested)
        return linear_probabilities(train, tested, labels)
