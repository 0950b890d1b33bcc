"""Batch nuclear-norm maximisation: predictions that are certain, and not all alike."""

from __future__ import annotations

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment
from domainemo.core import Source, Target
from domainemo.registry import register

__all__ = ["BNM", "nuclear_norm"]

_TINY = 1e-12


@register(name="bnm")
class BNM(Alignment):
    r"""Predictions certain and of many classes: batch nuclear-norm maximisation, BNM.

    .. math:: L = -\frac1n \lVert P \rVert_*, \qquad P_{ik} = p_{ik}

    the sum of the singular values of the target batch's n predictions, which is large
    where each is certain and all classes occur (Cui, Wang, Zhuo, Li, Huang and Tian,
    CVPR 2020). Samples whose sensor was lost are left out.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    """

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the negative norm per sample; zero where there is none."""
        weights = target.outputs.weight(branch)
        probabilities = target.outputs.logits[branch].softmax(-1)
        rows = probabilities * weights.sqrt().unsqueeze(-1)
        return -nuclear_norm(rows) / weights.sum(-1).clamp(min=_TINY)


def nuclear_norm(matrix: Tensor) -> Tensor:
    r"""Return the sum of singular values, with a gradient wherever some are equal.

    That of :math:`A = U \Sigma V^\top` is :math:`U V^\top`, which equal singular values
    leave as it is, while torch's way through the decomposition divides by their
    difference. Directions with a singular value of zero get no gradient.

    Parameters
    ----------
    matrix : Tensor of shape (..., rows, columns)

    Returns
    -------
    Tensor of shape (...)
    """
    # What is not finite stays so by the product below, and decomposes nowhere.
    known = matrix.detach().nan_to_num(posinf=0.0, neginf=0.0)
    left, values, right = torch.linalg.svd(known, full_matrices=False)
    rounding = torch.finfo(matrix.dtype).eps * max(matrix.shape[-2:])
    there = values > rounding * values.amax(-1, keepdim=True)
    gradient = (left * there.unsqueeze(-2)) @ right
    norm: Tensor = (matrix * gradient).sum((-2, -1))
    return norm
