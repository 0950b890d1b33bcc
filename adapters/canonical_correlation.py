"""Canonical correlation: what two sensors record at once should be embedded alike."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from domainemo.core import Adapter, Outputs, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

from .alignment import Weight

if TYPE_CHECKING:
    import optuna

__all__ = ["CanonicalCorrelation", "canonical_correlations"]

_FLOOR = 1e-6
_ROUNDING = 1e-6


@register
class CanonicalCorrelation(Adapter):
    r"""Canonical correlations between each pair of modality branches, to be raised.

    .. math:: L = -\sum_k \rho_k, \qquad
              \rho = \operatorname{sv}(S_{11}^{-1/2} S_{12} S_{22}^{-1/2})

    with the singular values of the covariances S, regularised, of two branches.

    The objective of deep canonical correlation analysis (Andrew, Arora, Bilmes and
    Livescu, 2013), as Liu, Qiu, Zheng and Lu (IEEE TCDS 14(2), 2022) train it together
    with a classifier: the negative sum of the canonical correlations within a batch.
    Made for ``deep-cca``, it fits any backbone: the branches need no common dimension.

    A batch of n samples holds n - 1 directions. Where a branch has as many dimensions,
    every correlation is 1 before anything is learned, but for the regularisation: then
    count the largest few alone (`components`), or take larger batches.

    Several pairs are averaged, over those of which the batch has enough samples; a
    sample counts for a pair where both sensors recorded it. Source and target are
    correlated each by itself. With a single modality there is no pair, and the loss is
    zero.

    Parameters
    ----------
    weight : float
        Weight of the mean over pairs, of the source as of the target; 0.1 in the code
        that Liu et al. released.
    regularisation : float
        What is added to the diagonal of both covariance matrices.
    relative : bool
        Measure the regularisation in units of a branch's mean variance, so that scale
        does not matter; ours, as any backbone may come. Otherwise it is absolute, as in
        both papers: branches whose variance is below it hardly correlate.
    components : int, optional
        Count this many of the largest correlations; all by default, as in both papers.
    minimum : int
        Fewer samples of a pair than this are not correlated.
    on_target : bool
        Correlate the modalities of the target too, which needs no labels. Liu et al.
        do not.

    Raises
    ------
    ConfigurationError
        If an option is out of range.
    """

    def __init__(
        self,
        *,
        weight: Weight = 0.1,
        regularisation: Annotated[
            float, Bounds(above=0, words="a number above 0, such as 1e-3")
        ] = 1e-3,
        relative: bool = True,
        components: Annotated[int | None, Bounds(1, words="a number above 0")] = None,
        minimum: Annotated[int, Bounds(2, words="a number of at least 2")] = 8,
        on_target: bool = True,
    ) -> None:
        super().__init__()
        self.weight, self.regularisation = weight, regularisation
        self.relative, self.components = relative, components
        self.minimum, self.on_target = minimum, on_target
        self.needs_target = on_target

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the loss of the source, and of the target where it is asked for."""
        losses = {"source": self._loss(source.outputs)}
        if self.on_target:
            losses["target"] = self._loss(target.outputs)
        return losses

    def _loss(self, outputs: Outputs) -> Tensor:
        """Return the weighted mean over pairs of modalities."""
        # Zero that depends on the network, for a batch without any pair.
        losses = [next(iter(outputs.embeddings.values())).sum((-2, -1)) * 0]
        defined = [torch.zeros_like(losses[0])]
        for first, second in combinations(outputs.modalities, 2):
            weights = outputs.weight(first) * outputs.weight(second)
            found = canonical_correlations(
                outputs.embeddings[first],
                outputs.embeddings[second],
                weights,
                regularisation=self.regularisation,
                relative=self.relative,
                minimum=self.minimum,
            )
            losses.append(-found[..., : self.components].sum(-1))
            defined.append((weights.sum(-1) >= self.minimum).to(weights.dtype))
        pairs = torch.stack(defined).sum(0).clamp(min=1)
        return self.weight * torch.stack(losses).sum(0) / pairs

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the regularisation."""
        return {
            "weight": trial.suggest_float("weight", 1e-3, 1, log=True),
            "regularisation": trial.suggest_float(
                "regularisation", 1e-4, 1e-1, log=True
            ),
        }


def canonical_correlations(
    first: Tensor,
    second: Tensor,
    weights: Tensor,
    *,
    regularisation: float = 1e-3,
    relative: bool = True,
    minimum: int = 2,
) -> Tensor:
    r"""Return the canonical correlations of two sets of variables, the largest first.

    The singular values of

    .. math:: (S_{11} + r_1 I)^{-1/2}\, S_{12}\, (S_{22} + r_2 I)^{-1/2}

    (Andrew et al., 2013, section 3), with the Cholesky factors' inverses in place of
    the roots': the singular values are the same, and no gradient divides by differences
    of eigenvalues, which degenerate batches make zero. At a correlation of zero, where
    the singular value has no derivative, the gradient is zero: each is
    :math:`\sqrt{s^2 + 10^{-12}} - 10^{-6}`. All is computed in double precision.

    Parameters
    ----------
    first : Tensor of shape (..., batch, dim)
    second : Tensor of shape (..., batch, other dim)
    weights : Tensor of shape (..., batch)
        1 for a sample that both have, 0 for one that counts for nothing.
    regularisation : float
        The :math:`r` of the equation; in units of a set's mean variance where
        `relative`, and then 1e-6 more, for sets that do not vary at all.
    relative : bool
    minimum : int
        With fewer samples all correlations are zero, with zero gradient.

    Returns
    -------
    Tensor of shape (..., smaller dim)
        Not a number where an embedding is not.
    """
    centred = [_centred(points, weights) for points in (first, second)]
    count = (weights.double().sum(-1) - 1).clamp(min=1)[..., None, None]
    ridge = (regularisation, relative)
    white = [_whitened(points, count, *ridge) for points in centred]
    cross = white[0].mT @ white[1] / count
    # A decomposition of what is not finite raises an error that names no cause.
    finite = cross.isfinite().all(-1).all(-1)[..., None]
    values = torch.linalg.svdvals(torch.where(finite[..., None], cross, 0.0))
    # Level at zero: a singular value is as little smooth there as an absolute value.
    smooth = (values.square() + _ROUNDING**2).sqrt() - _ROUNDING
    enough = (weights.sum(-1) >= minimum)[..., None]
    found = torch.where(finite, smooth, torch.nan)
    return torch.where(enough, found, 0.0).to(first.dtype)


def _centred(points: Tensor, weights: Tensor) -> Tensor:
    """Return points less their weighted mean, zero where the weight is."""
    there = weights.unsqueeze(-1) > 0
    known = torch.where(there, points, 0.0).double()
    mean = known.sum(-2, keepdim=True) / there.sum(-2, keepdim=True).clamp(min=1)
    return (known - mean) * there


def _whitened(
    points: Tensor, count: Tensor, regularisation: float, relative: bool
) -> Tensor:
    """Return centred points (..., batch, dim) with a covariance of nearly one."""
    covariance = points.mT @ points / count
    ridge = torch.ones_like(count) * regularisation
    if relative:
        variance = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        ridge = variance * regularisation + _FLOOR
    one = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
    factor, _ = torch.linalg.cholesky_ex(covariance + ridge * one)
    white: Tensor = torch.linalg.solve_triangular(factor, points.mT, upper=False)
    return white.mT
