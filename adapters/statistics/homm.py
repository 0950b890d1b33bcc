"""HoMM: higher-order moment tensors of source and target should be alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule, weighted_mean
from domainemo.adapters.kernels import normalised, signed_discrepancy
from domainemo.core import Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["HoMM", "moment_tensor_discrepancy"]

_TINY = 1e-12


@register(name="homm")
class HoMM(Alignment):
    r"""Higher-order moment matching: moment tensors of one order alike (HoMM).

    .. math:: \frac{1}{d^p} \left\| \operatorname{E} x^{\otimes p}
              - \operatorname{E} y^{\otimes p} \right\|_F^2

    between embeddings of size d, with p-fold outer products (Chen et al., AAAI 2020).
    The tensor's :math:`d^p` entries are never formed: as
    :math:`\langle x^{\otimes p}, y^{\otimes p} \rangle = \langle x, y \rangle^p`, the
    loss is a maximum mean discrepancy, exactly, where the paper groups or samples the
    entries of high orders. The authors bound embeddings by a tanh; here they are
    divided by the root mean square of both batches, so that the loss does not change
    with scale, nor its gradient shorten the embeddings.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    order : int
        p. The paper's are 3 and 4; of order 1 it is the distance of the means.
    centred : bool
        Subtract each batch's mean first, as the authors' code does and the paper's
        formula does not: a shift of the mean is then not seen.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        order: Annotated[int, Bounds(least=1)] = 3,
        centred: bool = False,
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.order, self.centred = order, centred

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the squared distance of the moment tensors, relative to scale."""
        points = source.outputs.embeddings[branch], target.outputs.embeddings[branch]
        weights = source.outputs.weight(branch), target.outputs.weight(branch)
        if self.centred:
            ours, theirs = map(_centred, points, weights)
            points = ours, theirs
        scale = _root_mean_square(torch.cat(points, -2), torch.cat(weights, -1))
        ours, theirs = (each / scale[..., None, None] for each in points)
        return moment_tensor_discrepancy(ours, theirs, *weights, order=self.order)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight, the order and whether to subtract the mean."""
        return {
            **super().space(trial),
            "order": trial.suggest_categorical("order", [3, 4]),
            "centred": trial.suggest_categorical("centred", [False, True]),
        }


def moment_tensor_discrepancy(
    source: Tensor,
    target: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    *,
    order: int = 3,
) -> Tensor:
    """Return the squared distance of the mean outer powers over dim to the order.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    source_weights, target_weights : Tensor of shape (..., batch)
    order : int

    Returns
    -------
    Tensor of shape (...)
        Zero where either side is empty.
    """
    points = torch.cat([source, target], dim=-2)
    # What has no weight may be far out: its powers must not overflow.
    there = torch.cat([source_weights, target_weights], dim=-1) > 0
    points = torch.where(there.unsqueeze(-1), points, 0.0)
    kernel = (points @ points.mT / points.shape[-1]) ** order
    return signed_discrepancy(
        kernel, source_weights.unsqueeze(-1), target_weights.unsqueeze(-1)
    ).squeeze(-1)


def _centred(points: Tensor, weights: Tensor) -> Tensor:
    mean = (points * normalised(weights).unsqueeze(-1)).sum(-2, keepdim=True)
    return points - mean


def _root_mean_square(points: Tensor, weights: Tensor) -> Tensor:
    """Return the scale of a sample; 1 where all of it is zero."""
    mean = weighted_mean(points.square().mean(-1), weights)
    return torch.where(mean > _TINY, mean, 1.0).sqrt()
