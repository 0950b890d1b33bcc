"""Which way a difference points, by its mean, its interval and its test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..statistics.effects import LEVEL
from ..statistics.paired import Comparison

__all__ = ["Sides", "sides"]

_WORDS = {1: "better", -1: "worse"}


@dataclass(frozen=True)
class Sides:
    """What each says of the first of two methods: 1 better, -1 worse, 0 neither.

    They need not agree: of twelve subjects one may gain much and eleven lose a little,
    so that the mean is above zero and the test, which is of ranks, finds it below.

    Attributes
    ----------
    mean, interval, test : int
    """

    mean: int
    interval: int
    test: int

    @property
    def shown(self) -> str:
        """What interval and test both show, ``"better"`` or ``"worse"``; or nothing."""
        return _WORDS.get(self.test, "") if self.test == self.interval else ""

    @property
    def silent(self) -> bool:
        """Whether neither interval nor test shows anything."""
        return not (self.interval or self.test)

    @property
    def hinted(self) -> str:
        """What one of them shows and nothing else contradicts; or nothing."""
        found = {self.mean, self.interval, self.test} - {0}
        return _WORDS[found.pop()] if len(found) == 1 and not self.silent else ""

    def told(self) -> str:
        """Return what each of the three says."""
        mean = _WORDS.get(self.mean, "neither better nor worse")
        interval = f"says {_WORDS[self.interval]}" if self.interval else "holds zero"
        test = f"says {_WORDS[self.test]}" if self.test else "shows nothing"
        return f"the mean says {mean}, the interval {interval}, the test {test}"

    def disagreement(self, what: str) -> str:
        """Return in sentences what it means that interval and test disagree.

        Parameters
        ----------
        what : str
            The first method, such as "the adapter".
        """
        hint = f"a hint that {what} was {self.hinted}, not a finding"
        return (
            f"Interval and test disagree: {self.told()}. That is "
            f"{hint if self.hinted else 'no hint either way'}."
        )


def sides(found: Comparison, *, p: float | None = None, lower: bool = False) -> Sides:
    """Return which way a comparison points.

    Parameters
    ----------
    found : Comparison
    p : float, optional
        Of its signed-rank test, where it was corrected.
    lower : bool
        Whether a lower value is the better one.
    """
    sign = -1 if lower else 1
    sure = (found.p if p is None else p) < LEVEL
    return Sides(
        mean=sign * int(np.sign(found.difference)),
        interval=sign * (int(found.low > 0) - int(found.high < 0)),
        test=sign * int(np.sign(found.rank_biserial.value)) * sure,
    )
