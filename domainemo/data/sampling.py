"""How windows become samples: single windows, sequences, or whole trials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pandas as pd

from ..core import Rows, Sampling
from ..errors import ConfigurationError

__all__ = ["SAMPLINGS", "Sequences", "Trials", "Windows"]


class Windows(Sampling):
    """Every window is a sample of its own."""

    level: ClassVar[str] = "window"

    def rows(self, windows: pd.DataFrame) -> Rows:
        """Return each window's number; shape (windows, 1)."""
        return np.arange(len(windows), dtype=np.int64)[:, None]


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

    def __init__(self, *, length: int = 8, stride: int | None = None) -> None:
        if length < 1 or not 1 <= (stride or length) <= length or stride == 0:
            raise ConfigurationError(
                f"Sequences need a length of at least 1 and a stride from 1 to the "
                f"length; got length={length}, stride={stride}."
            )
        self.length, self.stride = length, stride

    def rows(self, windows: pd.DataFrame) -> Rows:
        """Return window numbers; shape (sequences, length), -1 where padded."""
        stride = self.stride or self.length
        runs = []
        for trial in _trials(windows):
            last = max(len(trial) - self.length, 0)
            starts = list(range(0, last + 1, stride))
            if starts[-1] != last:
                starts.append(last)
            runs += [trial[start : start + self.length] for start in starts]
        return _pad(runs, self.length)


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

    def __init__(self, *, crop: int | None = None) -> None:
        if crop is not None and crop < 1:
            raise ConfigurationError(f"A crop keeps at least 1 window; got {crop}.")
        self.crop = crop

    def rows(self, windows: pd.DataFrame) -> Rows:
        """Return window numbers; shape (trials, longest or crop), -1 where padded."""
        trials = list(_trials(windows))
        if self.crop is not None:
            trials = [_middle(trial, self.crop) for trial in trials]
        return _pad(trials, self.crop or max(map(len, trials), default=1))


SAMPLINGS: dict[str, type[Sampling]] = {
    "windows": Windows,
    "sequences": Sequences,
    "trials": Trials,
}
"""The samplings by the name a configuration gives them."""


def _trials(windows: pd.DataFrame) -> Iterator[Rows]:
    """Yield the window numbers of each trial in order of time."""
    keys = windows[["subject", "session", "trial"]]
    start = windows["start"].to_numpy()
    codes = keys.groupby(list(keys.columns), sort=True).ngroup().to_numpy()
    order = np.lexsort((start, codes))
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    yield from np.split(order.astype(np.int64), edges)


def _middle(trial: Rows, length: int) -> Rows:
    first = max(len(trial) - length, 0) // 2
    return trial[first : first + length]


def _pad(runs: list[Rows], length: int) -> Rows:
    rows = np.full((len(runs), length), -1, dtype=np.int64)
    for row, run in zip(rows, runs, strict=True):
        row[: len(run)] = run
    return rows
