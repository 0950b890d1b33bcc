"""Global consistency: the fusion learns what the confident branches agree on."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from domainemo.core import FUSION, Screen, Source, Target
from domainemo.registry import register

from .alignment import Weight
from .branches import Schedule, cross_entropy, schedule_factor, shares
from .screening import Screened, learned, pseudo_of

__all__ = ["Consistency"]


@register
class Consistency(Screened):
    r"""Cross-entropy of the fusion with the screened pseudo-labels (UF-AMA).

    .. math:: L = -\frac{\sum_i w_i \log p_{i \tilde y_i}}{\sum_i w_i}

    with the fusion's prediction p of the target's sample i, the pseudo-label
    :math:`\tilde y_i` and the weight :math:`w_i` that the screen gives it.

    Parameters
    ----------
    weight : float
        Weight of the loss.
    schedule : {"ramp", "delayed", "constant", "released"}
        How the weight develops in training, see `branches.schedule_factor`.
    confidence : {"constant", "released"}
        ``released`` replaces the weight by 0.5, 0.2 or 0.1 as the source batch's
        classification loss is at most 0.1, below 0.2, or above.
    screen : Screen or str, optional
        Used where no composite has screened the batch, or the name of one;
        ``confidence`` by default.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        schedule: Schedule = "ramp",
        confidence: Literal["constant", "released"] = "constant",
        screen: Screen | str | None = None,
    ) -> None:
        super().__init__(weight, schedule, screen)
        self.confidence = confidence

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the fusion's loss; zero where no sample is believed."""
        pseudo = pseudo_of(target, self.screen)
        weights = pseudo.weights[FUSION] * target.outputs.weight(FUSION)
        loss = learned(target.outputs.logits[FUSION], pseudo, weights)
        factor = schedule_factor(self.schedule, target.progress)
        if self.confidence == "released":
            return {FUSION: factor * _released_weight(source) * loss}
        return {FUSION: factor * self.weight * loss}


def _released_weight(source: Source) -> Tensor:
    outputs = source.outputs
    loss = torch.stack(
        [
            share
            * cross_entropy(
                outputs.logits[branch], source.labels, outputs.weight(branch)
            )
            for branch, share in shares(outputs).items()
        ]
    ).sum(0)
    return torch.where(loss <= 0.1, 0.5, torch.where(loss < 0.2, 0.2, 0.1))
