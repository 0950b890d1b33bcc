"""The class of source trials that are as long: what a clip's duration gives away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, Control, Rows
from ..registry import register
from .shared import commonest, of_nearest

__all__ = ["ClipDurationOnly"]


@register
class ClipDurationOnly(Control):
    """A trial's class from its number of windows alone.

    It is the commonest one among the source trials whose length is nearest.
    """

    words = "the class of the source trials of nearest length"

    def predict(
        self,
        windows: pd.DataFrame,
        source: Rows,
        labels: NDArray[np.int64],
        target: Rows,
        test: Rows,
        values: NDArray[np.float64],
    ) -> NDArray[Any]:
        """Return one class for all windows of a trial."""
        # A trial's length is that of the whole trial, also where a part is held out.
        length = windows.groupby(TRIAL)["start"].transform("size").to_numpy()
        known = commonest(windows.iloc[source], labels, TRIAL, length=length[source])
        return of_nearest(known["length"], known["label"], length[test])
