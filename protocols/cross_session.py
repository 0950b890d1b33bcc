"""Leave one session out: train on other days, test on one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd

from domainemo.core import Fold, Rows
from domainemo.errors import DataError
from domainemo.registry import register
from domainemo.values import SEEDS
from domainemo.words import in_order

from .groups import of_known
from .held_out import HeldOut, HoldsOut, Unfit, Unit

__all__ = ["CrossSession"]


@register
class CrossSession(HoldsOut):
    """Leave one session out, for every subject by itself or for everybody at once.

    Some data sets (SEED) repeat the clips in every session: a new session is then
    not a new stimulus. Subjects with a single session have no fold.

    Parameters
    ----------
    source : {"others", "earlier"}
        Train on all other sessions, or on those before the target's only.
    subjects : {"pooled"}, optional
        ``"pooled"`` tests one session of everybody and trains on the others of
        everybody; without it, each subject trains and is tested alone.
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
        subjects: Literal["pooled"] | None = None,
        held_out: HeldOut = 0.0,
        unit: Unit = "trial",
        seed: Annotated[int, SEEDS] = 0,
        unfit: Unfit = "refuse",
    ) -> None:
        self.source, self.subjects = source, subjects
        super().__init__(held_out=held_out, unit=unit, seed=seed, unfit=unfit)

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield a fold per session, of a subject or of everybody."""
        sessions = windows["session"].to_numpy()
        found = False
        for whose, rows in self._people(windows):
            names = in_order(sessions[rows])
            for position, session in enumerate(names):
                others = names[:position]
                if self.source == "others":
                    others += names[position + 1 :]
                source = rows[np.isin(sessions[rows], others)]
                target = of_known(windows, rows[sessions[rows] == session], source)
                if len(target):
                    found = True
                    yield self.fold(
                        f"{whose}session {session}", windows, source, target
                    )
        if not found:
            raise DataError(
                "cross-session: no subject has two sessions; expected at least one "
                "that has. Check the column 'session', or use the protocol "
                "cross-subject."
            )

    def _people(self, windows: pd.DataFrame) -> Iterator[tuple[str, Rows]]:
        """Yield the windows of those who train together, and how folds begin."""
        if self.subjects == "pooled":
            yield "", np.arange(len(windows))
            return
        subjects = windows["subject"].to_numpy()
        for subject in in_order(subjects):
            yield f"subject {subject}, ", np.flatnonzero(subjects == subject)
