"""Whole trials."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pandas as pd

from ..core import Rows, Sampling
from ..registry import register
from ..values import Bounds
from .shared import padded, trials_of

__all__ = ["Trials"]


@register
class Trials(Sampling):
    """Every trial is a sample, padded to the longest, or cropped to one length.

    Where every subject watches the same clips, the number of windows tells the clip
    and with it the label: compare with the control "clip duration only", or crop.

    Parameters
    ----------
    crop : int, optional
        Keep this many consecutive windows from the middle of each trial.
    """

    level: ClassVar[str] = "trial"

    def __init__(
        self,
        *,
        crop: Annotated[int | None, Bounds(1, words="at least 1 window")] = None,
    ) -> None:
        self.crop = crop

    def rows(self, windows: pd.DataFrame) -> Rows:
        """Return window numbers; shape (trials, longest or crop), -1 where padded."""
        trials = list(trials_of(windows))
        if self.crop is not None:
            trials = [_middle(trial, self.crop) for trial in trials]
        return padded(trials, self.crop or max(map(len, trials), default=1))


def _middle(trial: Rows, length: int) -> Rows:
    first = max(len(trial) - length, 0) // 2
    return trial[first : first + length]
