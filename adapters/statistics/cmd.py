"""CMD: central moments of source and target embeddings should be alike."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule, length
from domainemo.adapters.kernels import normalised
from domainemo.core import Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

__all__ = ["CMD", "central_moment_discrepancy", "within_range"]

_NARROWEST = 1e-6


@register(name="cmd")
class CMD(Alignment):
    r"""Central moment discrepancy: means and central moments alike (CMD).

    .. math:: \frac{1}{|b - a|} \left\| \operatorname{E} x - \operatorname{E} y \right\|
              + \sum_{k=2}^{K} \frac{1}{|b - a|^k} \left\| c_k(x) - c_k(y) \right\|,
              \qquad c_k(x) = \operatorname{E} (x - \operatorname{E} x)^k

    by coordinate, between embeddings in :math:`[a, b]^d` (Zellinger et al., ICLR 2017).
    The paper has them bounded by an activation; any network may stand here, so each
    coordinate is first brought to [0, 1] by the least and the largest value that the
    two batches have of it. The loss does not change with scale, nor does its gradient
    shorten the embeddings.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    moments : int
        K, up to which moment. The paper's is 5.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        moments: Annotated[int, Bounds(least=1)] = 5,
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.moments = moments

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the discrepancy relative to the batches' range."""
        weights = source.outputs.weight(branch), target.outputs.weight(branch)
        ours, theirs = within_range(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            *weights,
        )
        return central_moment_discrepancy(ours, theirs, *weights, moments=self.moments)


def central_moment_discrepancy(
    source: Tensor,
    target: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    *,
    moments: int = 5,
) -> Tensor:
    """Return the central moment discrepancy of samples in the unit cube.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
        Values in [0, 1].
    source_weights, target_weights : Tensor of shape (..., batch)
    moments : int
        The highest moment.

    Returns
    -------
    Tensor of shape (...)
        Zero where either side has fewer than two points.
    """
    ours = _moments(source, source_weights, moments)
    theirs = _moments(target, target_weights, moments)
    gaps = torch.stack([a - b for a, b in zip(ours, theirs, strict=True)], dim=-2)
    enough = ((source_weights > 0).sum(-1) > 1) & ((target_weights > 0).sum(-1) > 1)
    return length(gaps).sum(-1) * enough


def _moments(points: Tensor, weights: Tensor, highest: int) -> list[Tensor]:
    """Return the mean and the central moments, each of shape (..., dim)."""
    shares = normalised(weights).unsqueeze(-1)
    mean = (points * shares).sum(-2)
    centred = points - mean.unsqueeze(-2)
    powers = (centred**k for k in range(2, highest + 1))
    return [mean, *((power * shares).sum(-2) for power in powers)]


def within_range(
    source: Tensor, target: Tensor, source_weights: Tensor, target_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Bring each coordinate to [0, 1] by its range over both samples.

    The range is over the points of any weight, and has its gradient. A coordinate whose
    range is below 1e-6 is shifted only.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    source_weights, target_weights : Tensor of shape (..., batch)

    Returns
    -------
    tuple of Tensor
        Of the shapes of `source` and `target`.
    """
    points = torch.cat([source, target], dim=-2)
    weights = torch.cat([source_weights, target_weights], dim=-1)
    there = (weights > 0).unsqueeze(-1)
    low = torch.where(there, points, math.inf).amin(-2, keepdim=True)
    high = torch.where(there, points, -math.inf).amax(-2, keepdim=True)
    extent = torch.where(high - low > _NARROWEST, high - low, 1.0)
    low = torch.where(there.any(-2, keepdim=True), low, 0.0)
    # What has no weight may lie outside: its powers must not overflow.
    ours = ((source - low) / extent).clamp(0, 1)
    return ours, ((target - low) / extent).clamp(0, 1)
