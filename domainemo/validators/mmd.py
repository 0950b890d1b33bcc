"""How far the target's embeddings lie from the source's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core import Source, Target, Validator
from ..registry import register
from .shared import Samples, embeddings_of, is_finite, sampled

__all__ = ["MaximumMeanDiscrepancy", "discrepancy"]


@register(name="mmd")
class MaximumMeanDiscrepancy(Validator):
    r"""Source and target embedded alike: the negative maximum mean discrepancy.

    .. math:: -\widehat{\operatorname{MMD}}{}^2(x, y), \qquad
              k(a, b) = \exp(-\lVert a - b \rVert^2 / \sigma)

    the unbiased estimate of the squared discrepancy (Gretton et al., JMLR 2012) between
    embeddings of the source that trains and of the target, with the source's median
    squared distance for :math:`\sigma`; as by pytorch-adapt. It assumes that a network
    is good as far as it cannot tell the domains apart, which says nothing of classes: a
    network that embeds everything alike scores best, and one whose classes are equally
    frequent in source alone cannot score well. For study only.

    Parameters
    ----------
    samples : int
        Of more samples of a side than this, so many are drawn with a fixed seed.
    """

    needs_training = True

    def __init__(self, *, samples: Samples = 1000) -> None:
        self.samples = samples

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score: about 0 where the two are alike, else below."""
        assert training is not None
        if not is_finite(training, held_out, target, embeddings=True):
            return -math.inf
        source, other = (
            points[sampled(len(points), self.samples)]
            for points in (embeddings_of(training), embeddings_of(target))
        )
        return -float(discrepancy(source, other))


def discrepancy(source: Tensor, target: Tensor) -> Tensor:
    """Return the unbiased estimate; 0 where either has fewer than two points.

    Parameters
    ----------
    source, target : Tensor of shape (batch, dim)
    """
    if min(len(source), len(target)) < 2:
        return source.new_zeros(())
    width = _distances(source, source).median()
    width = width.clamp(min=torch.finfo(source.dtype).tiny)
    # One after the other and in place: they are large.
    within = [
        (kernel.sum() - kernel.diagonal().sum()) / (len(kernel) * (len(kernel) - 1))
        for kernel in (
            _distances(each, each).div_(-width).exp_() for each in (source, target)
        )
    ]
    across = _distances(source, target).div_(-width).exp_().mean()
    return within[0] + within[1] - 2 * across


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Return squared distances; of points without gradient."""
    # Not by a matrix product, whose rounding sets equal points apart.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(first, second, compute_mode=mode).square_()
