"""What it costs to carry samples of the source to samples of the target."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from domainemo.adapters.kernels import squared_distances

__all__ = [
    "label_costs",
    "relative_costs",
    "distances_between",
    "typical",
]

_TINY = 1e-12


def distances_between(source: Tensor, target: Tensor) -> Tensor:
    """Return the squared Euclidean distances of source and target.

    Parameters
    ----------
    source : Tensor of shape (..., n, dim)
    target : Tensor of shape (..., m, dim)

    Returns
    -------
    Tensor of shape (..., n, m)
    """
    size = source.shape[-2]
    joined = squared_distances(torch.cat([source, target], dim=-2))
    return joined[..., :size, size:]


def typical(costs: Tensor, pairs: Tensor) -> Tensor:
    """Return the median cost of pairs; their mean, where more than half cost nothing.

    Parameters
    ----------
    costs, pairs : Tensor of shape (..., n, m)
        Costs, and how much each pair counts.

    Returns
    -------
    Tensor of shape (...)
        The least cost such that pairs up to it have half of the weight. Zero where no
        pair counts or none costs anything.
    """
    costs, pairs = costs.flatten(-2), pairs.detach().flatten(-2)
    ascending, order = costs.sort(dim=-1)
    upto = pairs.take_along_dim(order, -1).cumsum(-1)
    place = (upto < upto[..., -1:] / 2).sum(-1, keepdim=True)
    median = ascending.take_along_dim(place, -1).squeeze(-1)
    mean = (costs * pairs).sum(-1) / pairs.sum(-1).clamp(min=_TINY)
    there = pairs.sum(-1) > 0
    return torch.where(median > _TINY, median, mean) * there


def relative_costs(
    source: Tensor, target: Tensor, source_weights: Tensor, target_weights: Tensor
) -> Tensor:
    """Return squared distances over their median.

    The median has its gradient: relative costs cannot be lowered by making everything
    smaller. With a median held fixed they could, the faster the smaller all is, and
    the embeddings would end in a point.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    source_weights, target_weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (..., n, m)
        Zero, with zero gradient, of pairs of which a sample has no weight.
    """
    costs = distances_between(source, target)
    pairs = source_weights[..., :, None] * target_weights[..., None, :]
    scale = typical(costs, pairs).clamp(min=_TINY)
    return torch.where(pairs > 0, costs / scale[..., None, None], 0.0)


def label_costs(labels: Tensor, logits: Tensor) -> Tensor:
    """Return the cross-entropy of each target's prediction with each source's label.

    Parameters
    ----------
    labels : Tensor of int, shape (..., n)
        Of the source.
    logits : Tensor of shape (..., m, classes)
        Of the target.

    Returns
    -------
    Tensor of shape (..., n, m)
    """
    surprise = -functional.log_softmax(logits, dim=-1).mT
    return surprise.take_along_dim(labels[..., None], -2)
