"""Leave one subject out: train on the others, test on one never labelled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd

from domainemo.core import Fold, Protocol
from domainemo.errors import DataError
from domainemo.registry import register
from domainemo.values import SEEDS
from domainemo.words import in_order

from .held_out import HeldOut, Unfit, Unit, divide

__all__ = ["CrossSubject"]


@register
class CrossSubject(Protocol):
    """Leave one subject out, sessions pooled or one at a time.

    All subjects usually watch the same clips: a new subject is not a new stimulus.

    Parameters
    ----------
    session : str or int
        ``"pooled"`` (all sessions together), ``"each"`` (within one session, a fold
        per subject and session), or the name of the one session to use.
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

    domain: ClassVar[str] = "subject"

    def __init__(
        self,
        *,
        session: str | int = "pooled",
        held_out: HeldOut = 0.0,
        unit: Unit = "trial",
        seed: Annotated[int, SEEDS] = 0,
        unfit: Unfit = "refuse",
    ) -> None:
        self.session, self.held_out = session, held_out
        self.unit, self.seed, self.unfit = unit, seed, unfit

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield a fold per subject, and per session where these stand apart."""
        for suffix, rows in self._sessions(windows):
            subjects = windows["subject"].to_numpy()[rows]
            names = in_order(subjects)
            if len(names) < 2:
                raise DataError(
                    f"cross-subject{suffix}: found {len(names)} subject "
                    f"({', '.join(map(str, names))}); leaving one out needs at least "
                    f"2. Use the protocol cross-session, or bring more subjects."
                )
            for subject in names:
                target, test = divide(
                    windows,
                    rows[subjects == subject],
                    held_out=self.held_out,
                    unit=self.unit,
                    seed=self.seed,
                )
                source = rows[subjects != subject]
                yield Fold(f"subject {subject}{suffix}", source, target, test)

    def _sessions(self, windows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
        sessions = windows["session"]
        if self.session == "pooled":
            yield "", np.arange(len(windows))
            return
        names = in_order(sessions)
        if self.session != "each":
            names = [name for name in names if str(name) == str(self.session)]
            if not names:
                known = ", ".join(map(str, in_order(sessions)))
                raise DataError(
                    f"cross-subject: found no session {self.session!r}; expected "
                    f"'pooled', 'each' or one of {known}."
                )
        for name in names:
            yield f", session {name}", np.flatnonzero(sessions == name)
