"""IRM: one classifier should be the best one in every source domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.adapters.domains import BetweenDomains, mean_over_present
from domainemo.core import Source, Target
from domainemo.registry import register

if TYPE_CHECKING:
    import optuna

__all__ = ["IRM", "invariance_penalty", "scale_gradients"]


@register(name="irm")
class IRM(BetweenDomains):
    r"""A classifier that suits each source domain (IRM), without a target.

    Invariant risk minimisation, IRMv1 (Arjovsky, Bottou, Gulrajani and Lopez-Paz,
    2019): no domain's risk should fall if the logits were scaled in it alone,

    .. math:: L = \frac1N \sum_{e=1}^{N} \left\| \nabla_{w|w=1} R_e(w z) \right\|^2

    see `invariance_penalty`. The trainer's classification loss stands for the risks.

    Of a domain with a single sample in the batch nothing can be told: take
    ``training.balance = "domains"`` and a ``training.batch_size`` of several samples
    per domain.

    Parameters
    ----------
    weight, branches
        See `Alignment`. The paper goes up to 1e6; gradients are clipped here
        (``training.clip``), so that much more than 100 drowns the classification.
    schedule : {"delayed", "ramp", "constant", "released"}
        See `branches.schedule_factor`. The paper, too, lets the network learn to
        classify first.
    """

    needs_target = False

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        branches: Branches = "all",
        schedule: Schedule = "delayed",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the penalty."""
        logits, belonging = source.outputs.logits[branch], self.members(source, branch)
        return invariance_penalty(logits, source.labels, belonging)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 0.1, 100, log=True)}


def scale_gradients(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Return by how much each cross-entropy grows with the scale of its logits.

    .. math:: g_i = \frac{\partial}{\partial w} \ell(w z_i, y_i) \Big|_{w=1}
              = \sum_k (p_{ik} - y_{ik}) z_{ik}

    with :math:`p_i` the softmax of the logits :math:`z_i`.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    labels : Tensor of int, shape (..., batch)

    Returns
    -------
    Tensor of shape (..., batch)
    """
    expected = (logits.softmax(-1) * logits).sum(-1)
    picked = torch.take_along_dim(logits, labels.unsqueeze(-1), dim=-1).squeeze(-1)
    return expected - picked


def invariance_penalty(logits: Tensor, labels: Tensor, belonging: Tensor) -> Tensor:
    r"""Return the squared gradient of risks by a scale of the logits, over domains.

    .. math:: \frac1N \sum_e \frac1{n_e (n_e - 1)} \sum_{i \neq j \in e} g_i g_j

    with :math:`g` of `scale_gradients`: an unbiased estimate of
    :math:`\|\nabla_{w} R_e(w z)\|^2` at 1. The paper's own (appendix D) is the product
    of the gradients of two halves of a domain's samples; this is its mean over all
    ways of halving them. It may be negative.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    labels : Tensor of int, shape (..., batch)
    belonging : Tensor of shape (..., domains, batch)
        Weights of the samples by domain, see `domains.members`.

    Returns
    -------
    Tensor of shape (...)
        Over domains of two samples or more; zero if there is none.
    """
    weighted = belonging * scale_gradients(logits, labels).unsqueeze(-2)
    products = weighted.sum(-1).square() - weighted.square().sum(-1)
    several = (belonging > 0).sum(-1) > 1
    pairs = belonging.sum(-1).square() - belonging.square().sum(-1)
    each = products / torch.where(several, pairs, 1.0) * several
    return mean_over_present(each, belonging * several.unsqueeze(-1))
