"""No screening: every sample of the target is believed to be what the network says."""

from __future__ import annotations

from typing import Annotated

import torch

from ..core import FUSION, Pseudo, Screen, Target
from ..registry import register
from ..values import Bounds

__all__ = ["Unscreened"]


@register
class Unscreened(Screen):
    """Believe the fusion's opinion of every sample, and have all branches learn it.

    The control of a screen: what it is worth to ask who is confident. As with the
    screen ``confidence``, labels come from the network as it was at `judged_from`,
    before it learned from any of them, and until then nothing is believed.

    Parameters
    ----------
    judged_from : float
        Progress of training, from 0 to 1, at which the network is set aside to judge.
    """

    def __init__(
        self,
        *,
        judged_from: Annotated[
            float, Bounds(0, 1, words="a number from 0 to 1")
        ] = 0.6,
    ) -> None:
        super().__init__()
        self.judged_from = judged_from

    def forward(self, target: Target) -> Pseudo:
        """Return the judge's label of every sample, for every branch."""
        outputs = target.judge or target.outputs
        labels = outputs.logits[FUSION].detach().argmax(-1)
        believed = float(target.judge is not None)
        weights = {
            branch: torch.full_like(logits[..., 0].detach(), believed)
            for branch, logits in outputs.logits.items()
        }
        return Pseudo(labels=labels, weights=weights)
