"""Unbalanced joint transport: samples without a counterpart stay where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.core import Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

from .joint import JointTransport
from .sinkhorn import entropic_plan, logarithm, soft_minimum

if TYPE_CHECKING:
    import optuna

__all__ = ["UnbalancedJDOT", "unbalanced_plan"]

_Positive = Annotated[float, Bounds(above=0)]


@register(name="unbalanced-jdot")
class UnbalancedJDOT(JointTransport):
    r"""Joint transport that may leave mass where it is, for label shift (JUMBOT).

    .. math:: L = \langle P, C \rangle, \quad P = \arg\min_P \langle P, C \rangle
              + \varepsilon KL(P \| a b^\top)
              + \tau KL(P 1 \| a) + \tau KL(P^\top 1 \| b)

    with the costs :math:`C` of `JointTransport` (Fatras et al., 2021). As there, the
    plan has no gradient and the loss is what the transport itself costs; that is the
    gradient of the whole problem. From the paper it differs in that the embeddings'
    cost counts relative to its median, over several branches, so that `epsilon` and
    `tau` mean the same in every network.

    Parameters
    ----------
    weight, label_weight, branches, schedule
        See `JointTransport`.
    epsilon : float
        Entropic regularisation; 1 is the median squared distance of embeddings.
    tau : float
        How dear it is to leave mass where it is, in the same unit. At 0.1 pairs carry
        mass that are much closer than typical; at 2 and more it is as good as
        balanced.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        label_weight: Weight = 1.0,
        epsilon: _Positive = 0.05,
        tau: _Positive = 0.1,
        branches: Branches = "all",
        schedule: Schedule = "delayed",
    ) -> None:
        super().__init__(
            weight=weight,
            label_weight=label_weight,
            branches=branches,
            schedule=schedule,
        )
        self.epsilon, self.tau = epsilon, tau

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return what the unbalanced plan costs in embeddings and in labels."""
        problem = self.problem(source, target)
        plan = unbalanced_plan(
            problem.costs,
            problem.source_mass,
            problem.target_mass,
            epsilon=self.epsilon,
            tau=self.tau,
        )
        return self.losses(problem, plan, target)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weights and how dear it is to leave mass."""
        tau = trial.suggest_float("tau", 0.05, 1, log=True)
        return {**super().space(trial), "tau": tau}


def unbalanced_plan(
    costs: Tensor,
    source_mass: Tensor,
    target_mass: Tensor,
    *,
    epsilon: float,
    tau: float,
    iterations: int = 50,
) -> Tensor:
    r"""Return the plan of unbalanced entropic transport, see `UnbalancedJDOT`.

    .. math:: f_i \leftarrow -\frac{\tau \varepsilon}{\tau + \varepsilon}
              \log \sum_j b_j \exp((g_j - C_{ij}) / \varepsilon)

    and :math:`g` likewise, in turn (Chizat et al., 2018). The error shrinks by
    :math:`(\tau / (\tau + \varepsilon))^2` with each iteration.

    Parameters
    ----------
    costs : Tensor of shape (..., n, m)
    source_mass : Tensor of shape (..., n)
    target_mass : Tensor of shape (..., m)
    epsilon, tau : float
        In the units of the costs.
    iterations : int

    Returns
    -------
    Tensor of shape (..., n, m)
        Without gradient; zero where there is no mass.
    """
    costs, damping = costs.detach() / epsilon, tau / (tau + epsilon)
    source, target = logarithm(source_mass), logarithm(target_mass)
    f, g = torch.zeros_like(source), torch.zeros_like(target)
    for _ in range(iterations):
        f = damping * soft_minimum(costs, g, target)
        g = damping * soft_minimum(costs.mT, f, source)
    return entropic_plan(costs, source_mass, target_mass, f, g)
