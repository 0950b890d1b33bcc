"""Group DRO: learn most from the source domain that is classified worst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import (
    Branches,
    Schedule,
    levels,
    schedule_factor,
    weighted_mean,
)
from domainemo.adapters.domains import members, present, risks
from domainemo.core import Adapter, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["GroupDRO", "raised"]


@register(name="group-dro")
class GroupDRO(Adapter):
    r"""The worst source domains count most (group DRO), without a target.

    Group distributionally robust optimisation (Sagawa, Koh, Hashimoto and Liang, ICLR
    2020), the source's domains as groups. Beside the trainer's classification, in which
    samples count alike, stands the risk of every domain times its weight,

    .. math:: L = \sum_g q_g R_g, \qquad q_g \propto q_g \exp(\eta R_g)

    which moves towards the domains with the largest risk, see `raised`. The paper
    minimises :math:`L` alone: the larger `weight`, the closer. Nor does it know domains
    that are absent from a batch: they contribute nothing, and keep their weight. The
    :math:`q` are kept in a buffer, as logarithms, with the trained fold.

    Parameters
    ----------
    weight, branches
        See `Alignment`. There is one :math:`q` for all branches: the risk that moves it
        is the mean over them.
    rate : float
        The :math:`\eta` of the equation.
    schedule : {"constant", "ramp", "delayed", "released"}
        How the weight develops in training, see `branches.schedule_factor`.
    """

    needs_target = False
    log_shares: Tensor

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        rate: Annotated[float, Bounds(above=0)] = 0.01,
        branches: Branches = "all",
        schedule: Schedule = "constant",
    ) -> None:
        super().__init__()
        self.weight, self.rate = weight, rate
        self.branches, self.schedule = branches, schedule

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Begin with all domains alike."""
        even = torch.full((domains,), 1 / domains)
        self.register_buffer("log_shares", even.log())

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return one loss per branch, and move the domains' weights in training."""
        outputs, counted = source.outputs, levels(source.outputs, self.branches)
        each, shown = {}, {}
        for branch, share in counted.items():
            weights = outputs.weight(branch)
            belonging = members(source.domains, weights, len(self.log_shares))
            each[branch] = risks(outputs.logits[branch], source.labels, belonging)
            shown[branch] = share * present(belonging)
        if not counted:
            return {}
        log_shares = self._raised(each, shown)
        factor = self.weight * schedule_factor(self.schedule, target.progress)
        return {
            branch: factor * share * (log_shares.exp() * each[branch]).sum(-1)
            for branch, share in counted.items()
        }

    def _raised(
        self, each: Mapping[str, Tensor], shown: Mapping[str, Tensor]
    ) -> Tensor:
        """Take a step by the mean risk over the branches that show a domain."""
        apart = torch.stack([risk.detach() for risk in each.values()], -1)
        counted = torch.stack([*shown.values()], -1)
        risk = weighted_mean(apart, counted)
        log_shares = raised(self.log_shares, risk, counted.sum(-1), self.rate)
        if self.training:
            self.log_shares.copy_(log_shares)
        return log_shares

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the rate."""
        return {
            "weight": trial.suggest_float("weight", 0.1, 10, log=True),
            "rate": trial.suggest_float("rate", 1e-3, 1, log=True),
        }


def raised(log_shares: Tensor, risk: Tensor, shown: Tensor, rate: float) -> Tensor:
    r"""Return groups' weights after one step of exponentiated gradient ascent.

    .. math:: q_g \leftarrow q_g \exp(\eta R_g) \Big/
              \sum_{g'} q_{g'} \exp(\eta R_{g'}) \cdot \sum_{g'} q_{g'}

    over the groups that a batch shows; the others keep theirs (Sagawa et al., 2020,
    algorithm 1, where all are shown).

    Parameters
    ----------
    log_shares : Tensor of shape (..., groups)
        Logarithms of the weights before; which may come to be tiny, but never zero.
    risk : Tensor of shape (..., groups)
    shown : Tensor of shape (..., groups)
        0 for a group that the batch does not show.
    rate : float
        The :math:`\eta` of the equation.

    Returns
    -------
    Tensor of shape (..., groups)
        Logarithms of the weights after.
    """
    absent = shown == 0
    lowest = torch.finfo(log_shares.dtype).min
    steps = log_shares + rate * risk
    before, after = (
        each.masked_fill(absent, lowest).logsumexp(-1, keepdim=True)
        for each in (log_shares, steps)
    )
    return torch.where(absent, log_shares, steps - after + before)
