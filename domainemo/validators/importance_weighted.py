"""Accuracy on held-out source samples that look like the target's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core import Source, Target, Validator
from ..registry import register
from .shared import (
    Samples,
    embeddings_of,
    expect_held_out,
    is_finite,
    logits_of,
    sampled,
)

__all__ = ["ImportanceWeighted", "density_ratios"]


@register(name="importance-weighted")
class ImportanceWeighted(Validator):
    r"""Accuracy on held-out source samples, weighted towards the target: IWCV.

    .. math:: \frac{\sum_i w_i [\hat y_i = y_i]}{\sum_i w_i}, \qquad
              w_i = \frac{p_T(x_i)}{p_S(x_i)}

    (Sugiyama, Krauledat and Müller, JMLR 2007). As by skada the densities are Gaussian
    kernel estimates of bandwidth 1; of the embeddings here, as inputs have too many
    dimensions for one. It assumes covariate shift: that the same signals mean the same
    class in all people, and that the source lies where the target does. Where the two
    are far apart, a handful of samples decides, and the score is noise.

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
        if not is_finite(source, target, embeddings=True):
            return -math.inf
        if not len(source.labels):
            return 0.0
        rows = sampled(len(source.labels), self.samples)
        others = embeddings_of(target)
        others = others[sampled(len(others), self.samples)]
        weights = density_ratios(embeddings_of(source)[rows], others)
        correct = logits_of(source).argmax(1)[rows] == source.labels.cpu()[rows]
        return float((weights * correct).sum())


def density_ratios(source: Tensor, target: Tensor) -> Tensor:
    """Return target over source density at the source's points, summing to one.

    Parameters
    ----------
    source, target : Tensor of shape (batch, dim)

    Returns
    -------
    Tensor of shape (len(source),)
        All alike where there is no target.
    """
    if not len(target):
        return source.new_ones(len(source)) / max(len(source), 1)
    apart = "donot_use_mm_for_euclid_dist"
    own, other = (
        torch.logsumexp(-(torch.cdist(source, each, compute_mode=apart) ** 2) / 2, 1)
        for each in (source, target)
    )
    return (other - own).softmax(0)
