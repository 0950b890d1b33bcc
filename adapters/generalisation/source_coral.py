"""CORAL between sources: embeddings of all source domains should be spread alike."""

from __future__ import annotations

import torch
from torch import Tensor

from domainemo.adapters.domains import BetweenDomains
from domainemo.adapters.kernels import normalised
from domainemo.core import Source, Target
from domainemo.registry import register

__all__ = ["SourceCORAL", "pairwise_correlation_distance"]


@register(name="source-coral")
class SourceCORAL(BetweenDomains):
    r"""Means and covariances alike in all source domains (CORAL), without a target.

    Correlation alignment (Sun and Saenko, 2016) between each pair of source domains
    rather than towards a target, as the benchmark DomainBed has it (Gulrajani and
    Lopez-Paz, ICLR 2021):

    .. math:: L = \binom N2^{-1} \sum_{a<b} \Big( \frac1d \|\mu_a - \mu_b\|^2 +
              \frac1{d^2} \|C_a - C_b\|_F^2 \Big)

    with the means and covariances of N domains, see `pairwise_correlation_distance`.

    A covariance is that of the domain's samples in the batch. With few of each it says
    little: take ``training.balance = "domains"`` and a larger ``training.batch_size``.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    """

    needs_target = False

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the distance."""
        points, belonging = (
            source.outputs.embeddings[branch],
            self.members(source, branch),
        )
        return pairwise_correlation_distance(points, belonging)


def pairwise_correlation_distance(points: Tensor, belonging: Tensor) -> Tensor:
    r"""Return the mean distance of means and covariances over all pairs of domains.

    .. math:: \binom N2^{-1} \sum_{a<b} \Big( \frac1d \|\mu_a - \mu_b\|^2 +
              \frac1{d^2} \|C_a - C_b\|_F^2 \Big)

    The sum over pairs is N times the sum of squared distances from the mean over
    domains, so that no pair is formed.

    Parameters
    ----------
    points : Tensor of shape (..., batch, dim)
    belonging : Tensor of shape (..., domains, batch)
        Weights of the samples by domain, see `domains.members`.

    Returns
    -------
    Tensor of shape (...)
        Over domains of two samples or more; zero unless there are two of these.
    """
    total = belonging.sum(-1)
    shares = normalised(belonging)
    means = shares @ points
    centred = points.unsqueeze(-3) - means.unsqueeze(-2)
    scatter = (centred * belonging.unsqueeze(-1)).mT @ centred
    covariances = scatter / (total - 1).clamp(min=1e-12)[..., None, None]
    several = ((belonging > 0).sum(-1) > 1) & (total > 1)
    return _over_pairs(means, several) + _over_pairs(covariances.flatten(-2), several)


def _over_pairs(rows: Tensor, counted: Tensor) -> Tensor:
    """Return the mean squared difference of those of the rows that are counted."""
    weights = counted.to(rows.dtype)
    rows = torch.where(counted.unsqueeze(-1), rows, 0.0)
    mean = (normalised(weights).unsqueeze(-1) * rows).sum(-2, keepdim=True)
    spread = ((rows - mean).square().mean(-1) * weights).sum(-1)
    return 2 * spread / (weights.sum(-1) - 1).clamp(min=1)
