"""Log-CORAL: log-Euclidean distance of the covariances of source and target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule
from domainemo.adapters.marginal import covariance
from domainemo.core import Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["LogCORAL", "log_euclidean_distance", "matrix_logarithm"]

_FLOOR = 1e-6


@register(name="log-coral")
class LogCORAL(Alignment):
    r"""Correlation alignment by the log-Euclidean distance (Deep LogCORAL).

    .. math:: \frac{1}{4 d^2} \left\| \log \tilde C_s - \log \tilde C_t \right\|_F^2

    with matrix logarithms of the covariances of the embeddings of size d (Wang, Li, Dai
    and Van Gool, ICCV workshops 2017; Morerio, Cavazza and Murino, ICLR 2018): ratios
    of variances count, small ones as much as large ones. The first paper's second term,
    the distance of the means, is left to other adapters: join them by ``+``.

    A batch smaller than the embedding has a singular covariance, without logarithm, so
    covariances are shrunk towards a multiple of the identity (Ledoit and Wolf, 2004),

    .. math:: \tilde C = (1 - \rho) C + \rho \frac{\operatorname{tr} C}{d} I
              + 10^{-6} I

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    shrinkage : float
        :math:`\rho`, the same for both domains and all batches.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        shrinkage: Annotated[float, Bounds(above=0, most=1)] = 0.1,
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.shrinkage = shrinkage

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the squared log-Euclidean distance; zero of single points."""
        return log_euclidean_distance(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            source.outputs.weight(branch),
            target.outputs.weight(branch),
            shrinkage=self.shrinkage,
        )

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the shrinkage."""
        return {
            "weight": trial.suggest_float("weight", 0.1, 1000, log=True),
            "shrinkage": trial.suggest_float("shrinkage", 0.01, 0.5, log=True),
        }


def log_euclidean_distance(
    source: Tensor,
    target: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    *,
    shrinkage: float = 0.1,
) -> Tensor:
    """Return the squared distance of the covariances' logarithms over 4 dim².

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    source_weights, target_weights : Tensor of shape (..., batch)
    shrinkage : float
        See `LogCORAL`.

    Returns
    -------
    Tensor of shape (...)
        Zero where either side has fewer than two points.
    """
    ours = matrix_logarithm(_shrunk(covariance(source, source_weights), shrinkage))
    theirs = matrix_logarithm(_shrunk(covariance(target, target_weights), shrinkage))
    enough = (source_weights.sum(-1) > 1) & (target_weights.sum(-1) > 1)
    distance = (ours - theirs).square().sum((-2, -1))
    return distance / (4 * source.shape[-1] ** 2) * enough


def _shrunk(matrices: Tensor, shrinkage: float) -> Tensor:
    mean = matrices.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    identity = torch.eye(
        matrices.shape[-1], dtype=matrices.dtype, device=matrices.device
    )
    return (1 - shrinkage) * matrices + (shrinkage * mean + _FLOOR) * identity


def matrix_logarithm(matrices: Tensor) -> Tensor:
    r"""Return logarithms of symmetric positive definite matrices.

    The gradient is right, and finite, where eigenvalues are equal as well, unlike that
    of ``torch.linalg.eigh``: by the formula of Daleckii and Krein (1965),

    .. math:: D \log(C)[H] = V \left( F \circ V^\top H V \right) V^\top, \qquad
              F_{ij} = \frac{\log \lambda_i - \log \lambda_j}{\lambda_i - \lambda_j}
              \quad \text{or} \quad \frac{1}{\lambda_i}

    A second derivative is not meant to be taken.

    Parameters
    ----------
    matrices : Tensor of shape (..., dim, dim)
        Eigenvalues below 1e-6 count as 1e-6.

    Returns
    -------
    Tensor of shape (..., dim, dim)
    """
    # LAPACK raises an error at what is not finite; it shall become NaN below instead.
    fixed = matrices.detach().nan_to_num(0.0, 0.0, 0.0)
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(fixed)
    values = values.clamp(min=_FLOOR)
    logarithms = (vectors * values.log().unsqueeze(-2)) @ vectors.mT
    # Zero in value, and with the gradient of the logarithm.
    change = vectors.mT @ (matrices - matrices.detach()) @ vectors
    return logarithms + vectors @ (_slopes(values) * change) @ vectors.mT


def _slopes(values: Tensor) -> Tensor:
    """Return the logarithm's slope between each two values, without cancellation."""
    left, right = values.unsqueeze(-1), values.unsqueeze(-2)
    low, high = torch.minimum(left, right), torch.maximum(left, right)
    ratio = (high - low) / low
    apart = ratio > 0
    ratio = torch.where(apart, ratio, 1.0)
    return torch.where(apart, ratio.log1p() / ratio, 1.0) / low
