"""Partial transport: a share of the mass goes where it is cheapest, the rest stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from torch import Tensor

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.core import Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

from .exact import partial_plan
from .joint import JointTransport

if TYPE_CHECKING:
    import optuna

__all__ = ["PartialTransport"]


@register(name="partial-transport")
class PartialTransport(JointTransport):
    r"""Joint transport of the cheapest share of the mass, for label shift (m-POT).

    .. math:: L = \min_P \langle P, C \rangle, \quad
              P 1 \le a, \; P^\top 1 \le b, \; 1^\top P 1 = s

    with the costs :math:`C` of `JointTransport` (Nguyen et al., 2022; solver by Chapel
    et al., 2020). Samples whose class the other domain has too few of may stay where
    they are. From the paper it differs in that the embeddings' cost counts relative
    to its median, over several branches, and in one pair of batches a step.

    Its solver is combinatorial and runs on the CPU, so the loss does not vectorise
    over folds.

    Parameters
    ----------
    weight, label_weight, branches, schedule
        See `JointTransport`.
    mass : float
        Share :math:`s` of the mass that is carried. Domains with the class shares
        :math:`p_c` and :math:`q_c` have :math:`\sum_c \min(p_c, q_c)` in common.
    """

    vectorises = False

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        label_weight: Weight = 1.0,
        mass: Annotated[float, Bounds(above=0, below=1)] = 0.7,
        branches: Branches = "all",
        schedule: Schedule = "delayed",
    ) -> None:
        super().__init__(
            weight=weight,
            label_weight=label_weight,
            branches=branches,
            schedule=schedule,
        )
        self.mass = mass

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return what the optimal partial plan costs in embeddings and in labels."""
        problem = self.problem(source, target)
        plan = partial_plan(
            problem.costs, problem.source_mass, problem.target_mass, mass=self.mass
        )
        return self.losses(problem, plan, target)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weights and the share."""
        return {**super().space(trial), "mass": trial.suggest_float("mass", 0.3, 0.95)}
