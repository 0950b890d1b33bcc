"""How evenly the target's predictions use the classes."""

from __future__ import annotations

import math

from ..core import Source, Target, Validator
from ..registry import register
from .shared import diversity, is_finite, logits_of

__all__ = ["Diversity"]


@register(name="diversity")
class Diversity(Validator):
    r"""All classes in use: the entropy of the target's mean prediction.

    .. math:: -\sum_k \bar p_k \log \bar p_k, \qquad \bar p = \frac1n \sum_i p_i

    in nats, as by pytorch-adapt. It assumes that target classes are equally frequent,
    and nothing else: a network that is unsure of everything scores best. It is the half
    of ``"information-maximisation"`` that sees collapse, and for study.
    """

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, from 0 to log(classes)."""
        found = is_finite(held_out, target)
        return float(diversity(logits_of(target))) if found else -math.inf
