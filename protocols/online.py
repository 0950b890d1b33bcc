"""One recording in order of time: each part is tested by what came before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd

from domainemo.core import Fold, Protocol, Rows
from domainemo.errors import DataError
from domainemo.registry import register
from domainemo.values import Bounds
from domainemo.words import count, in_order

__all__ = ["Online"]


@register
class Online(Protocol):
    """Follow each session in time: adapt with the past alone, test what comes next.

    All other subjects train. A session is cut, in order of time, into parts of as many
    trials each as can be; every part but the first is a fold, which tests that part and
    whose target is all that came before it in that session, unlabelled. So the first
    part is seen and never tested, nothing that was tested is forgotten, and the score
    is prequential: every prediction is made before anything later is seen. Each fold
    trains anew from the start, with whatever adapter.

    Time is what trials are numbered by, in natural order (2 before 10): right where a
    data set numbers them as they were presented, and not where it numbers them by
    clip, as DEAP's preprocessed files and DREAMER do. Every session starts anew; other
    sessions of the subject are not seen.

    A part that holds a single class has no balanced accuracy by itself; it counts in
    that of all steps together, ``prequential`` in the table ``online`` of the run.

    Parameters
    ----------
    steps : int
        Parts of a session, the first, which is only seen, among them.
    """

    domain: ClassVar[str] = "subject"
    causal: ClassVar[bool] = True
    unfit: str = "keep"

    def __init__(self, *, steps: Annotated[int, Bounds(least=2)] = 4) -> None:
        self.steps = steps

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield a fold per subject, session and part but the first."""
        subjects = windows["subject"].to_numpy()
        sessions = windows["session"].to_numpy()
        names = in_order(subjects)
        if len(names) < 2:
            raise DataError(
                f"online: found one subject ({names[0]}); expected at least 2, as the "
                f"others train. Bring more subjects."
            )
        for subject in names:
            theirs = subjects == subject
            source = np.flatnonzero(~theirs)
            for session in in_order(sessions[theirs]):
                rows = np.flatnonzero(theirs & (sessions == session))
                where = f"subject {subject}, session {session}"
                parts = self._parts(windows["trial"].to_numpy(), rows, where)
                for step in range(1, len(parts)):
                    past = np.concatenate(parts[:step])
                    name = f"{where}, step {step + 1}"
                    yield Fold(name, source, past, parts[step])

    def _parts(self, trials: np.ndarray, rows: Rows, where: str) -> list[Rows]:
        """Return the windows of each part of a session, in order of time."""
        names = in_order(trials[rows])
        if len(names) < self.steps:
            raise DataError(
                f"online: {where} has {count(len(names), 'trial')}; expected at least "
                f"one for each of {self.steps} steps, as no trial is cut. Take fewer "
                f"steps (--set protocol.steps=N), or leave the subject out (--exclude)."
            )
        place = {name: number for number, name in enumerate(names)}
        order = np.array([place[name] for name in trials[rows]])
        parts = np.array_split(np.arange(len(names)), self.steps)
        return [rows[np.isin(order, part)] for part in parts]
