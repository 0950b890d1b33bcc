"""AFN: longer features, a step at a time, in both domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule, weighted_mean
from domainemo.core import FUSION, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["AdaptiveFeatureNorm", "norm_step"]

_SHORTEST = 1e-6


@register(name="afn")
class AdaptiveFeatureNorm(Alignment):
    r"""Features of both domains grow longer, a step at a time (AFN).

    Features of the target are often shorter than the source's, and short features
    transfer badly (Xu, Li, Yang and Lin, Larger norm more transferable, ICCV 2019;
    its stepwise form, SAFN):

    .. math:: L = \mathbb E_s (\|f_s\| - r_s)^2 + \mathbb E_t (\|f_t\| - r_t)^2, \quad
              r = \|f\| + \Delta r \text{ without gradient}

    The value is :math:`2 \Delta r^2` throughout; its gradient is what counts. Nothing
    in it is adversarial, and nothing tells the domains apart. The
    authors' network ends in batch normalisation. Without, one direction that all
    samples share may grow without bound and drown the classes: see
    ``backbone.normalisation=batch`` in ``concatenation-mlp``. After a layer's
    normalisation, embeddings can follow only by that layer's scale. The paper's
    dropout, which keeps the length, is the network's affair here.

    Parameters
    ----------
    weight, branches, schedule
        See `alignment.Alignment`; constant 0.05 in the paper.
    step : float
        :math:`\Delta r`.
    """

    def __init__(
        self,
        *,
        weight: Weight = 0.05,
        branches: Branches = FUSION,
        schedule: Schedule = "constant",
        step: Annotated[float, Bounds(above=0)] = 1.0,
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.step = step

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the sum of both domains' distances from the next step."""
        here, there = (
            norm_step(each.embeddings[branch], each.weight(branch), self.step)
            for each in (source.outputs, target.outputs)
        )
        return here + there

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the step."""
        return {
            "weight": trial.suggest_float("weight", 0.005, 0.5, log=True),
            "step": trial.suggest_float("step", 0.1, 2, log=True),
        }


def norm_step(features: Tensor, weights: Tensor, step: float) -> Tensor:
    """Return the mean squared distance of lengths from themselves and a step more.

    Parameters
    ----------
    features : Tensor of shape (..., batch, dim)
        Those shorter than 1e-6 have no direction, and zero gradient.
    weights : Tensor of shape (..., batch)
    step : float

    Returns
    -------
    Tensor of shape (...)
    """
    squares = features.square().sum(-1)
    there = squares > _SHORTEST**2
    lengths = torch.where(there, squares, 1.0).sqrt()
    return weighted_mean((lengths - lengths.detach() - step).square(), weights)
