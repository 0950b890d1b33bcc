"""Entropy minimisation: the target should be predicted with confidence."""

from __future__ import annotations

from torch import Tensor

from domainemo.adapters.alignment import Alignment
from domainemo.adapters.entropies import entropy
from domainemo.core import Source, Target
from domainemo.registry import register

__all__ = ["EntropyMinimisation"]


@register
class EntropyMinimisation(Alignment):
    r"""Confident predictions of the target, by entropy minimisation.

    .. math:: L = -\frac{\sum_i w_i \sum_k p_{ik} \log p_{ik}}{\sum_i w_i}

    for each branch, with :math:`w_i` 1 where its sensor was there (Grandvalet and
    Bengio, Semi-supervised learning by entropy minimization, NIPS 2004). Nothing in it
    keeps classes apart: predictions that are all of one class have no entropy either.
    See `InformationMaximisation`.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    """

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the entropy of a branch's predictions."""
        outputs = target.outputs
        return entropy(outputs.logits[branch], outputs.weight(branch))
