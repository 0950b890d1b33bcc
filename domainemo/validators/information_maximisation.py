"""Information maximisation on the target's predictions."""

from __future__ import annotations

import math

from ..core import Source, Target, Validator
from ..registry import register
from .shared import information, is_finite

__all__ = ["InformationMaximisation"]


@register(name="information-maximisation")
class InformationMaximisation(Validator):
    r"""Confident predictions that use every class, scored as by pytorch-adapt.

    .. math:: H\left( \frac1n \sum_i p_i \right) - \frac1n \sum_i H(p_i)

    The entropy of the mean prediction less the mean entropy of the predictions, in
    nats: 0 when all samples are predicted alike, log(classes) when each is predicted
    with certainty and the classes are equally frequent (Shi and Sha, ICML 2012).

    It assumes balanced target classes: where class shares differ between subjects it
    chooses badly. It scores a confident random predictor above a good one, so it needs
    a safeguard beside it; ``"source-and-information"`` has one.
    """

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, from 0 to log(classes)."""
        return information(target) if is_finite(held_out, target) else -math.inf
