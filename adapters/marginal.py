"""Marginal alignment: source and target embeddings should be distributed alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from domainemo.core import Source, Target
from domainemo.registry import register

from .alignment import Alignment, Weight
from .branches import Branches, Schedule
from .kernels import (
    branch_kernels,
    maximum_mean_discrepancy,
    normalised,
    signed_discrepancy,
)
from .transport.costs import distances_between
from .transport.exact import exact_plan

if TYPE_CHECKING:
    import optuna

__all__ = [
    "Distance",
    "Marginal",
    "correlation_distance",
    "covariance",
    "transport_distance",
]

Distance = Literal["mmd", "mmd-linear", "coral", "transport"]


@register
class Marginal(Alignment):
    r"""Marginal alignment at several levels: each modality and the fusion (UF-AMA).

    .. math:: L = \frac12 d(z_{fusion}, z'_{fusion}) +
              \frac1{2M} \sum_{m=1}^{M} d(z_m, z'_m)

    for the embeddings z of source and z' of target, and a distance d.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    distance : {"mmd", "mmd-linear", "coral", "transport"}
        Maximum mean discrepancy (the full statistic, or the linear-time estimate of
        UF-AMA's released code), correlation alignment, or optimal transport, whose
        solver runs on the CPU and does not vectorise.

    Notes
    -----
    Levels count as in UF-AMA: fusion one half, the modalities share the other half.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        distance: Distance = "mmd",
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.distance = distance
        self.vectorises = distance != "transport"

    def discrepancies(
        self, source: Source, target: Target, branches: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """Return the chosen distance on every branch."""
        if self.distance != "mmd":
            return super().discrepancies(source, target, branches)
        kernel, here, there = branch_kernels(source, target, branches)
        found = signed_discrepancy(kernel, here.unsqueeze(-1), there.unsqueeze(-1))
        return dict(zip(branches, found.squeeze(-1).unbind(-1), strict=True))

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the chosen distance."""
        return _distance(
            self.distance,
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            source.outputs.weight(branch),
            target.outputs.weight(branch),
        )

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the distance."""
        distances = ["mmd", "coral"]
        return {
            **super().space(trial),
            "distance": trial.suggest_categorical("distance", distances),
        }


def correlation_distance(
    source: Tensor, target: Tensor, source_weights: Tensor, target_weights: Tensor
) -> Tensor:
    """Return the squared distance of covariances over 4 dim² (Sun & Saenko, 2016).

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    source_weights, target_weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
        Zero where either side has fewer than two points.
    """
    gap = covariance(source, source_weights) - covariance(target, target_weights)
    enough = (source_weights.sum(-1) > 1) & (target_weights.sum(-1) > 1)
    return gap.square().sum((-2, -1)) / (4 * source.shape[-1] ** 2) * enough


def covariance(points: Tensor, weights: Tensor) -> Tensor:
    """Return the unbiased sample covariance; zero of fewer than two points.

    Parameters
    ----------
    points : Tensor of shape (..., batch, dim)
    weights : Tensor of shape (..., batch)
        How often each point is there.

    Returns
    -------
    Tensor of shape (..., dim, dim)
    """
    centre = (points * normalised(weights)[..., None]).sum(-2, keepdim=True)
    centred = points - centre
    scatter = (centred * weights[..., None]).mT @ centred
    return scatter / (weights.sum(-1) - 1).clamp(min=1)[..., None, None]


def transport_distance(
    source: Tensor, target: Tensor, source_weights: Tensor, target_weights: Tensor
) -> Tensor:
    r"""Return the cost of the optimal plan from source to target, relative to scale.

    .. math:: \frac{\sum_{ij} T_{ij} c_{ij}}{\sum_{ij} p_i u_j c_{ij}}

    with the squared Euclidean distances c, the weights p and u of the samples, each
    of sum one, and the exact plan T of least cost (POT), which has no gradient. The
    mean cost has its own: making everything smaller lowers nothing. Balanced transport
    assumes that source and target have the same class shares.

    Parameters
    ----------
    source, target : Tensor of shape (batch, dim)
    source_weights, target_weights : Tensor of shape (batch,)

    Returns
    -------
    Tensor of shape ()
    """
    masses = normalised(source_weights), normalised(target_weights)
    costs = distances_between(source, target)
    plan, _ = exact_plan(costs, *masses)
    mean = masses[0] @ costs @ masses[1]
    return (costs * plan).sum() / mean.clamp(min=1e-12)


def _distance(
    name: Distance,
    source: Tensor,
    target: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
) -> Tensor:
    points = (source, target, source_weights, target_weights)
    if name == "coral":
        return correlation_distance(*points)
    if name == "transport":
        return transport_distance(*points)
    return maximum_mean_discrepancy(*points, linear=name == "mmd-linear")
