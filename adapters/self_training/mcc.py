"""Minimum class confusion: no two classes should be predicted of the same samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.core import Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["MCC", "class_confusion"]

_TINY = 1e-12


@register(name="mcc")
class MCC(Alignment):
    r"""Classes that are not confused on the target: minimum class confusion, MCC.

    .. math:: C_{jk} = \sum_i u_i \, p_{ij} \, p_{ik}, \qquad
              L = \frac1K \sum_j \sum_{k \ne j} \frac{C_{jk}}{\sum_l C_{jl}}

    with the tempered predictions :math:`p_i` and :math:`u_i = 1 + e^{-H(p_i)}`, which
    counts the certain samples more and is not learned by (Jin, Wang, Long and Wang,
    ECCV 2020). A class of which the batch holds no mass has no confusion.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    temperature : float
        Logits are divided by it; the paper's is 2.5.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        branches: Branches = "all",
        schedule: Schedule = "ramp",
        temperature: Annotated[float, Bounds(above=0)] = 2.5,
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.temperature = temperature

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the confusion of a branch's classes."""
        outputs = target.outputs
        return class_confusion(
            outputs.logits[branch] / self.temperature, outputs.weight(branch)
        )

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the temperature."""
        drawn = trial.suggest_float("temperature", 1, 4)
        return {**super().space(trial), "temperature": drawn}


def class_confusion(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the mean share of a class's confusion matrix that is off its diagonal.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
        Tempered.
    weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
        From 0, for certain predictions, to ``1 - 1 / classes``, for uniform ones.
    """
    probabilities = logits.softmax(-1)
    doubt = -(probabilities * logits.log_softmax(-1)).sum(-1).detach()
    counted = weights * (1 + (-doubt).exp())
    confusion = (probabilities * counted.unsqueeze(-1)).mT @ probabilities
    mass = confusion.sum(-1)
    there = mass > _TINY
    confused = mass - confusion.diagonal(dim1=-2, dim2=-1)
    shares = confused / torch.where(there, mass, 1.0)
    return torch.where(there, shares, 0.0).mean(-1)
