"""Leave one session out, per subject: train on other days, test on one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd

from domainemo.core import Fold, Protocol
from domainemo.errors import DataError
from domainemo.registry import register
from domainemo.values import SEEDS
from domainemo.words import in_order

from .held_out import HeldOut, Unfit, Unit, divide

__all__ = ["CrossSession"]


@register
class CrossSession(Protocol):
    """Leave one session out for every subject by itself.

    Some data sets (SEED) repeat the clips in every session: a new session is then
    not a new stimulus. Subjects with a single session have no fold.

    Parameters
    ----------
    source : {"others", "earlier"}
        Train on all other sessions, or on those before the target's only.
    held_out : float
        Share of the target that training never sees and that alone is tested
        (inductive); 0 tests the target that was seen unlabelled (transductive).
    unit : {"trial", "time"}
        Hold out whole trials, or the last part of every trial.
    seed : int
        For the draw of held-out trials.
    unfit : {"refuse", "skip"}
        Folds whose source or test part holds a single class, or whose test part a class
        that the source lacks, stop the run, or are left out; the results name them.
    """

    domain: ClassVar[str] = "session"

    def __init__(
        self,
        *,
        source: Literal["others", "earlier"] = "others",
        held_out: HeldOut = 0.0,
        unit: Unit = "trial",
        seed: Annotated[int, SEEDS] = 0,
        unfit: Unfit = "refuse",
    ) -> None:
        self.source, self.held_out = source, held_out
        self.unit, self.seed, self.unfit = unit, seed, unfit

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield a fold per subject and session."""
        subjects = windows["subject"].to_numpy()
        sessions = windows["session"].to_numpy()
        found = False
        for subject in in_order(subjects):
            rows = np.flatnonzero(subjects == subject)
            names = in_order(sessions[rows])
            for position, session in enumerate(names):
                others = names[:position]
                if self.source == "others":
                    others += names[position + 1 :]
                if not others:
                    continue
                found = True
                target, test = divide(
                    windows,
                    rows[sessions[rows] == session],
                    held_out=self.held_out,
                    unit=self.unit,
                    seed=self.seed,
                )
                source = rows[np.isin(sessions[rows], others)]
                yield Fold(
                    f"subject {subject}, session {session}", source, target, test
                )
        if not found:
            raise DataError(
                "cross-session: no subject has two sessions; expected at least one "
                "that has. Check the column 'session', or use the protocol "
                "cross-subject."
            )
