"""Linear discriminant analysis with shrinkage: a strong plain model for few windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Control, Rows
from ..registry import register
from .shared import as_probabilities, moved_to_front, standardise

__all__ = ["ShrinkageLDA"]


@register(name="shrinkage-lda")
class ShrinkageLDA(Control):
    """Linear discriminant analysis with shrinkage, without adaptation.

    The classes share a covariance, the mean of theirs, each shrunk as far as Ledoit &
    Wolf (2004) find best; they have equal shares. As usual in brain-computer interfaces
    (Blankertz et al. 2011). Standardised by the source, whose mean stands for what is
    missing.
    """

    words = "linear discriminants with a shrunk covariance, without adaptation"
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
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        tested = values[test]
        train = moved_to_front(values, source)
        standardise(train, tested)
        count = len(np.unique(labels))
        model = LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage="auto", priors=np.full(count, 1 / count)
        )
        model.fit(train, labels)
        return as_probabilities(model, tested, labels)
