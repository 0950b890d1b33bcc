"""The norm of the target's logits, brought to a common range."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from ..core import Source, Target, Validator
from ..registry import register
from ..values import Bounds
from .shared import is_finite, logits_of

__all__ = ["MaNo", "soft_normalised"]


@register(name="mano")
class MaNo(Validator):
    r"""Logits far from the class borders: the matrix norm MaNo.

    .. math:: \left( \frac1{n K} \sum_{i,k} \sigma(z_i)_k^p \right)^{1/p}

    of the target's logits, where :math:`\sigma` is the softmax if logits are confident,
    :math:`-\frac1{n K}\sum_{i,k} \log \operatorname{softmax}(z_i)_k > 5`, and else its
    Taylor polynomial :math:`1 + z + z^2 / 2`, less the smallest class's, scaled to sum
    to one (Xie, Odonnat et al., NeurIPS 2024; as by skada). It assumes that logits are
    large where predictions are right. It does not look at which classes are predicted:
    a network that predicts one class, or guesses with confidence, scores best. For
    study, or under ``"guarded"``.

    Parameters
    ----------
    order : float
        The norm's p.
    """

    def __init__(self, *, order: Annotated[float, Bounds(least=1)] = 4.0) -> None:
        self.order = order

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, from 0 to 1."""
        if not is_finite(held_out, target):
            return -math.inf
        logits = logits_of(target)
        if not len(logits):
            return 0.0
        powers = soft_normalised(logits) ** self.order
        return float(powers.mean() ** (1 / self.order))


def soft_normalised(logits: Tensor, threshold: float = 5.0) -> Tensor:
    """Return logits as shares of one, by softmax or by its Taylor polynomial.

    Parameters
    ----------
    logits : Tensor of shape (batch, classes)
    threshold : float
        Of the mean negative log-softmax, above which the softmax is taken.

    Returns
    -------
    Tensor of shape (batch, classes)
        Where all of a sample's terms are equal, equal shares.
    """
    if float(-logits.log_softmax(1).mean()) > threshold:
        return logits.softmax(1)
    terms = 1 + logits + logits**2 / 2
    terms = terms - terms.min(1, keepdim=True).values
    total = terms.sum(1, keepdim=True)
    even = torch.full_like(terms, 1 / logits.shape[1])
    return torch.where(total > 0, terms / total, even)
