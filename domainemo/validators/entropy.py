"""How sure the target's predictions are."""

from __future__ import annotations

import math

from ..core import Source, Target, Validator
from ..registry import register
from .shared import entropy, is_finite, logits_of

__all__ = ["Entropy"]


@register(name="entropy")
class Entropy(Validator):
    r"""Sure predictions: the negative mean entropy on the target.

    .. math:: \frac1n \sum_{i,k} p_{ik} \log p_{ik}

    in nats (Morerio, Cavazza and Murino, ICLR 2018; pytorch-adapt, and skada but for
    the number of classes, by which it divides). It assumes that a network is sure where
    it is right. One that predicts a single class, or guesses with confidence, scores
    best of all: for study, or under ``"guarded"``.
    """

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, from -log(classes) to 0."""
        if not is_finite(held_out, target):
            return -math.inf
        found = entropy(logits_of(target))
        return -float(found.mean()) if len(found) else 0.0
