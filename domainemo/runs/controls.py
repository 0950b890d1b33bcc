"""Controls: predictors that know next to nothing, on the same folds.

A result that does not beat them is hollow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import Rows

__all__ = ["CONTROLS", "clip_duration", "majority_class"]

_TRIAL = ["subject", "session", "trial"]


def majority_class(
    windows: pd.DataFrame, source: Rows, source_labels: NDArray[np.int64], test: Rows
) -> NDArray[np.int64]:
    """Predict the source's commonest class for every test window."""
    return np.full(len(test), np.bincount(source_labels).argmax())


def clip_duration(
    windows: pd.DataFrame, source: Rows, source_labels: NDArray[np.int64], test: Rows
) -> NDArray[np.int64]:
    """Predict a trial's class from its number of windows alone.

    The label is the commonest one among the source trials whose length is nearest.

    Parameters
    ----------
    windows : DataFrame
        Provenance of all windows.
    source, test : ndarray of int
    source_labels : ndarray of int, shape (len(source),)

    Returns
    -------
    ndarray of int, shape (len(test),)
    """
    # A trial's length is that of the whole trial, also where a part is held out.
    length = windows.groupby(_TRIAL)["start"].transform("size").to_numpy()
    known = windows.iloc[source][_TRIAL].assign(
        label=source_labels, length=length[source]
    )
    trials = known.groupby(_TRIAL).agg({"label": _commonest, "length": "first"})
    lengths, labels = trials["length"].to_numpy(), trials["label"].to_numpy()
    asked = length[test]
    table = np.empty(int(asked.max()) + 1, dtype=np.int64)
    for length in np.unique(asked):
        distance = np.abs(lengths - length)
        table[length] = np.bincount(labels[distance == distance.min()]).argmax()
    return np.asarray(table[asked])


def _commonest(labels: pd.Series) -> int:
    return int(np.bincount(labels).argmax())


Control = Callable[[pd.DataFrame, Rows, NDArray[np.int64], Rows], NDArray[np.int64]]

CONTROLS: Mapping[str, Control] = {
    "majority class": majority_class,
    "clip duration only": clip_duration,
}
"""Controls by the name under which they stand beside a result."""
