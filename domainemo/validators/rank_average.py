"""Several validators, by their ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..core import Source, Target
from ..registry import register
from ..statistics.ties import tied
from .joined import Joined

__all__ = ["RankAverage", "average_ranks"]


@register(name="rank-average")
class RankAverage(Joined):
    r"""The mean rank by several validators, among all that are compared.

    .. math:: \frac{1}{M N} \sum_{m=1}^{M} \operatorname{rank}_m

    of N networks by M scores, from 1 for the lowest score to N for the highest; equal
    ones share the mean of their ranks.

    By default of the balanced accuracy on held-out source people, of reverse validation
    and of class AMI. The first looks at the source alone, the second asks whether the
    predictions of the target would teach the source's classes, the third whether they
    agree with clusters of the target; none takes even class shares for granted, and
    none is trusted with its scale. It assumes that they err on different occasions.
    ``docs/validator-study.md`` says why these. Where classes are known to be equally
    frequent in every person, ``bnm`` alone chose a little better.

    Epochs, a study's candidates and finished runs are ranked among themselves; an epoch
    is chosen when training is over, so that the weights of all are kept until then.
    Where a single number is asked for, as by the sampler of a study, it is the mean of
    the scores, on scales of their own.

    Parameters
    ----------
    validators : tuple of str
        Names of validators that score each network by itself.
    """

    def __init__(
        self,
        *,
        validators: tuple[str, ...] = ("source", "reverse-validation", "class-ami"),
    ) -> None:
        super().__init__(validators)
        self.validators = tuple(validators)
        self.refuse_compared()

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the mean of the validators' scores."""
        return float(np.mean(self.of_members(training, held_out, target)))

    def evidence(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> list[float]:
        """Return every validator's score."""
        return self.of_members(training, held_out, target)

    def compare(self, found: Sequence[Sequence[float]]) -> list[float]:
        """Return the mean rank of each, from above 0 to 1."""
        return average_ranks(found)


def average_ranks(found: Sequence[Sequence[float]]) -> list[float]:
    """Return mean ranks among several, 1 for the best by all scores.

    Parameters
    ----------
    found : sequence of sequences of float
        The scores of each; higher is better. Equal ones share their ranks.

    Returns
    -------
    list of float
        Minus infinity for one with a score that is not finite; the others are ranked
        among themselves.
    """
    from scipy.stats import rankdata

    scores = np.array(found, dtype=float)
    sound = np.isfinite(scores).all(1)
    ranks = np.full(len(scores), -math.inf)
    if sound.any():
        # Each validator's by itself: their scores are of several sizes.
        columns = [rankdata(tied(each)) for each in scores[sound].T]
        ranks[sound] = np.mean(columns, axis=0) / sound.sum()
    return [float(each) for each in ranks]
