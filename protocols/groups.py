"""Groups of names, drawn; and the windows of those who train as well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from domainemo.core import Rows
from domainemo.words import in_order

__all__ = ["drawn_groups", "of_known"]


def drawn_groups(names: Iterable[Any], number: int, *seed: int) -> list[list[Any]]:
    """Return groups of names, each name in one; their sizes differ by one at most.

    Parameters
    ----------
    names : iterable
        In any order, and some perhaps several times.
    number : int
        How many groups, at most as many as there are names.
    *seed : int

    Returns
    -------
    list of list
        In natural order, within a group, and of the groups by their first names.
    """
    known = in_order(names)
    drawn = np.random.default_rng(seed).permutation(len(known))
    parts = sorted(sorted(part.tolist()) for part in np.array_split(drawn, number))
    return [[known[place] for place in part] for part in parts]


def of_known(windows: pd.DataFrame, rows: Rows, source: Rows) -> Rows:
    """Return those of `rows` whose subjects have windows in the source, too.

    Parameters
    ----------
    windows : DataFrame
        Provenance of all windows.
    rows, source : ndarray of int
    """
    subjects = windows["subject"].to_numpy()
    return rows[np.isin(subjects[rows], subjects[source])]
