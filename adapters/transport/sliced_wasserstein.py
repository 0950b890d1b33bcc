"""Sliced Wasserstein: transport along random lines, where it is a matter of sorting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.core import Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

__all__ = ["SlicedWasserstein", "sliced_wasserstein"]

_TINY = 1e-12


@register(name="sliced-wasserstein")
class SlicedWasserstein(Alignment):
    r"""Transport between the domains along random lines, per branch (SWD).

    .. math:: L = \frac1L \sum_l \int_0^1 \left( F^{-1}_l(q) - G^{-1}_l(q) \right)^2 dq

    for the quantiles of source and target along a line l, see `sliced_wasserstein`
    (Bonneel et al., 2015). New lines are drawn at every step of training, and stay
    the same in evaluation. Balanced: it assumes that source and target have the same
    class shares. Lee et al. (2019) compare what two classifiers make of the target;
    here the embeddings of source and target are compared.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    projections : int
        How many lines.
    """

    directions: Tensor

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        projections: Annotated[int, Bounds(least=1)] = 64,
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.projections = projections

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Draw the lines of evaluation, in as many dimensions as any branch has."""
        drawn = torch.randn(self.projections, max(dims.values()))
        self.register_buffer("directions", drawn)

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the squared sliced distance."""
        embeddings = source.outputs.embeddings[branch]
        directions = self.directions[:, : embeddings.shape[-1]].to(embeddings)
        if self.training:
            directions = torch.randn_like(directions)
        return sliced_wasserstein(
            embeddings,
            target.outputs.embeddings[branch],
            source.outputs.weight(branch),
            target.outputs.weight(branch),
            directions,
        )


def sliced_wasserstein(
    source: Tensor,
    target: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    directions: Tensor,
) -> Tensor:
    r"""Return the squared sliced 2-Wasserstein distance of two weighted samples.

    .. math:: \frac1L \sum_l \int_0^1 \left( F^{-1}_l(q) - G^{-1}_l(q) \right)^2 dq

    with the quantile functions of both samples along direction :math:`l` (Bonneel et
    al., 2015; Lee et al., 2019). The samples need not be of one size.

    Parameters
    ----------
    source : Tensor of shape (..., n, dim)
    target : Tensor of shape (..., m, dim)
    source_weights : Tensor of shape (..., n)
    target_weights : Tensor of shape (..., m)
    directions : Tensor of shape (projections, dim)
        Of any length.

    Returns
    -------
    Tensor of shape (...)
        Zero where either sample has no weight.
    """
    lengths = directions.norm(dim=-1, keepdim=True).clamp(min=_TINY)
    lines = (directions / lengths).mT
    first, upto = _sorted((source @ lines).mT, source_weights)
    second, other = _sorted((target @ lines).mT, target_weights)
    # Both quantile functions are constant between these levels.
    levels = torch.cat([upto, other], dim=-1).sort(dim=-1).values
    widths = levels.diff(dim=-1, prepend=torch.zeros_like(levels[..., :1]))
    middles = levels - widths / 2
    gaps = _quantiles(first, upto, middles) - _quantiles(second, other, middles)
    distance = (gaps.square() * widths).sum(-1).mean(-1)
    both = (source_weights.sum(-1) > 0) & (target_weights.sum(-1) > 0)
    return distance * both


def _sorted(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return values (..., projections, n) in order, and which share lies up to each."""
    ordered, order = values.sort(dim=-1)
    upto = weights[..., None, :].expand_as(values).take_along_dim(order, -1).cumsum(-1)
    # Over the last, which is 1 then to the bit: no level lies beyond all samples.
    return ordered, upto / upto[..., -1:].clamp(min=_TINY)


def _quantiles(ordered: Tensor, upto: Tensor, levels: Tensor) -> Tensor:
    places = torch.searchsorted(upto.contiguous(), levels.contiguous())
    # Beyond all is a level only where there is no mass at all.
    return ordered.take_along_dim(places.clamp(max=ordered.shape[-1] - 1), -1)
