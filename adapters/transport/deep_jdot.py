"""DeepJDOT: exact joint transport of embeddings and labels."""

from __future__ import annotations

from torch import Tensor

from domainemo.core import Source, Target
from domainemo.registry import register

from .exact import exact_plan
from .joint import JointTransport

__all__ = ["DeepJDOT"]


@register(name="deep-jdot")
class DeepJDOT(JointTransport):
    r"""Exact joint transport of embeddings and labels, source to target (DeepJDOT).

    .. math:: L = \min_{P \in \Pi(a, b)} \langle P, C \rangle

    with the costs :math:`C` of `JointTransport` (Damodaran et al., 2018). Balanced:
    each domain's samples all go somewhere, which pairs samples of different classes
    where the domains' class shares differ; see `UnbalancedJDOT` and `PartialTransport`
    for that. From the paper it differs in that the embeddings' cost counts relative
    to its median, over several branches, and that source and target each have one
    batch, as everywhere here.

    Its solver is combinatorial and runs on the CPU, so the loss does not vectorise
    over folds.

    Parameters
    ----------
    weight, label_weight, branches, schedule
        See `JointTransport`.
    """

    vectorises = False

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return what the optimal plan costs in embeddings and in labels."""
        problem = self.problem(source, target)
        plan, _ = exact_plan(problem.costs, problem.source_mass, problem.target_mass)
        return self.losses(problem, plan, target)
