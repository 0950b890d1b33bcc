"""Names divided into groups: by a draw that knows nothing of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from domainemo.words import in_order

__all__ = ["drawn_groups"]


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
