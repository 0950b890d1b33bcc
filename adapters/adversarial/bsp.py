"""BSP: no direction of the features dominates a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.core import FUSION, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["BatchSpectralPenalisation", "largest_spectrum"]


@register(name="bsp")
class BatchSpectralPenalisation(Alignment):
    r"""Smaller largest singular values of the features, beside an adversary (BSP).

    Adversarial alignment leaves the features few directions, those that transfer; this
    penalty gives the others a chance (Chen, Wang, Long and Wang, Transferability vs.
    discriminability, ICML 2019):

    .. math:: L = \sum_{i=1}^{k} \left(\sigma_{s,i}^2 + \sigma_{t,i}^2\right)

    with :math:`\sigma_{s,1} \ge \sigma_{s,2} \ge \dots` the singular values of the
    source's features, a row per sample, and :math:`\sigma_t` the target's. It aligns
    nothing by itself: ``--adapter dann+bsp`` or ``cdan+bsp``. It grows with the batch.

    Parameters
    ----------
    weight, branches, schedule
        See `alignment.Alignment`; constant 1e-4 in the paper.
    k : int
        How many singular values of each domain.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1e-4,
        branches: Branches = FUSION,
        schedule: Schedule = "constant",
        k: Annotated[int, Bounds(least=1)] = 1,
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.k = k

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the sum of both domains' largest squared singular values."""
        here, there = (
            largest_spectrum(each.embeddings[branch], each.weight(branch), self.k)
            for each in (source.outputs, target.outputs)
        )
        return here + there

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 1e-5, 1e-2, log=True)}


def largest_spectrum(features: Tensor, weights: Tensor, k: int) -> Tensor:
    """Return the sum of the `k` largest squared singular values.

    Parameters
    ----------
    features : Tensor of shape (..., batch, dim)
    weights : Tensor of shape (..., batch)
        A row of weight 2 counts as two.
    k : int

    Returns
    -------
    Tensor of shape (...)
    """
    rows = features * weights.sqrt().unsqueeze(-1)
    rows = rows.mT if rows.shape[-2] < rows.shape[-1] else rows
    # The optimal directions may be held fixed in the gradient, which then is finite
    # where singular values coincide. The solver refuses what is not finite; the product
    # below shows it to those who watch over the loss.
    gram = (rows.mT @ rows).detach().nan_to_num(0, 0, 0)
    directions: Tensor = torch.linalg.eigh(gram).eigenvectors[..., -k:]
    return (rows @ directions).square().sum((-2, -1))
