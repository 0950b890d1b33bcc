"""Sinkhorn divergence: entropic transport, less what it costs within the domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.adapters.kernels import normalised, squared_distances
from domainemo.core import Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

from .costs import distances_between, typical
from .sinkhorn import entropic_plan, logarithm, soft_minimum

if TYPE_CHECKING:
    import optuna

__all__ = ["SinkhornDivergence", "sinkhorn_divergence"]


@register(name="sinkhorn-divergence")
class SinkhornDivergence(Alignment):
    r"""Entropic transport, debiased, on each branch (Sinkhorn divergence).

    .. math:: L = T(a, b) - \tfrac12 T(a, a) - \tfrac12 T(b, b), \quad
              T(a, b) = \min_P \langle P, C \rangle + \varepsilon KL(P \| a b^\top)

    Genevay, Peyré & Cuturi (2018); Feydy et al. (2019); see `sinkhorn_divergence`.
    Balanced: it assumes that source and target have the same class shares. From the
    papers it differs in that distances count relative to their median in the batch.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`. Delayed, as distances are relative: those of a network that
        has learned nothing yet would count as much as later ones.
    epsilon : float
        Entropic regularisation, as a share of the median squared distance of source
        and target. Small is close to optimal transport, large to a distance of means.
    iterations : int
        Of Sinkhorn. Small `epsilon` needs more, most of all in few dimensions; with
        too few the divergence is inexact, and still zero for equal domains.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        epsilon: Annotated[float, Bounds(above=0)] = 0.1,
        iterations: Annotated[int, Bounds(least=1)] = 30,
        branches: Branches = "all",
        schedule: Schedule = "delayed",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.epsilon, self.iterations = epsilon, iterations

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the divergence."""
        return sinkhorn_divergence(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            source.outputs.weight(branch),
            target.outputs.weight(branch),
            epsilon=self.epsilon,
            iterations=self.iterations,
        )

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the regularisation."""
        return {
            **super().space(trial),
            "epsilon": trial.suggest_float("epsilon", 0.05, 1, log=True),
        }


def sinkhorn_divergence(
    source: Tensor,
    target: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    *,
    epsilon: float = 0.1,
    iterations: int = 30,
) -> Tensor:
    r"""Return the Sinkhorn divergence of two weighted samples.

    .. math:: S(a, b) = T(a, b) - \tfrac12 T(a, a) - \tfrac12 T(b, b), \quad
              T(a, b) = \min_P \langle P, C \rangle + \varepsilon KL(P \| a b^\top)

    over plans :math:`P` with the marginals :math:`a` and :math:`b`, :math:`C` the
    squared distances over their median between source and target. Never negative
    when the iterations have converged, and zero for equal samples in any case
    (Feydy et al., 2019). Its gradient goes by the plans (the envelope theorem): none
    passes through the iterations. It passes through the median, so that nothing is
    gained by making all distances smaller.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    source_weights, target_weights : Tensor of shape (..., batch)
    epsilon : float
        Relative to the median.
    iterations : int

    Returns
    -------
    Tensor of shape (...)
        Zero where either sample has no weight.
    """
    masses = normalised(source_weights), normalised(target_weights)
    between = distances_between(source, target)
    pairs = source_weights[..., :, None] * target_weights[..., None, :]
    scale = typical(between, pairs)[..., None, None, None]
    within = [squared_distances(points) for points in (source, target)]
    # Three problems of one size are solved at once.
    size = max(each.shape[-1] for each in masses)
    a, b = (functional.pad(each, (0, size - each.shape[-1])) for each in masses)
    costs = [_padded(each, size) for each in (between, *within)]
    ours, theirs = torch.stack([a, a, b], dim=-2), torch.stack([b, a, b], dim=-2)
    relative = torch.stack(costs, dim=-3) / scale.clamp(min=1e-12)
    values = _transport(relative, ours, theirs, epsilon, iterations)
    divergence = values[..., 0] - (values[..., 1] + values[..., 2]) / 2
    both = (source_weights.sum(-1) > 0) & (target_weights.sum(-1) > 0)
    return divergence * both


def _padded(costs: Tensor, size: int) -> Tensor:
    n, m = costs.shape[-2:]
    return functional.pad(costs, (0, size - m, 0, size - n))


def _transport(
    costs: Tensor, a: Tensor, b: Tensor, epsilon: float, iterations: int
) -> Tensor:
    """Return the dual objective: never above T, and its gradient by C is the plan."""
    # Of samples without mass nothing must be known, not even how far they are.
    costs = torch.where(a[..., :, None] * b[..., None, :] > 0, costs / epsilon, 0.0)
    f, g = _potentials(costs.detach(), a, b, iterations)
    plan = entropic_plan(costs, a, b, f, g)
    surplus = plan.sum((-2, -1)) - a.sum(-1) * b.sum(-1)
    return epsilon * ((a * f).sum(-1) + (b * g).sum(-1) - surplus)


def _potentials(
    costs: Tensor, a: Tensor, b: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """Iterate on both at once, by half a step: what is symmetric stays symmetric."""
    source, target = logarithm(a), logarithm(b)
    f, g = torch.zeros_like(source), torch.zeros_like(target)
    for _ in range(iterations):
        towards = soft_minimum(costs, g, target), soft_minimum(costs.mT, f, source)
        f, g = (f + towards[0]) / 2, (g + towards[1]) / 2
    return f, g
