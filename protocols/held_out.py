"""A part of the target that training never sees, chosen from provenance alone."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd

from domainemo.core import Rows
from domainemo.errors import DataError
from domainemo.values import Bounds

__all__ = ["HeldOut", "Unfit", "Unit", "divide"]

Unit = Literal["trial", "time"]
Unfit = Literal["refuse", "skip"]
HeldOut = Annotated[
    float,
    Bounds(
        least=0,
        below=1,
        words="a share from 0 (transductive: the whole target is seen unlabelled) to "
        "below 1",
    ),
]


def divide(
    windows: pd.DataFrame, rows: Rows, *, held_out: float, unit: Unit, seed: int
) -> tuple[Rows, Rows]:
    """Divide a fold's target into the part training may see and the part it tests.

    Parameters
    ----------
    windows : DataFrame
        Provenance of all windows.
    rows : ndarray of int
        The target's windows.
    held_out : float
        Share that is held out; 0 returns `rows` twice (transductive).
    unit : {"trial", "time"}
        Whole trials, drawn at random, or the end of every trial.
    seed : int
        For the draw of trials.

    Returns
    -------
    target, test : ndarray of int

    Raises
    ------
    DataError
        If too few trials or windows are left on either side.
    """
    if held_out == 0:
        return rows, rows
    part = windows.iloc[rows]
    if unit == "time":
        place = part.groupby(["subject", "session", "trial"])["start"]
        rank = place.rank(method="first").to_numpy() - 1
        kept = place.transform("size").to_numpy() * (1 - held_out)
        tested = rank >= np.round(kept, 9)  # 10 * (1 - 0.7) is a little above 3
    else:
        keys = part[["session", "trial"]]
        trials = keys.drop_duplicates().sort_values(["session", "trial"])
        count = min(max(round(held_out * len(trials)), 1), len(trials) - 1)
        chosen = np.random.default_rng(seed).permutation(len(trials))[:count]
        picked = pd.MultiIndex.from_frame(trials.iloc[chosen])
        tested = pd.MultiIndex.from_frame(keys).isin(picked)
    if tested.all() or not tested.any():
        raise DataError(
            f"Holding out {held_out:.0%} of the target by {unit} leaves nothing on one "
            f"side: subject {part['subject'].iloc[0]} has {len(part)} windows in "
            f"{len(part[['session', 'trial']].drop_duplicates())} trials. Use "
            f"another share, the other unit (trial, time), or held_out=0."
        )
    return rows[~tested], rows[tested]
