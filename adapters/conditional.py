"""Conditional alignment: each class should be distributed alike in both domains."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from domainemo.core import FUSION, Source, Target
from domainemo.registry import register

from .alignment import Alignment, Weight
from .branches import Branches, Schedule
from .kernels import gaussian_kernel, signed_discrepancy

__all__ = ["Conditional", "conditional_discrepancy", "purity"]


@register
class Conditional(Alignment):
    """Class-wise alignment with soft target assignments (UF-AMA, HADUA).

    UF-AMA's abstract claims conditional alignment and its released code has none;
    this is the class-normalised form of the same lineage (HADUA's weighted CMMD).

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    minimum : float
        A class that the target is believed to hold less than this many samples of
        in a batch is left out.
    weighting : {"purity", "equal"}
        Whether a class counts by how clearly the target's assignments single it out.
        While they are still uniform, ``"equal"`` pulls every source class towards the
        whole target and so together.
    """

    needs_teacher = True

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        minimum: float = 1.0,
        weighting: Literal["purity", "equal"] = "purity",
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.minimum, self.weighting = minimum, weighting

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the mean discrepancy over the classes."""
        believed = (target.teacher or target.outputs).logits[FUSION].detach()
        assignments = believed.softmax(-1)
        classes = purity(assignments)
        if self.weighting == "equal":
            classes = torch.ones_like(classes)
        discrepancy = conditional_discrepancy(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            source.labels,
            assignments,
            source.outputs.weight(branch),
            target.outputs.weight(branch),
            minimum=self.minimum,
        )
        return (classes * discrepancy).mean(-1)


def conditional_discrepancy(
    source: Tensor,
    target: Tensor,
    labels: Tensor,
    assignments: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    *,
    minimum: float = 1.0,
) -> Tensor:
    r"""Return the discrepancy of each class.

    .. math:: \left[
        \frac{s_c^\top K_{ss} s_c}{(1^\top s_c)^2}
        + \frac{u_c^\top K_{tt} u_c}{(1^\top u_c)^2}
        - \frac{2 s_c^\top K_{st} u_c}{(1^\top s_c)(1^\top u_c)} \right]

    with one-hot source labels :math:`s_c` and soft target assignments :math:`u_c`.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    labels : Tensor of int, shape (..., batch)
    assignments : Tensor of shape (..., batch, classes)
        Probability of each class for each target sample.
    source_weights, target_weights : Tensor of shape (..., batch)
    minimum : float
        Target mass below which a class contributes zero.

    Returns
    -------
    Tensor of shape (..., classes)
    """
    classes = assignments.shape[-1]
    kernel = gaussian_kernel(
        torch.cat([source, target], dim=-2),
        torch.cat([source_weights, target_weights], dim=-1),
    )
    members = functional.one_hot(labels, classes).to(source.dtype)
    members = members * source_weights[..., None]
    assigned = assignments * target_weights[..., None]
    assigned = assigned * (assigned.sum(-2, keepdim=True) >= minimum)
    return signed_discrepancy(kernel, members, assigned)


def purity(assignments: Tensor) -> Tensor:
    r"""Return how clearly soft assignments single out each class, from 0 to 1.

    .. math:: \frac{\sum_i u_{ic}^2 / \sum_i u_{ic} - 1/C}{1 - 1/C}

    is 0 for uniform assignments and 1 where every sample belongs to one class.

    Parameters
    ----------
    assignments : Tensor of shape (..., batch, classes)

    Returns
    -------
    Tensor of shape (..., classes)
    """
    chance = 1 / assignments.shape[-1]
    mass = assignments.sum(-2).clamp(min=1e-12)
    found = assignments.square().sum(-2) / mass
    return ((found - chance) / max(1 - chance, 1e-12)).clamp(min=0)
