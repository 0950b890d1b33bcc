"""The class of source trials that are as long: what a clip's duration gives away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Control, Rows
from ..registry import register

__all__ = ["ClipDurationOnly"]

_TRIAL = ["subject", "session", "trial"]


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
        length = windows.groupby(_TRIAL)["start"].transform("size").to_numpy()
        learned = windows.iloc[source][_TRIAL].assign(
            label=labels, length=length[source]
        )
        trials = learned.groupby(_TRIAL).agg({"label": _commonest, "length": "first"})
        lengths, known = trials["length"].to_numpy(), trials["label"].to_numpy()
        asked = length[test]
        table = np.empty(int(asked.max()) + 1, dtype=np.int64)
        for length in np.unique(asked):
            distance = np.abs(lengths - length)
            table[length] = np.bincount(known[distance == distance.min()]).argmax()
        return np.asarray(table[asked])


def _commonest(labels: pd.Series) -> int:
    return int(np.bincount(labels).argmax())
