"""The class of the clip that a window looks like: how far clips are recognised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Control, Rows
from ..registry import register
from .shared import commonest, moved_to_front, standardise

__all__ = ["ClipIdentity"]


@register
class ClipIdentity(Control):
    """The label of the source's stimulus whose windows are, in the mean, nearest.

    It knows stimuli, and no emotion. Where people have seen the same clips, it finds
    the clip, and looks its label up; where the tested clip is new, it finds another
    one, whose label is right as far as clips of one class look alike. What it loses
    from seen to unseen stimuli is what recognising clips is worth on these recordings.

    Standardised by the source, whose mean stands for what is missing; the distance is
    Euclidean.
    """

    words = "the label of the source's stimulus whose mean window is nearest"
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
        """Return each window's class."""
        from scipy.spatial.distance import cdist

        tested = values[test]
        clips = commonest(windows.iloc[source], labels, ["stimulus"])
        number = pd.Index(clips["stimulus"]).get_indexer(
            windows["stimulus"].iloc[source]
        )
        train = moved_to_front(values, source)
        standardise(train, tested)
        means = pd.DataFrame(train).groupby(number).mean().to_numpy()
        nearest = cdist(tested, means, "sqeuclidean").argmin(1)
        return np.asarray(clips["label"].to_numpy()[nearest])
