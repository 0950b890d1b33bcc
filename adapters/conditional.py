"""Conditional alignment: each class should be distributed alike in both domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from domainemo.core import FUSION, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

from .alignment import Alignment, Weight
from .branches import Branches, Schedule
from .kernels import branch_kernels, gaussian_kernel, signed_discrepancy

__all__ = ["Conditional", "conditional_discrepancy", "purity"]


@register
class Conditional(Alignment):
    r"""Class-wise alignment with soft target assignments (UF-AMA, HADUA).

    .. math:: L = \frac1K \sum_{c=1}^{K} \omega_c D_c

    on each branch, with the `conditional_discrepancy` D of the classes and, as weights,
    their `purity` or 1.

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
        minimum: Annotated[float, Bounds(least=0)] = 1.0,
        weighting: Literal["purity", "equal"] = "purity",
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.minimum, self.weighting = minimum, weighting

    def discrepancies(
        self, source: Source, target: Target, branches: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """Return the mean discrepancy over the classes, on every branch."""
        believed = (target.teacher or target.outputs).logits[FUSION].detach()
        assignments = believed.softmax(-1)
        kernel, here, there = branch_kernels(source, target, branches)
        # The labels and what is believed are the same on all branches.
        found = _of_classes(
            kernel,
            source.labels.unsqueeze(-2),
            assignments.unsqueeze(-3),
            here,
            there,
            self.minimum,
        )
        if self.weighting == "purity":
            recorded = target.outputs.weight(FUSION)
            found = purity(assignments, recorded).unsqueeze(-2) * found
        return dict(zip(branches, found.mean(-1).unbind(-1), strict=True))

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the mean discrepancy over the classes."""
        return self.discrepancies(source, target, (branch,))[branch]


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
    kernel = gaussian_kernel(
        torch.cat([source, target], dim=-2),
        torch.cat([source_weights, target_weights], dim=-1),
    )
    return _of_classes(
        kernel, labels, assignments, source_weights, target_weights, minimum
    )


def _of_classes(
    kernel: Tensor,
    labels: Tensor,
    assignments: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    minimum: float,
) -> Tensor:
    classes = torch.arange(assignments.shape[-1], device=labels.device)
    members = (labels.unsqueeze(-1) == classes) * source_weights.unsqueeze(-1)
    assigned = assignments * target_weights.unsqueeze(-1)
    assigned = assigned * (assigned.sum(-2, keepdim=True) >= minimum)
    return signed_discrepancy(kernel, members, assigned)


def purity(assignments: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return how clearly soft assignments single out each class, from 0 to 1.

    .. math:: \frac{\sum_i w_i u_{ic}^2 / \sum_i w_i u_{ic} - 1/C}{1 - 1/C}

    is 0 for uniform assignments and 1 where every sample belongs to one class.

    Parameters
    ----------
    assignments : Tensor of shape (..., batch, classes)
    weights : Tensor of shape (..., batch), optional
        The :math:`w` of the equation; all 1 by default.

    Returns
    -------
    Tensor of shape (..., classes)
    """
    chance = 1 / assignments.shape[-1]
    counted = assignments if weights is None else assignments * weights.unsqueeze(-1)
    mass = counted.sum(-2).clamp(min=1e-12)
    found = (assignments * counted).sum(-2) / mass
    return ((found - chance) / max(1 - chance, 1e-12)).clamp(min=0)
