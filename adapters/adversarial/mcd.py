"""MCD: two classifiers differ where the target is far from the source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import (
    Schedule,
    cross_entropy,
    schedule_factor,
    weighted_mean,
)
from domainemo.core import FUSION, Adapter, Outputs, Source, Target
from domainemo.registry import register

from .discriminator import Width, perceptron
from .reversal import reverse

if TYPE_CHECKING:
    import optuna

__all__ = ["MCD", "classifier_discrepancy"]


@register(name="mcd")
class MCD(Adapter):
    r"""Two classifiers differ on the target, the features make them agree (MCD).

    Two heads :math:`h_1, h_2` on the fusion learn the source and, on the target, to
    predict as differently as they can; the features learn to have them agree (Saito,
    Watanabe, Ushiku and Harada, Maximum classifier discrepancy, CVPR 2018):

    .. math:: \min_{h} \; L_s(h_1) + L_s(h_2) - d, \quad
              \min_f \; L_s(h_1) + L_s(h_2) + \lambda d, \quad
              d = \mathbb E_t \frac1K \sum_k |p_{1k} - p_{2k}|

    with :math:`L_s` the cross-entropy. The paper takes three steps for each batch: all
    learn the source, then the heads alone, then the features alone, four times; here
    it is one, by gradient reversal. Features learn the source by the network's own
    classifiers as well. The mean probability of the two heads is predicted.

    Parameters
    ----------
    weight : float
        How hard the features work against the heads, :math:`\lambda` at its most.
    schedule : {"ramp", "delayed", "constant", "released"}
        How that develops in training, see `branches.schedule_factor`.
    width : int
        Units of the heads' two hidden layers.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        schedule: Schedule = "ramp",
        width: Width = 128,
    ) -> None:
        super().__init__()
        self.weight, self.schedule, self.width = weight, schedule, width
        self.heads = nn.ModuleList()

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Make the two heads."""
        self.heads = nn.ModuleList(
            perceptron(dims[FUSION], self.width, classes) for _ in range(2)
        )

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the heads' loss on the source, and minus how they differ."""
        strength = self.weight * schedule_factor(self.schedule, target.progress)
        features = source.outputs.embeddings[FUSION]
        weights = source.outputs.weight(FUSION)
        learned = [
            cross_entropy(head(features), source.labels, weights) for head in self.heads
        ]
        features = reverse(target.outputs.embeddings[FUSION], strength)
        first, second = (head(features) for head in self.heads)
        weights = target.outputs.weight(FUSION)
        differ = classifier_discrepancy(first, second, weights)
        return {"heads": learned[0] + learned[1], "discrepancy": -differ}

    def predict(self, outputs: Outputs) -> Tensor:
        """Return the logarithm of the heads' mean probability."""
        features = outputs.embeddings[FUSION]
        shares = [head(features).log_softmax(-1) for head in self.heads]
        return torch.logaddexp(*shares) - math.log(2)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 0.01, 3, log=True)}


def classifier_discrepancy(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """Return the mean absolute difference of two predictions' probabilities.

    Parameters
    ----------
    first, second : Tensor of shape (..., batch, classes)
        Logits.
    weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
    """
    each = (first.softmax(-1) - second.softmax(-1)).abs().mean(-1)
    return weighted_mean(each, weights)
