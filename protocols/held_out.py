"""What all folds have in common: a part of the target that training never sees."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domainemo.core import TRIAL, Fold, Protocol, Rows
from domainemo.errors import DataError
from domainemo.values import Bounds
from domainemo.words import count, in_order

__all__ = ["HeldOut", "HoldsOut", "Unfit", "Unit", "divide"]

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


class HoldsOut(Protocol):
    """A protocol whose folds may hold out a part of their target.

    Parameters
    ----------
    held_out, unit, seed
        As for :func:`divide`.
    unfit : {"refuse", "skip"}
    """

    def __init__(self, *, held_out: float, unit: Unit, seed: int, unfit: Unfit) -> None:
        self.held_out, self.unit, self.seed = held_out, unit, seed
        self.unfit = unfit

    def fold(
        self,
        name: str,
        windows: pd.DataFrame,
        source: Rows,
        target: Rows,
        validation: Rows | None = None,
    ) -> Fold:
        """Return a fold whose target is divided as the options say.

        Parameters
        ----------
        name : str
        windows : DataFrame
            Provenance of all windows.
        source, target : ndarray of int
        validation : ndarray of int, optional
        """
        target, test = divide(
            windows, target, held_out=self.held_out, unit=self.unit, seed=self.seed
        )
        if validation is None:
            return Fold(name, source, target, test)
        return Fold(name, source, target, test, validation=validation)


def divide(
    windows: pd.DataFrame, rows: Rows, *, held_out: float, unit: Unit, seed: int
) -> tuple[Rows, Rows]:
    """Divide a fold's target into the part training may see and the part it tests.

    Several subjects are divided each by itself, so that something is seen of everybody
    who is tested.

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
    subjects = windows["subject"].to_numpy()[rows]
    names = in_order(subjects)
    if len(names) > 1:
        sides = (
            divide(windows, theirs, held_out=held_out, unit=unit, seed=seed)
            for theirs in (rows[subjects == name] for name in names)
        )
        seen, unseen = zip(*sides, strict=True)
        return np.sort(np.concatenate(seen)), np.sort(np.concatenate(unseen))
    part = windows.iloc[rows]
    tested = _end(part, held_out) if unit == "time" else _some(part, held_out, seed)
    if tested.all() or not tested.any():
        trials = len(part[["session", "trial"]].drop_duplicates())
        raise DataError(
            f"Holding out {held_out:.0%} of the target by {unit} leaves nothing on one "
            f"side: subject {part['subject'].iloc[0]} has "
            f"{count(len(part), 'window')} in {count(trials, 'trial')}. Use another "
            f"share, the other unit (trial, time), or held_out=0."
        )
    return rows[~tested], rows[tested]


def _end(part: pd.DataFrame, held_out: float) -> NDArray[np.bool_]:
    """Return which windows stand at the end of their trial."""
    place = part.groupby(TRIAL)["start"]
    rank = place.rank(method="first").to_numpy() - 1
    kept = place.transform("size").to_numpy() * (1 - held_out)
    ends: NDArray[np.bool_] = rank >= np.round(kept, 9)  # 10 * (1 - 0.7) is above 3
    return ends


def _some(part: pd.DataFrame, held_out: float, seed: int) -> NDArray[np.bool_]:
    """Return which windows are of trials that were drawn."""
    keys = part[["session", "trial"]]
    trials = keys.drop_duplicates().sort_values(["session", "trial"])
    number = min(max(round(held_out * len(trials)), 1), len(trials) - 1)
    chosen = np.random.default_rng(seed).permutation(len(trials))[:number]
    picked = pd.MultiIndex.from_frame(trials.iloc[chosen])
    return pd.MultiIndex.from_frame(keys).isin(picked)
