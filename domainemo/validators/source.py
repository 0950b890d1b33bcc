"""Accuracy on source domains that were held out of training."""

from __future__ import annotations

import math

from ..core import Source, Target, Validator
from ..registry import register
from .shared import is_finite, source_accuracy

__all__ = ["SourceAccuracy"]


@register(name="source")
class SourceAccuracy(Validator):
    r"""Balanced accuracy on source subjects held out of training.

    .. math:: \frac1C \sum_{k=1}^{C} \frac1{n_k} \sum_{i: y_i = k} [\hat y_i = k]

    the recall, averaged over the C classes that occur.

    It tells how well the model carries over to a new subject, not how well it has
    adapted to this one.
    """

    held_out = True
    sees_target = False

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the balanced accuracy, from 0 to 1."""
        found = is_finite(held_out, target)
        return source_accuracy(held_out) if found else -math.inf
