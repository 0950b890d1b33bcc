"""DAN: multi-kernel maximum mean discrepancy between source and target embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.adapters.kernels import (
    gaussian_kernel,
    maximum_mean_discrepancy,
    unbiased_discrepancy,
)
from domainemo.core import Source, Target
from domainemo.registry import register

if TYPE_CHECKING:
    import optuna

__all__ = ["DAN", "multi_kernel_discrepancy"]

Estimate = Literal["full", "unbiased", "linear"]


@register(name="dan")
class DAN(Alignment):
    r"""Multi-kernel maximum mean discrepancy between source and target (DAN).

    Deep adaptation networks (Long, Cao, Wang and Jordan, ICML 2015) lower

    .. math:: \left\| \operatorname{E} \varphi(x) - \operatorname{E} \varphi(y)
              \right\|^2_{\mathcal{H}_k}, \qquad k = \sum_{q=0}^{4} k_q

    between source embeddings x and target embeddings y, with Gaussian kernels
    :math:`k_q` whose bandwidths are a quarter to four times the mean squared distance.
    As in the authors' code, the kernels count alike and the bandwidths follow the batch
    without gradient; the paper learns the kernels' weights by a quadratic programme.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    estimate : {"full", "unbiased", "linear"}
        ``"full"`` is the squared distance of the two samples themselves, never
        negative, and above zero for two samples of one distribution. ``"unbiased"``
        leaves out each sample's kernel with itself and is zero there on average.
        ``"linear"``, the paper's, compares neighbouring samples only: much noisier,
        and both batches must be of one size.
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
        """Return the estimate of the squared discrepancy."""
        return multi_kernel_discrepancy(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            source.outputs.weight(branch),
            target.outputs.weight(branch),
            estimate=self.estimate,
        )

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the estimate, of those that take every batch."""
        estimates = ["full", "unbiased"]
        return {
            **super().space(trial),
            "estimate": trial.suggest_categorical("estimate", estimates),
        }


def multi_kernel_discrepancy(
    source: Tensor,
    target: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    *,
    estimate: Estimate = "full",
) -> Tensor:
    """Return an estimate of the squared maximum mean discrepancy, of five kernels.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
        Batches may differ in size, but for the linear estimate.
    source_weights, target_weights : Tensor of shape (..., batch)
    estimate : {"full", "unbiased", "linear"}
        See `DAN`.

    Returns
    -------
    Tensor of shape (...)
        Zero where either side is empty; of the unbiased estimate, where either has
        fewer than two points.

    Raises
    ------
    ConfigurationError
        If the linear estimate is asked for of batches of two sizes.
    """
    points = (source, target, source_weights, target_weights)
    if estimate != "unbiased":
        return maximum_mean_discrepancy(*points, linear=estimate == "linear")
    kernel = gaussian_kernel(
        torch.cat([source, target], dim=-2),
        torch.cat([source_weights, target_weights], dim=-1),
    )
    return unbiased_discrepancy(kernel, source_weights, target_weights)
