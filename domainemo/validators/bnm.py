"""The nuclear norm of the target's predictions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core import Source, Target, Validator
from ..registry import register
from .shared import is_finite, logits_of

__all__ = ["BNM", "nuclear_norm"]


@register(name="bnm")
class BNM(Validator):
    r"""Predictions certain and of many classes: the batch nuclear norm, BNM.

    .. math:: \frac1n \lVert P \rVert_*, \qquad P_{ik} = p_{ik}

    the sum of the singular values of the target's n predictions (Cui et al., CVPR
    2020; as a validator Musgrave, Belongie and Lim, 2022, and pytorch-adapt).

    It assumes that predictions are worth the more, the surer they are, and that target
    classes are about equally frequent: where class shares differ between subjects it
    chooses badly, and it takes a confident random predictor for a good one.
    """

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, above 0; of fewer samples it is larger."""
        if not is_finite(held_out, target):
            return -math.inf
        return float(nuclear_norm(logits_of(target).softmax(1)))


def nuclear_norm(probabilities: Tensor) -> Tensor:
    """Return the sum of singular values per sample; 0 of no sample.

    Parameters
    ----------
    probabilities : Tensor of shape (batch, classes)
    """
    values: Tensor = torch.linalg.svdvals(probabilities)
    return values.sum() / max(len(probabilities), 1)
