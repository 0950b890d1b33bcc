"""Cross-modal distillation: a confident modality teaches one that is not."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from domainemo.core import FUSION, Pseudo, Screen, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

from .alignment import Weight
from .branches import Schedule, schedule_factor
from .screening import Screened, learned, pseudo_of

__all__ = ["Distillation"]


@register
class Distillation(Screened):
    r"""Cross-entropy of each taught branch, where the fusion agrees (UF-AMA).

    .. math:: L = -\frac1M \sum_{m=1}^{M} \frac{\sum_i w^m_i \log p^m_{i \tilde y_i}}
              {\sum_i w^m_i}

    with the prediction p of modality m for the target's sample i, the pseudo-label
    :math:`\tilde y_i` and the weight :math:`w^m_i` by which the screen has it taught; 0
    where the fusion predicts another class.

    Parameters
    ----------
    weight : float
        Weight of the mean over branches. The released code's 1e-5 switches the term
        off in practice.
    minimum : int
        A branch is not taught in a batch where screening leaves fewer samples than
        this (the released code: 3).
    schedule : {"ramp", "delayed", "constant", "released"}
        How the weight develops in training, see `branches.schedule_factor`.
    screen : Screen or str, optional
        Used where no composite has screened the batch, or the name of one;
        ``confidence`` by default.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        minimum: Annotated[int, Bounds(least=0)] = 1,
        schedule: Schedule = "ramp",
        screen: Screen | str | None = None,
    ) -> None:
        super().__init__(weight, schedule, screen)
        self.minimum = minimum

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return one loss per modality; zero where it is taught nothing."""
        pseudo = pseudo_of(target, self.screen)
        outputs = target.outputs
        factor = self.weight * schedule_factor(self.schedule, target.progress)
        return {
            branch: factor
            / len(outputs.modalities)
            * learned(outputs.logits[branch], pseudo, weights)
            for branch, weights in self.taught(pseudo, target).items()
        }

    def taught(self, pseudo: Pseudo, target: Target) -> dict[str, Tensor]:
        """Return how far each modality is taught, after all gates.

        Parameters
        ----------
        pseudo : Pseudo
            What is believed of `target`.
        target : Target

        Returns
        -------
        dict of str to Tensor of shape (batch,)
        """
        outputs = target.outputs
        latest = (target.teacher or outputs) if self.needs_teacher else outputs
        judge = target.judge or latest
        agrees = judge.logits[FUSION].argmax(-1) == pseudo.labels
        weights = {}
        for branch in outputs.modalities:
            given = pseudo.weights[branch]
            enough = (given > 0).sum(-1, keepdim=True) >= self.minimum
            weights[branch] = given * agrees * enough * outputs.weight(branch)
        return weights
