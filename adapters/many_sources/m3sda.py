"""M3SDA: the moments of every source domain and of the target should be equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import Branches, Schedule, length, weighted_mean
from domainemo.adapters.domains import BetweenDomains
from domainemo.core import Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["M3SDA", "moment_distance"]


@register(name="m3sda")
class M3SDA(BetweenDomains):
    r"""Moment matching between all source domains and the target (M3SDA).

    The moment distance of Peng, Bai, Xia, Huang, Saenko and Wang (ICCV 2019), of each
    source domain from the target, and of all pairs of source domains from each other:

    .. math:: L = \sum_{k=1}^{K} \Big( \frac1N \sum_i \|E(X_i^k) - E(X_T^k)\|_2 +
              \binom N2^{-1} \sum_{i<j} \|E(X_i^k) - E(X_j^k)\|_2 \Big)

    see `moment_distance`. Their variant M3SDA-beta trains two classifiers per source
    domain against each other besides, which is no part of this. The code that they
    released departs from their equation, which is followed here.

    A domain's moments are those of its samples in the batch. A batch should hold
    several of each: take ``training.balance = "domains"`` and a larger
    ``training.batch_size``.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`. The weight 5e-4 is the released code's. Lengths are not squared
        here: however near the domains are, their gradient is as long as before, and
        with a weight about 1 it shrinks the embeddings to nothing.
    moments : int
        How many moments are matched.
    """

    def __init__(
        self,
        *,
        weight: Weight = 5e-4,
        moments: Annotated[int, Bounds(1)] = 2,
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.moments = moments

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the moment distance."""
        return moment_distance(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            self.members(source, branch),
            target.outputs.weight(branch),
            moments=self.moments,
        )

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 1e-5, 0.1, log=True)}


def moment_distance(
    source: Tensor,
    target: Tensor,
    belonging: Tensor,
    target_weights: Tensor,
    *,
    moments: int = 2,
) -> Tensor:
    r"""Return the moment distance of several source domains and a target.

    .. math:: \sum_{k=1}^{K} \Big( \frac1N \sum_i \|E(X_i^k) - E(X_T^k)\|_2 +
              \binom N2^{-1} \sum_{i<j} \|E(X_i^k) - E(X_j^k)\|_2 \Big)

    with powers of every coordinate by itself (Peng et al., 2019, definition 1), over
    the N source domains that the batch shows.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    belonging : Tensor of shape (..., domains, batch)
        Weights of the source's samples by domain, see `domains.members`.
    target_weights : Tensor of shape (..., batch)
    moments : int
        The K of the equation.

    Returns
    -------
    Tensor of shape (...)
        Without a target, the second sum alone; of a single domain, the first.
    """
    # The target as one more domain, the last.
    there = torch.cat([belonging.sum(-1), target_weights.sum(-1, keepdim=True)], -1) > 0
    shown = there.to(belonging.dtype)
    pairs = (shown.unsqueeze(-1) * shown.unsqueeze(-2)).triu(1)
    total = pairs.sum((-2, -1)) * 0
    for power in range(1, moments + 1):
        ours = _means(source**power, belonging)
        theirs = _means(target**power, target_weights.unsqueeze(-2))
        means = torch.cat([ours, theirs], dim=-2)
        gaps = length(means.unsqueeze(-2) - means.unsqueeze(-3))
        to_target = weighted_mean(gaps[..., :-1, -1], pairs[..., :-1, -1])
        among = weighted_mean(
            gaps[..., :-1, :-1].flatten(-2), pairs[..., :-1, :-1].flatten(-2)
        )
        total = total + to_target + among
    return total


def _means(points: Tensor, belonging: Tensor) -> Tensor:
    """Return the mean of points (..., batch, dim) in every domain."""
    sums = belonging @ points
    return sums / belonging.sum(-1, keepdim=True).clamp(min=1e-12)
