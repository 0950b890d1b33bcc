"""MDD: a second head agrees on the source and disagrees on the target, by a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor, nn

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import (
    Branches,
    Schedule,
    cross_entropy,
    weighted_mean,
)
from domainemo.core import FUSION, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

from .discriminator import Adversarial, Width, perceptron
from .reversal import reverse

if TYPE_CHECKING:
    import optuna

__all__ = ["MDD", "margin_disparity"]


@register(name="mdd")
class MDD(Adversarial):
    r"""Features on which a second head cannot contradict the first (MDD).

    With y what the branch's classifier predicts, an adversarial head h learns to
    predict the same on the source and anything else on the target; the features work
    against it, by gradient reversal (Zhang, Liu, Long and Jordan, Bridging theory and
    algorithm for domain adaptation, ICML 2019):

    .. math:: \min_h L, \quad \max_f \lambda L, \quad
              L = -\gamma \, \mathbb E_s \log h_y(f_s)
              - \mathbb E_t \log(1 - h_y(f_t))

    The paper's ramp ends at one tenth, which is ``weight=0.1``.

    Parameters
    ----------
    weight, branches, schedule, width
        See `discriminator.Adversarial`.
    gamma : float
        :math:`\gamma = e^\rho` of the margin :math:`\rho`.
    """

    def __init__(
        self,
        *,
        weight: Weight = 0.1,
        branches: Branches = FUSION,
        schedule: Schedule = "ramp",
        width: Width = 128,
        gamma: Annotated[float, Bounds(least=1)] = 4.0,
    ) -> None:
        super().__init__(
            weight=weight, branches=branches, schedule=schedule, width=width
        )
        self.gamma = gamma

    def adversary(self, dim: int, classes: int) -> nn.Module:
        """Return an adversarial head."""
        return perceptron(dim, self.width, classes)

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the adversarial head's loss on each branch."""
        losses = {}
        for branch, strength in self.strengths(target).items():
            head = self.adversaries[branch]
            domains = (source.outputs, target.outputs)
            losses[branch] = margin_disparity(
                *(head(reverse(each.embeddings[branch], strength)) for each in domains),
                *(each.logits[branch].argmax(-1) for each in domains),
                *(each.weight(branch) for each in domains),
                gamma=self.gamma,
            )
        return losses

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the margin."""
        gamma = trial.suggest_float("gamma", 1, 6)
        return {**super().space(trial), "gamma": gamma}


def margin_disparity(
    source: Tensor,
    target: Tensor,
    source_predictions: Tensor,
    target_predictions: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    *,
    gamma: float,
) -> Tensor:
    """Return how badly a head agrees on the source and disagrees on the target.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, classes)
        The head's logits.
    source_predictions, target_predictions : Tensor of int, shape (..., batch)
        What it is to agree with, and to contradict.
    source_weights, target_weights : Tensor of shape (..., batch)
    gamma : float
        Weight of the source.

    Returns
    -------
    Tensor of shape (...)
        Zero where either domain has no weight.
    """
    classes = torch.arange(target.shape[-1], device=target.device)
    predicted = classes == target_predictions.unsqueeze(-1)
    # log(1 - p) of the others' share, not of 1 - p, which rounds to 0.
    others = target.masked_fill(predicted, -torch.inf)
    contradicts = others.logsumexp(-1) - target.logsumexp(-1)
    agreed = cross_entropy(source, source_predictions, source_weights)
    both = (source_weights.sum(-1) > 0) & (target_weights.sum(-1) > 0)
    return (gamma * agreed + weighted_mean(-contradicts, target_weights)) * both
