"""Self-ratings as classes: the low and high part of a scale, or quadrants of two.

Published figures differ in what they call high by no more than the ratings that lie
exactly at the threshold. On a scale of five whole numbers these are the commonest
ratings of all, and decide which class is the larger one; so the rule is an option, and
stands in the title of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ....values import Bounds

__all__ = ["QUADRANTS", "RatingClasses", "Ties", "within_scale"]

Ties = Literal["high", "low", "drop"]
"""What may become of a rating exactly at the threshold; dropped, a trial is left out.
"""

QUADRANTS = ("LVLA", "LVHA", "HVLA", "HVHA")
"""Low or high valence, then low or high arousal: the two binary digits of the class.
"""

_QUADRANT_SCALES = ("valence", "arousal")


def within_scale(lowest: float, highest: float) -> Bounds:
    """Return where the threshold of a scale may lie."""
    words = (
        f"a number between {lowest:g} and {highest:g}, the ends of the scale, so that "
        f"ratings can be low and high"
    )
    return Bounds(above=lowest, below=highest, words=words)


@dataclass(frozen=True)
class RatingClasses:
    """The rule by which a trial's ratings become its class.

    Parameters
    ----------
    target : str
        One of the rated scales, or ``"quadrant"`` for valence and arousal together.
    threshold : float
        Ratings above it are high, ratings below it low.
    ties : {"high", "low", "drop"}
        What a rating exactly at the threshold is. A quadrant is dropped if either of
        its ratings is.
    """

    target: str
    threshold: float
    ties: Ties

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names: low and high, or the quadrants."""
        if self.target == "quadrant":
            return QUADRANTS
        return f"low {self.target}", f"high {self.target}"

    def label(self, ratings: Mapping[str, float]) -> int | None:
        """Return the class of a trial, or None where it is dropped.

        Parameters
        ----------
        ratings : mapping of str to float
            The rating on each scale.
        """
        label = 0
        for scale in self._rated:
            rating = ratings[scale]
            if rating == self.threshold and self.ties == "drop":
                return None
            tie = rating == self.threshold and self.ties == "high"
            label = 2 * label + int(rating > self.threshold or tie)
        return label

    def describe(self) -> str:
        """Say the rule, the fate of ratings at the threshold included."""
        what = f"{' and '.join(self._rated)} high"
        if self.ties == "high":
            return f"{what} from {self.threshold:g} up"
        if self.ties == "low":
            return f"{what} above {self.threshold:g}, low at it and below"
        return (
            f"{what} above {self.threshold:g}, low below, trials rated exactly "
            f"{self.threshold:g} left out"
        )

    @property
    def _rated(self) -> tuple[str, ...]:
        return _QUADRANT_SCALES if self.target == "quadrant" else (self.target,)
