"""Within a subject: train on some trials, test on others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from domainemo.core import Fold, Rows
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import register
from domainemo.values import SEEDS, Bounds
from domainemo.words import count, in_order

from .groups import drawn_groups
from .held_out import HeldOut, HoldsOut, Unfit, Unit
from .published import published_split
from .sessions import by_session

__all__ = ["WithinSubject"]


@register
class WithinSubject(HoldsOut):
    """Train on some trials of a subject and test others (subject-dependent).

    A trial is never divided. Where sessions repeat the clips (SEED), pooled sessions
    have each clip on both sides.

    Parameters
    ----------
    folds : int or {"published", "segments"}
        Leave trials out: so many groups, drawn by `seed`, each tested once. Or the
        split that the data set was published with: SEED, SEED-IV, SEED-V and SEED-VII.
        Segments of one trial on both sides are refused.
    session : str or int, optional
        ``"each"`` (the default: every session by itself), ``"pooled"`` (all sessions
        together), or the name of the one session to use. A published split says itself
        which belong together.
    held_out : float
        Share of the target that training never sees and that alone is tested
        (inductive); 0 tests the target that was seen unlabelled (transductive).
    unit : {"trial", "time"}
        Hold out whole trials, or the last part of every trial.
    seed : int
        For the draw of groups, and of held-out trials.
    unfit : {"refuse", "skip"}
        Folds whose source or test part holds a single class, or whose test part a class
        that the source lacks, stop the run, or are left out; the results name them.
    """

    domain: ClassVar[str] = "subject"

    def __init__(
        self,
        *,
        folds: Annotated[int, Bounds(least=2)] | Literal["published", "segments"] = 3,
        session: str | int | None = None,
        held_out: HeldOut = 0.0,
        unit: Unit = "trial",
        seed: Annotated[int, SEEDS] = 0,
        unfit: Unfit = "refuse",
    ) -> None:
        self.folds, self.session = folds, session
        super().__init__(held_out=held_out, unit=unit, seed=seed, unfit=unfit)
        if folds == "segments":
            raise ConfigurationError(
                "within-subject: folds is 'segments', which trains on windows of the "
                "very trials that are tested: neighbouring windows are all but alike, "
                "so that a network need only recognise the trial. Papers on DEAP and "
                "DREAMER do so; expected whole trials. Use --protocol within-subject "
                "--set protocol.folds=10 for new trials of the same person, or "
                "--protocol cross-subject for a new person."
            )
        if folds == "published" and session is not None:
            raise ConfigurationError(
                f"within-subject: session is {session!r} beside folds='published', "
                f"which says itself what sessions belong together; expected one or the "
                f"other. Leave session out."
            )

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield the folds of every subject."""
        subjects = windows["subject"].to_numpy()
        published = published_split(windows) if self.folds == "published" else None
        session = self.session or "each"
        if published is not None and published.together:
            session = "pooled"
        parts = list(by_session(windows, session, "within-subject"))
        for subject in in_order(subjects):
            for suffix, all_rows in parts:
                rows = all_rows[subjects[all_rows] == subject]
                if not len(rows):
                    continue
                whose = f"subject {subject}{suffix}"
                if published is None:
                    tested = self._drawn(windows.iloc[rows], whose)
                else:
                    trials = windows["trial"].iloc[rows].astype(str)
                    tested = [trials.isin(map(str, r)) for r in published.tested]
                for number, these in enumerate(tested):
                    name = f"{whose}, fold {number + 1}" if len(tested) > 1 else whose
                    sides = rows[~these], rows[these]
                    _check_sides(name, *sides)
                    yield self.fold(name, windows, *sides)

    def _drawn(self, part: pd.DataFrame, whose: str) -> list[Any]:
        """Return which windows of a subject each fold tests."""
        assert isinstance(self.folds, int)
        keys = list(zip(part["session"].tolist(), part["trial"].tolist(), strict=True))
        trials = len(set(keys))
        if trials < self.folds:
            raise DataError(
                f"within-subject, {whose}: found {count(trials, 'trial')}; "
                f"expected at least {self.folds}, one for each fold. Use fewer folds "
                f"(--set protocol.folds={max(trials, 2)}), pool the sessions (--set "
                f"protocol.session=pooled), or leave the subject out (--exclude)."
            )
        groups = drawn_groups(keys, self.folds, self.seed)
        number = {key: place for place, group in enumerate(groups) for key in group}
        found = np.array([number[key] for key in keys])
        return [found == place for place in range(self.folds)]


def _check_sides(name: str, source: Rows, target: Rows) -> None:
    """Refuse a subject of whom the published split leaves one side empty."""
    for role, rows in (("training", source), ("test", target)):
        if not len(rows):
            raise DataError(
                f"within-subject, {name}: found no trial of the published {role} part; "
                f"expected some in either. Leave the subject out (--exclude), or leave "
                f"trials out (--set protocol.folds=3)."
            )
