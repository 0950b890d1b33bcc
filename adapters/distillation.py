"""Cross-modal distillation: a confident modality teaches one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from domainemo.core import FUSION, Adapter, Screen, Source, Target
from domainemo.registry import register

from .branches import Schedule, beginning, cross_entropy, schedule_factor
from .screening import pseudo_of, screen_of

if TYPE_CHECKING:
    import optuna

__all__ = ["Distillation"]


@register
class Distillation(Adapter):
    """Cross-entropy of each taught branch, where the fusion agrees (UF-AMA).

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
        weight: float = 1.0,
        minimum: int = 1,
        schedule: Schedule = "ramp",
        screen: Screen | str | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.minimum, self.schedule = weight, minimum, schedule
        self.screen = screen_of(screen)
        self.needs_teacher = self.screen.needs_teacher
        self.judged_from = self.screen.judged_from

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return one loss per modality; zero where it is taught nothing."""
        pseudo = pseudo_of(target, self.screen)
        outputs = target.outputs
        latest = (target.teacher or outputs) if self.needs_teacher else outputs
        judge = target.judge or latest
        agrees = judge.logits[FUSION].argmax(-1) == pseudo.labels
        factor = self.weight * schedule_factor(self.schedule, target.progress)
        losses = {}
        for branch in outputs.modalities:
            taught = pseudo.weights[branch]
            enough = (taught > 0).sum(-1, keepdim=True) >= self.minimum
            weights = taught * agrees * enough * outputs.weight(branch)
            loss = cross_entropy(outputs.logits[branch], pseudo.labels, weights)
            losses[branch] = factor / len(outputs.modalities) * loss
        return losses

    @property
    def begins(self) -> float:
        """Where the schedule lets go of zero."""
        return beginning(self.schedule, self)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 0.01, 10, log=True)}
