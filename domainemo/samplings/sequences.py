"""Runs of consecutive windows."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pandas as pd

from ..core import Rows, Sampling
from ..errors import ConfigurationError
from ..registry import register
from ..values import Bounds
from .shared import padded, trials_of

__all__ = ["Sequences"]


@register
class Sequences(Sampling):
    """Runs of consecutive windows of one trial, all of the same length.

    The last sequence of a trial is aligned to the trial's end, so that every window
    is used; only a trial shorter than `length` is padded. As all samples are of one
    length, a network cannot tell a clip by its duration.

    Parameters
    ----------
    length : int
        Windows in a sequence.
    stride : int, optional
        Windows from the start of one sequence to the next; `length` by default.
    """

    level: ClassVar[str] = "sequence"

    def __init__(
        self,
        *,
        length: Annotated[int, Bounds(1)] = 8,
        stride: Annotated[int | None, Bounds(1)] = None,
    ) -> None:
        if stride is not None and stride > length:
            raise ConfigurationError(
                f"Sequences need a stride from 1 to the length, or windows between "
                f"them are lost; got length={length}, stride={stride}."
            )
        self.length, self.stride = length, stride

    def rows(self, windows: pd.DataFrame) -> Rows:
        """Return window numbers; shape (sequences, length), -1 where padded."""
        stride = self.stride or self.length
        runs = []
        for trial in trials_of(windows):
            last = max(len(trial) - self.length, 0)
            starts = list(range(0, last + 1, stride))
            if starts[-1] != last:
                starts.append(last)
            runs += [trial[start : start + self.length] for start in starts]
        return padded(runs, self.length)
