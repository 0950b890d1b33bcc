"""Whether the source samples that the target resembles are predicted rightly."""

from __future__ import annotations

import math

from torch.nn.functional import normalize

from ..core import Source, Target, Validator
from ..registry import register
from .shared import Samples, expect_held_out, is_finite, logits_of, sampled

__all__ = ["NearestSource"]


@register(name="nearest-source")
class NearestSource(Validator):
    r"""Accuracy of the held-out source samples next to each target sample.

    .. math:: \frac1n \sum_i [\hat y_{j(i)} = y_{j(i)}], \qquad
              j(i) = \arg\max_j \cos(p_i, p_j)

    For every target sample, the held-out source sample whose prediction has the
    smallest angle to its own: the share of these that are right (pytorch-adapt's
    ``NearestSourceValidator``). It assumes that predictions as sure as in the source
    are as often right. A network that predicts one class everywhere scores as often as
    that class is right; several people whom it fits badly are told by their neighbours,
    which may be few.

    Parameters
    ----------
    samples : int
        Of more samples of a side than this, so many are drawn with a fixed seed.
    """

    held_out = True

    def __init__(self, *, samples: Samples = 1000) -> None:
        self.samples = samples

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, from 0 to 1."""
        source = expect_held_out(held_out)
        if not is_finite(source, target):
            return -math.inf
        rows = sampled(len(source.labels), self.samples)
        known, others = logits_of(source)[rows], logits_of(target)
        others = others[sampled(len(others), self.samples)]
        if not len(known) or not len(others):
            return 0.0
        correct = (known.argmax(1) == source.labels.cpu()[rows]).double()
        alike = normalize(others.softmax(1)) @ normalize(known.softmax(1)).T
        return float(correct[alike.argmax(1)].mean())
