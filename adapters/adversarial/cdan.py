"""CDAN: a discriminator that sees features together with what is predicted of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.registry import register

from .discriminator import Adversarial, Width, domain_loss, perceptron
from .reversal import reverse

if TYPE_CHECKING:
    import optuna

__all__ = ["CDAN", "ConditionalDiscriminator", "certainty", "multilinear"]

_LARGEST = 4096
_PROJECTED = 1024


@register(name="cdan")
class CDAN(Adversarial):
    r"""Features hidden from a discriminator that knows the prediction (CDAN, CDAN+E).

    As DANN, but the discriminator sees :math:`f \otimes g`, every product of a feature
    and a predicted probability, so that classes are compared with classes (Long, Cao,
    Wang and Jordan, Conditional adversarial domain adaptation, NeurIPS 2018):

    .. math:: L(D) = -\frac12 \left(\mathbb E_s w \log D(f_s \otimes g_s)
              + \mathbb E_t w \log(1 - D(f_t \otimes g_t))\right)

    with w = 1, or with `entropy` conditioning, which is CDAN+E,
    :math:`w = 1 + e^{-H(g)}`, of mean 1 in each domain. Where there are more than 4096
    products, the discriminator sees 1024 of random projections instead,
    :math:`(R_f f \odot R_g g) / \sqrt{1024}`, with R drawn once from the normal
    distribution. Probabilities and w are without gradient, as the authors' code has the
    former; there, w has one, reversed.

    Parameters
    ----------
    weight, branches, schedule, width
        See `discriminator.Adversarial`. A branch's features go with its own prediction.
    entropy : bool
        Whether samples that are predicted with certainty count more (CDAN+E).
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        branches: Branches = FUSION,
        schedule: Schedule = "ramp",
        width: Width = 128,
        entropy: bool = False,
    ) -> None:
        super().__init__(
            weight=weight, branches=branches, schedule=schedule, width=width
        )
        self.entropy = entropy

    def adversary(self, dim: int, classes: int) -> nn.Module:
        """Return a discriminator of features and prediction."""
        return ConditionalDiscriminator(dim, classes, self.width)

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the discriminator's loss on each branch."""
        losses = {}
        for branch, strength in self.strengths(target).items():
            discriminator = self.adversaries[branch]
            domains = (source.outputs, target.outputs)
            losses[branch] = domain_loss(
                *(
                    discriminator(
                        reverse(each.embeddings[branch], strength),
                        each.logits[branch].detach().softmax(-1),
                    )
                    for each in domains
                ),
                *(self._weight(each, branch) for each in domains),
            )
        return losses

    def _weight(self, outputs: Outputs, branch: str) -> Tensor:
        weight = outputs.weight(branch)
        if self.entropy:
            weight = weight * certainty(outputs.logits[branch].detach())
        return weight

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight, and whether certain samples count more."""
        entropy = trial.suggest_categorical("entropy", [False, True])
        return {**super().space(trial), "entropy": entropy}


class ConditionalDiscriminator(nn.Module):
    """Returns logits of being from the source, of features and probabilities.

    Parameters
    ----------
    dim, classes, width : int
    """

    of_features: Tensor
    of_classes: Tensor

    def __init__(self, dim: int, classes: int, width: int) -> None:
        super().__init__()
        self.projects = dim * classes > _LARGEST
        if self.projects:
            self.register_buffer("of_features", torch.randn(dim, _PROJECTED))
            self.register_buffer("of_classes", torch.randn(classes, _PROJECTED))
        seen = _PROJECTED if self.projects else dim * classes
        self.layers = perceptron(seen, width, 1)

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """Return logits of shape (..., batch)."""
        if self.projects:
            products = (features @ self.of_features) * (probabilities @ self.of_classes)
            products = products / math.sqrt(_PROJECTED)
        else:
            products = multilinear(features, probabilities)
        logits: Tensor = self.layers(products)
        return logits.squeeze(-1)


def multilinear(features: Tensor, probabilities: Tensor) -> Tensor:
    """Return every product of a feature and a probability.

    Parameters
    ----------
    features : Tensor of shape (..., batch, dim)
    probabilities : Tensor of shape (..., batch, classes)

    Returns
    -------
    Tensor of shape (..., batch, dim * classes)
    """
    return (features.unsqueeze(-1) * probabilities.unsqueeze(-2)).flatten(-2)


def certainty(logits: Tensor) -> Tensor:
    """Return ``1 + exp(-H)``, H the entropy of the prediction in nats (CDAN+E).

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)

    Returns
    -------
    Tensor of shape (..., batch)
    """
    entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    return 1 + torch.exp(-entropy)
