"""Train on one data set, adapt to and test on another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd

from domainemo.core import Fold, Protocol
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import register
from domainemo.values import SEEDS
from domainemo.words import in_order

from .held_out import HeldOut, Unfit, Unit, divide

__all__ = ["CrossDataset"]


@register
class CrossDataset(Protocol):
    """Train on one data set, adapt to each person of another and test on it.

    The target's labels are for the score alone, but for one thing: windows of classes
    that the source does not have are left out beforehand, and counted in the results.

    Parameters
    ----------
    classes : str, optional
        What is called otherwise in the target, as ``SOURCE=TARGET+TARGET,...``, such
        as ``"positive=happy,negative=sad+fear"``. Classes of one name are the same by
        themselves; those that have no partner are left out of both.
    together : bool
        Whether all people of the target are one target. Else each is adapted to alone.
    held_out : float
        Share of the target that training never sees and that alone is tested
        (inductive); 0 tests the target that was seen unlabelled (transductive).
    unit : {"trial", "time"}
        Hold out whole trials, or the last part of every trial.
    seed : int
        For the draw of held-out trials.
    unfit : {"refuse", "skip"}
        Folds whose test part holds a single class stop the run, or are left out; the
        results name them.
    """

    domain: ClassVar[str] = "subject"
    takes_target: ClassVar[bool] = True

    def __init__(
        self,
        *,
        classes: str | None = None,
        together: bool = False,
        held_out: HeldOut = 0.0,
        unit: Unit = "trial",
        seed: Annotated[int, SEEDS] = 0,
        unfit: Unfit = "refuse",
    ) -> None:
        self.classes, self.together, self.held_out = classes, together, held_out
        self.unit, self.seed, self.unfit = unit, seed, unfit

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield a fold per person of the target, as the column ``new`` tells them."""
        if "new" not in windows:
            raise ConfigurationError(
                "The protocol 'cross-dataset' tests on other recordings than those "
                "that train, and none were given. Name them with --target, or call "
                "domainemo.adapt(source, target, protocol='cross-dataset')."
            )
        new = windows["new"].to_numpy()
        source, rows = np.flatnonzero(~new), np.flatnonzero(new)
        if not len(source) or not len(rows):
            side = "target" if len(source) else "source"
            raise DataError(
                f"cross-dataset: the {side} has no windows; expected recordings of "
                f"both. Give others."
            )
        subjects = windows["subject"].to_numpy()
        names = in_order(subjects[rows])
        parts = []
        for subject in names:
            theirs = rows[subjects[rows] == subject]
            parts.append(
                divide(
                    windows,
                    theirs,
                    held_out=self.held_out,
                    unit=self.unit,
                    seed=self.seed,
                )
            )
        if self.together:
            target, test = (np.concatenate(each) for each in zip(*parts, strict=True))
            yield Fold("target", source, np.sort(target), np.sort(test))
            return
        for subject, (target, test) in zip(names, parts, strict=True):
            yield Fold(f"subject {subject}", source, target, test)
