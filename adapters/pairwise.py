"""Pairwise similarity: source samples of one class should be predicted alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from domainemo.core import Adapter, Source, Target
from domainemo.registry import register

from .alignment import Weight
from .branches import shares

if TYPE_CHECKING:
    import optuna

__all__ = ["PairwiseSimilarity", "pairwise_similarity"]


@register
class PairwiseSimilarity(Adapter):
    r"""Supervised pairwise term on the source (UF-AMA; Zhou et al., 2023, PR-PL).

    .. math:: L = -\frac1{B^2} \sum_{ij} \left[ T_{ij} \log S_{ij} +
              (1 - T_{ij}) \log(1 - S_{ij}) \right]

    on each branch, with the cosine S of two samples' predictions, and T 1 where their
    labels are equal; see `pairwise_similarity`.

    Parameters
    ----------
    weight : float
        Weight of the sum over branches.
    """

    needs_target = False

    def __init__(self, *, weight: Weight = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return one loss per branch."""
        outputs, counted = source.outputs, shares(source.outputs)
        logits = torch.stack([outputs.logits[branch] for branch in counted], dim=-3)
        weights = torch.stack([outputs.weight(branch) for branch in counted], dim=-2)
        found = pairwise_similarity(logits, source.labels.unsqueeze(-2), weights)
        return {
            branch: self.weight * share * loss
            for (branch, share), loss in zip(
                counted.items(), found.unbind(-1), strict=True
            )
        }

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 0.01, 10, log=True)}


def pairwise_similarity(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    r"""Return the cross-entropy of pair similarity against same-class truth.

    .. math:: \frac1{B^2} \sum_{ij} -T_{ij} \log(S_{ij} + \eta)
              - (1 - T_{ij}) \log(1 - S_{ij} + \eta), \quad \eta = 10^{-3}

    with :math:`S_{ij}` the cosine of the two predictions' probabilities and
    :math:`T_{ij}` 1 where the labels are equal.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    labels : Tensor of int, shape (..., batch)
    weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
    """
    directions = functional.normalize(logits.softmax(-1), dim=-1)
    similar = (directions @ directions.mT).clamp(max=1)
    same = labels.unsqueeze(-1) == labels.unsqueeze(-2)
    losses = -torch.where(same, similar + 1e-3, 1 - similar + 1e-3).log()
    pairs = weights.unsqueeze(-1) * weights.unsqueeze(-2)
    return (losses * pairs).sum((-2, -1)) / pairs.sum((-2, -1)).clamp(min=1e-12)
