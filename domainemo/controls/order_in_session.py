"""The class of source trials at the same place in their session."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import TRIAL, Control, Rows
from ..registry import register
from ..words import in_order
from .shared import commonest, of_nearest

__all__ = ["OrderInSession"]


@register
class OrderInSession(Control):
    """A trial's class from its place in the session alone: first, second and so on.

    Places are those of the trials' numbers, or names, in natural order, so that it
    serves where they have gaps or differ from person to person, and `trial-index-only`
    finds nobody's. It is the commonest class among the source's trials at the nearest
    place of any session.
    """

    words = "the class of the source trials nearest in place within their session"

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
        place = _places(windows)
        known = commonest(windows.iloc[source], labels, TRIAL, place=place[source])
        return of_nearest(known["place"], known["label"], place[test])


def _places(windows: pd.DataFrame) -> NDArray[np.int64]:
    """Return the number of each window's trial within its session, from 0."""
    place = np.empty(len(windows), dtype=np.int64)
    sessions = windows.groupby(["subject", "session"], sort=True).indices
    for rows in sessions.values():
        trials = windows["trial"].iloc[rows]
        number = {trial: place for place, trial in enumerate(in_order(trials))}
        place[rows] = trials.map(number)
    return place
