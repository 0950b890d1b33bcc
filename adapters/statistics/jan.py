"""JAN: joint maximum mean discrepancy of embeddings and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.adapters.kernels import (
    gaussian_kernel,
    signed_discrepancy,
    squared_distances,
    unbiased_discrepancy,
)
from domainemo.core import Source, Target
from domainemo.registry import register

if TYPE_CHECKING:
    import optuna

__all__ = ["JAN", "joint_discrepancy", "joint_kernel"]

Estimate = Literal["full", "unbiased"]

_BANDWIDTH = 1.68  # of the predictions' kernel, in the authors' code


@register(name="jan")
class JAN(Alignment):
    r"""Joint maximum mean discrepancy of embedding and prediction (JAN).

    Joint adaptation networks (Long, Zhu, Wang and Jordan, ICML 2017) align the joint
    distribution of several layers: the embedding z and the predicted probabilities p of
    the branch's own classifier. The kernel of the discrepancy is the product of the
    layers' kernels,

    .. math:: k\big((z, p), (z', p')\big)
              = \sum_{q=0}^{4} k_q(z, z') \; e^{-\|p - p'\|^2 / 1.68}

    with the five Gaussian kernels of DAN for the embedding, and for the probabilities
    the one of a fixed bandwidth that the authors' code has. The paper also has an
    adversarial form, and estimates in linear time; this is the plain form over all
    pairs.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    estimate : {"full", "unbiased"}
        As for `DAN`.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        estimate: Estimate = "full",
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.estimate = estimate

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the estimate of the squared joint discrepancy."""
        return joint_discrepancy(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            source.outputs.logits[branch].softmax(-1),
            target.outputs.logits[branch].softmax(-1),
            source.outputs.weight(branch),
            target.outputs.weight(branch),
            estimate=self.estimate,
        )

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the estimate."""
        estimates = ["full", "unbiased"]
        return {
            **super().space(trial),
            "estimate": trial.suggest_categorical("estimate", estimates),
        }


def joint_discrepancy(
    source: Tensor,
    target: Tensor,
    source_probabilities: Tensor,
    target_probabilities: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    *,
    estimate: Estimate = "full",
) -> Tensor:
    """Return an estimate of the squared joint maximum mean discrepancy.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
        Batches may differ in size.
    source_probabilities, target_probabilities : Tensor of shape (..., batch, classes)
    source_weights, target_weights : Tensor of shape (..., batch)
    estimate : {"full", "unbiased"}
        As for `DAN`.

    Returns
    -------
    Tensor of shape (...)
        Zero where either side is empty; of the unbiased estimate, where either has
        fewer than two points.
    """
    kernel = joint_kernel(
        torch.cat([source, target], dim=-2),
        torch.cat([source_probabilities, target_probabilities], dim=-2),
        torch.cat([source_weights, target_weights], dim=-1),
    )
    if estimate == "unbiased":
        return unbiased_discrepancy(kernel, source_weights, target_weights)
    return signed_discrepancy(
        kernel, source_weights.unsqueeze(-1), target_weights.unsqueeze(-1)
    ).squeeze(-1)


def joint_kernel(embeddings: Tensor, probabilities: Tensor, weights: Tensor) -> Tensor:
    """Return the product of the kernels of embeddings and of probabilities.

    Parameters
    ----------
    embeddings : Tensor of shape (..., n, dim)
    probabilities : Tensor of shape (..., n, classes)
    weights : Tensor of shape (..., n)
        Points of weight 0 do not count in the embeddings' bandwidth.

    Returns
    -------
    Tensor of shape (..., n, n)
    """
    predicted = torch.exp(-squared_distances(probabilities) / _BANDWIDTH)
    return gaussian_kernel(embeddings, weights) * predicted
