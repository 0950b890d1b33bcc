"""What transport of embeddings and labels together shares: costs, masses, losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import (
    Branches,
    Schedule,
    beginning,
    levels,
    schedule_factor,
)
from domainemo.adapters.kernels import normalised
from domainemo.core import FUSION, Adapter, Outputs, Source, Target

from .costs import label_costs, relative_costs

if TYPE_CHECKING:
    import optuna

__all__ = ["JointProblem", "JointTransport", "joint_problem"]


class JointProblem(NamedTuple):
    """What there is to carry from source to target, and what each pair costs.

    Attributes
    ----------
    embeddings, labels : Tensor of shape (..., n, m)
        Costs of each source sample with each target sample, their weight included.
    costs : Tensor of shape (..., n, m)
        What a plan goes by: the sum, without gradient.
    source_mass : Tensor of shape (..., n)
    target_mass : Tensor of shape (..., m)
        Sum to one, or are zero where there is nothing to carry.
    """

    embeddings: Tensor
    labels: Tensor
    costs: Tensor
    source_mass: Tensor
    target_mass: Tensor


class JointTransport(Adapter):
    r"""Transport of the source's embeddings and labels to the target's, at once.

    .. math:: L = \sum_{ij} P_{ij} \Big( \sum_b s_b
              \frac{\|z^b_i - z'^b_j\|^2}{\operatorname{median}_b}
              + \lambda \, CE(y_i, p_j) \Big)

    with one plan :math:`P` without gradient, the embeddings :math:`z^b` of branch
    :math:`b` in source and target, its share :math:`s_b`, the source's labels
    :math:`y` and the target's predictions :math:`p`.

    Parameters
    ----------
    weight : float
        Weight of both terms.
    label_weight : float
        :math:`\lambda`, weight of the labels' cost beside the embeddings', which is 1
        between typical samples.
    branches, schedule
        See `Alignment`. The fusion predicts. Delayed: the papers, too, begin with a
        network that has learned the source, as a plan by embeddings and predictions
        that say nothing teaches wrong labels.

    Notes
    -----
    A branch that either sample of a pair lacks costs what is typical, 1, in the search
    for a plan, and nothing in the loss. A sample that lacks all branches carries no
    mass.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        label_weight: Weight = 1.0,
        branches: Branches = "all",
        schedule: Schedule = "delayed",
    ) -> None:
        super().__init__()
        self.weight, self.label_weight = weight, label_weight
        self.branches, self.schedule = branches, schedule

    def problem(self, source: Source, target: Target) -> JointProblem:
        """Return masses and costs."""
        return joint_problem(
            source, target, branches=self.branches, label_weight=self.label_weight
        )

    def losses(
        self, problem: JointProblem, plan: Tensor, target: Target
    ) -> dict[str, Tensor]:
        """Return what a plan costs in embeddings and in labels.

        Parameters
        ----------
        problem : JointProblem
        plan : Tensor of shape (..., n, m)
            How much of each source sample goes to each target sample; no gradient.
        target : Target
        """
        factor = self.weight * schedule_factor(self.schedule, target.progress)
        return {
            "embeddings": factor * (plan * problem.embeddings).sum((-2, -1)),
            "labels": factor * (plan * problem.labels).sum((-2, -1)),
        }

    @property
    def begins(self) -> float:
        """Where the schedule lets go of zero."""
        return beginning(self.schedule, self)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weights."""
        names = ("weight", "label_weight")
        return {name: trial.suggest_float(name, 0.01, 10, log=True) for name in names}


def joint_problem(
    source: Source, target: Target, *, branches: Branches, label_weight: float
) -> JointProblem:
    """Return the masses and costs of `JointTransport`.

    Parameters
    ----------
    source : Source
    target : Target
    branches : str or sequence of str
    label_weight : float

    Returns
    -------
    JointProblem
    """
    labels = label_weight * label_costs(source.labels, target.outputs.logits[FUSION])
    embeddings, unknown = torch.zeros_like(labels), torch.zeros_like(labels)
    for branch, share in levels(source.outputs, branches).items():
        ours, theirs = source.outputs.weight(branch), target.outputs.weight(branch)
        costs = relative_costs(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            ours,
            theirs,
        )
        embeddings = embeddings + share * costs
        unknown = unknown + share * (1 - ours[..., :, None] * theirs[..., None, :])
    return JointProblem(
        embeddings,
        labels,
        (embeddings + unknown + labels).detach(),
        _mass(source.outputs, branches),
        _mass(target.outputs, branches),
    )


def _mass(outputs: Outputs, branches: Branches) -> Tensor:
    """Return one mass for each sample that has any of the branches, in sum 1."""
    weights = [outputs.weight(branch) for branch in levels(outputs, branches)]
    if not weights:
        return torch.zeros_like(outputs.logits[FUSION][..., 0])
    return normalised(torch.stack(weights, -1).amax(-1))
