"""DSAN: local maximum mean discrepancy, class by class with soft assignments."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.adapters.conditional import conditional_discrepancy
from domainemo.core import FUSION, Source, Target
from domainemo.registry import register

__all__ = ["DSAN", "local_discrepancy"]


@register(name="dsan")
class DSAN(Alignment):
    r"""Local maximum mean discrepancy between the same classes (DSAN, LMMD).

    Deep subdomain adaptation networks (Zhu et al., IEEE TNNLS 2020) lower

    .. math:: \frac{1}{|\mathcal{C}|} \sum_{c \in \mathcal{C}} \left\|
              \sum_i w_i^{sc} \varphi(x_i) - \sum_j w_j^{tc} \varphi(y_j)
              \right\|^2_{\mathcal{H}}, \qquad
              w_j^c = \frac{p_{jc}}{\sum_{j'} p_{j'c}}

    where :math:`p` are one-hot labels of the source, and for the target what the fusion
    predicts of it at this step, without gradient; the kernel is DAN's. As in the
    authors' code, :math:`\mathcal{C}` holds the classes that the batch has among the
    source's labels and as the most probable of some target sample; the paper's formula
    counts all. `Conditional` is of the same family, with a teacher's predictions and
    classes weighted by how clearly they are told apart.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`; weight 0.5 and the ramp are the authors' code's.
    """

    def __init__(
        self,
        *,
        weight: Weight = 0.5,
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the mean discrepancy over the classes that both domains have."""
        return local_discrepancy(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            source.labels,
            target.outputs.logits[FUSION].detach().softmax(-1),
            source.outputs.weight(branch),
            target.outputs.weight(branch),
        )


def local_discrepancy(
    source: Tensor,
    target: Tensor,
    labels: Tensor,
    assignments: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
) -> Tensor:
    """Return the local maximum mean discrepancy.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    labels : Tensor of int, shape (..., batch)
    assignments : Tensor of shape (..., batch, classes)
        Probability of each class for each target sample.
    source_weights, target_weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
        Zero where the domains have no class in common.
    """
    each = conditional_discrepancy(
        source, target, labels, assignments, source_weights, target_weights, minimum=0.0
    )
    classes = assignments.shape[-1]
    common = _found(labels, source_weights, classes) & _found(
        assignments.argmax(-1), target_weights, classes
    )
    return (each * common).sum(-1) / common.sum(-1).clamp(min=1)


def _found(labels: Tensor, weights: Tensor, classes: int) -> Tensor:
    """Return whether some sample of any weight has each class; shape (..., classes)."""
    members = functional.one_hot(labels, classes).bool()
    return torch.any(members & (weights > 0).unsqueeze(-1), dim=-2)
