"""A guard against collapse, before any other validator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from ..core import Source, Target
from ..errors import ConfigurationError
from ..registry import register
from ..values import Bounds
from .joined import Joined, as_asked
from .shared import expect_held_out, is_finite, kinds, logits_of, source_accuracy

__all__ = ["Guarded", "accuracy_floor", "is_sound"]


@register(name="guarded")
class Guarded(Joined):
    r"""Another validator, behind a guard against collapse.

    .. math:: s - [\text{unsound}] \, (1 + \max_{bad} s - \min_{good} s)

    for the other validator's scores s of all networks that are compared.

    A network is sound if its outputs are finite, it predicts every class on the target
    at least once, and its balanced accuracy on held-out source people is better than
    that of guesses. Whatever is not sound stands behind all that is: by the other
    validator's score, but a full unit below the worst sound one. Where nothing is
    sound, the other validator decides alone.

    It catches a constant network, one that guesses with confidence, one that lost a
    class, and one that exchanges classes for good. Classes that are exchanged in the
    target alone no one can see without a label. It assumes that every class occurs in
    the target: where one does not, the network that knows so is taken for unsound.

    Parameters
    ----------
    validator : str
        The name of the validator behind it.
    margin : float
        How many standard errors of a guess the accuracy must exceed chance by.
    """

    def __init__(
        self,
        *,
        validator: str = "rank-average",
        margin: Annotated[float, Bounds(least=0)] = 2.0,
    ) -> None:
        if validator == "guarded":
            raise ConfigurationError(
                "validator.validator is 'guarded', a guard before a guard; expected "
                "the name of another validator, such as rank-average."
            )
        super().__init__((validator,))
        self.validator, self.margin = validator, margin
        self.held_out = True

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the other validator's score."""
        (score,) = self.of_members(training, expect_held_out(held_out), target)
        return score

    def evidence(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> list[float]:
        """Return whether the network is sound, and the other validator's evidence."""
        (member,) = self.members
        sound = is_sound(held_out, target, self.margin)
        asked = as_asked(member, training, held_out, target)
        return [float(sound), *member.evidence(*asked)]

    def compare(self, found: Sequence[Sequence[float]]) -> list[float]:
        """Return the other validator's scores, the sound ones above all others."""
        (member,) = self.members
        scores = member.compare([each[1:] for each in found])
        sound = [bool(each[0]) for each in found]
        known = [
            (s, ok) for s, ok in zip(scores, sound, strict=True) if math.isfinite(s)
        ]
        good = [s for s, ok in known if ok]
        bad = [s for s, ok in known if not ok]
        if not good or not bad:
            return list(scores)
        lowered = min(good) - 1 - max(bad)
        return [s if ok else s + lowered for s, ok in zip(scores, sound, strict=True)]


def is_sound(held_out: Source | None, target: Target, margin: float = 2.0) -> bool:
    """Return whether a network has not collapsed, as far as can be told without labels.

    Parameters
    ----------
    held_out : Source
        Refused without.
    target : Target
    margin : float
        See `Guarded`.
    """
    source = expect_held_out(held_out)
    if not is_finite(source, target):
        return False
    logits = logits_of(target)
    everything = kinds(logits.argmax(1)) == logits.shape[1]
    floor = accuracy_floor(source.labels, logits.shape[1], margin)
    return everything and source_accuracy(source) > floor


def accuracy_floor(labels: Tensor, classes: int, margin: float) -> float:
    r"""Return what a balanced accuracy must exceed, lest it be a guess.

    .. math:: \frac1K + m \sqrt{\frac1{C^2} \sum_{k=1}^{C} \frac1{n_k}
              \frac1K \left(1 - \frac1K\right)}

    for K classes, of which C occur, with :math:`n_k` samples; half way between a guess
    and no error at most, however few samples there are.

    Parameters
    ----------
    labels : Tensor of int, shape (batch,)
    classes : int
    margin : float
        How many standard errors, m.
    """
    counts = torch.bincount(labels.cpu().long(), minlength=classes).double()
    counts = counts[counts > 0]
    chance = 1 / classes
    if not len(counts):
        return chance
    error = (chance * (1 - chance) / counts).sum().sqrt() / len(counts)
    return min(chance + margin * float(error), (1 + chance) / 2)
