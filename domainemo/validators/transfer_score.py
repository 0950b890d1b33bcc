"""How clustered the target's embeddings are, and how informative its predictions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core import Source, Target, Validator
from ..registry import register
from .shared import Samples, embeddings_of, information, is_finite, logits_of, sampled

__all__ = ["TransferScore", "clustering_tendency"]

_SHARE = 0.05
_FEWEST = 20


@register(name="transfer-score")
class TransferScore(Validator):
    r"""Clustered embeddings and informative predictions: the Transfer Score.

    .. math:: H + \frac{I}{\log K}

    with the Hopkins statistic H of the target's embeddings, about 0.5 for points
    without clusters and 1 for tight ones, and the information I of its predictions, see
    ``"information-maximisation"`` (Yang et al., ICLR 2024). Of the paper's three terms
    the uniformity of the classifier's weight vectors is left out: heads here have a
    hidden layer, so that no class has one vector. It assumes that tight clusters are
    classes, and that these are equally frequent; it inherits how information
    maximisation fails, and a network may cluster sessions or anything else.

    Parameters
    ----------
    samples : int
        Of more target samples than this, so many are drawn with a fixed seed.
    """

    def __init__(self, *, samples: Samples = 1000) -> None:
        self.samples = samples

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, from 0 to 2."""
        if not is_finite(held_out, target, embeddings=True):
            return -math.inf
        points = embeddings_of(target)
        points = points[sampled(len(points), self.samples)]
        share = information(target) / math.log(max(logits_of(target).shape[1], 2))
        return float(clustering_tendency(points)) + share


def clustering_tendency(points: Tensor) -> Tensor:
    """Return the Hopkins statistic, of a twentieth of the points by a fixed seed.

    The distances from random places, even in the box around the points, to the nearest
    point, by their sum with those from points to the nearest other point.

    Parameters
    ----------
    points : Tensor of shape (batch, dim)

    Returns
    -------
    Tensor
        A scalar; 0 of fewer than 20 points, as by the authors, and where all are equal.
    """
    count = len(points)
    if count < _FEWEST:
        return points.new_zeros(())
    generator = torch.Generator().manual_seed(0)
    number = int(_SHARE * count)
    low, high = points.min(0).values, points.max(0).values
    places = torch.rand(number, points.shape[1], generator=generator, dtype=low.dtype)
    chosen = torch.randperm(count, generator=generator)[:number]
    exact = "donot_use_mm_for_euclid_dist"
    random = torch.cdist(low + places * (high - low), points, compute_mode=exact)
    own = torch.cdist(points[chosen], points, compute_mode=exact)
    own[torch.arange(number), chosen] = math.inf
    away, apart = random.min(1).values.sum(), own.min(1).values.sum()
    total = away + apart
    return torch.where(total > 0, away / total, torch.zeros_like(total))
