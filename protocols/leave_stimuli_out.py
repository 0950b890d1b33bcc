"""Leave stimuli out: test on clips that nobody in the source has watched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd

from domainemo.core import TRIAL, Fold
from domainemo.errors import DataError
from domainemo.registry import register
from domainemo.values import SEEDS, Bounds
from domainemo.words import count, in_order

from .groups import drawn_groups, of_known
from .held_out import HeldOut, HoldsOut, Unfit, Unit

__all__ = ["LeaveStimuliOut"]


@register
class LeaveStimuliOut(HoldsOut):
    """Leave clips out, and the subject who watches them: both are new.

    Where the label is a function of the clip, any other protocol can be passed by
    recognising the clip. The groups are drawn without a look at labels.

    Parameters
    ----------
    subjects : {"unseen", "known"}
        Test a subject who does not train, on clips that nobody trains with; or test
        everybody who trains with others, on such clips.
    folds : int
        How many groups the stimuli are divided into, drawn by `seed`; each is tested
        once, with every subject.
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
    disjoint: tuple[str, ...] = ("stimulus",)

    def __init__(
        self,
        *,
        subjects: Literal["unseen", "known"] = "unseen",
        folds: Annotated[int, Bounds(least=2)] = 3,
        held_out: HeldOut = 0.0,
        unit: Unit = "trial",
        seed: Annotated[int, SEEDS] = 0,
        unfit: Unfit = "refuse",
    ) -> None:
        self.subjects, self.folds = subjects, folds
        if subjects == "unseen":
            self.disjoint = ("subject", "stimulus")
        super().__init__(held_out=held_out, unit=unit, seed=seed, unfit=unfit)

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield a fold per group of stimuli, and per subject where these are unseen."""
        subjects = windows["subject"].to_numpy()
        stimuli = windows["stimulus"].to_numpy()
        names = in_order(stimuli)
        _check_trials(windows)
        if len(names) < self.folds:
            raise DataError(
                f"leave-stimuli-out: the number of different stimuli is {len(names)}; "
                f"expected at least {self.folds}, one for each fold. Use fewer folds "
                f"(--set protocol.folds=2), or check the column 'stimulus'."
            )
        groups = [
            (f"stimuli {number + 1} of {self.folds}", np.isin(stimuli, group))
            for number, group in enumerate(drawn_groups(names, self.folds, self.seed))
        ]
        everybody = np.ones(len(windows), dtype=bool)
        people = [("", everybody, everybody)]
        if self.subjects == "unseen":
            own = ((name, subjects == name) for name in in_order(subjects))
            people = [(f"subject {name}, ", ~theirs, theirs) for name, theirs in own]
        found = False
        for whose, trained, tested in people:
            for which, shown in groups:
                source = np.flatnonzero(trained & ~shown)
                target = np.flatnonzero(tested & shown)
                if self.subjects == "known":
                    target = of_known(windows, target, source)
                if len(source) and len(target):
                    found = True
                    yield self.fold(f"{whose}{which}", windows, source, target)
        if not found:
            raise DataError(
                f"leave-stimuli-out: no subject can be tested, as there are "
                f"{count(len(in_order(subjects)), 'subject')}; expected at least 2 "
                f"who watched different stimuli. Use subjects='known', or the protocol "
                f"within-subject."
            )


def _check_trials(windows: pd.DataFrame) -> None:
    """Refuse trials of several stimuli, which would be cut apart."""
    counts = windows.groupby(TRIAL)["stimulus"].nunique()
    several = counts.index[counts > 1]
    if len(several):
        subject, session, trial = several[0]
        raise DataError(
            f"leave-stimuli-out: subject {subject}, session {session}, trial {trial} "
            f"has {counts.max()} stimuli; expected one in every trial. Number the "
            f"trials so that each has one."
        )
