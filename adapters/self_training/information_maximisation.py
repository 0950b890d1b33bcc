"""Information maximisation: confident predictions that use every class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.adapters.entropies import entropy, variety
from domainemo.core import Source, Target
from domainemo.registry import register

if TYPE_CHECKING:
    import optuna

__all__ = ["InformationMaximisation"]


@register
class InformationMaximisation(Alignment):
    r"""Confident predictions that use every class, by information maximisation.

    The first part of SHOT's loss (Liang, Hu and Feng, ICML 2020), here in training,
    beside the source:

    .. math:: L = \frac1n \sum_i H(p_i) - d \, H(\bar p), \qquad
              \bar p = \frac1n \sum_i p_i

    with :math:`H` the entropy. The second term assumes that the target's classes are
    about equally frequent: where they are not, it pulls towards a wrong share.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    diversity : float
        Weight :math:`d` of the entropy of the mean prediction.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        branches: Branches = "all",
        schedule: Schedule = "ramp",
        diversity: Weight = 1.0,
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.diversity = diversity

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return what is lacking of information in a branch's predictions."""
        logits = target.outputs.logits[branch]
        weights = target.outputs.weight(branch)
        return entropy(logits, weights) - self.diversity * variety(logits, weights)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weights."""
        drawn = trial.suggest_float("diversity", 0.1, 2)
        return {**super().space(trial), "diversity": drawn}
