"""Source accuracy and information maximisation together."""

from __future__ import annotations

import math

from ..core import FUSION, Source, Target, Validator
from ..registry import register
from .shared import information, is_finite, source_accuracy

__all__ = ["SourceAndInformation"]


@register(name="source-and-information")
class SourceAndInformation(Validator):
    r"""Source accuracy, plus half of information maximisation on the target.

    .. math:: A + \frac12 \frac{I}{\log K}

    with the balanced accuracy A on held-out source subjects, see ``"source"``, and the
    information I of the K classes, see ``"information-maximisation"``. The first term
    catches the collapsed and the random predictors that the second would take. The
    second assumes balanced target classes; where class shares may differ between
    subjects, use ``"source"``.
    """

    held_out = True

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, from 0 to 1.5."""
        if not is_finite(held_out, target):
            return -math.inf
        classes = target.outputs.logits[FUSION].shape[-1]
        # A single class has no information to share out: 0 whatever it is divided by.
        share = information(target) / math.log(max(classes, 2))
        return source_accuracy(held_out) + 0.5 * share
