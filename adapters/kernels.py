"""Distances between two samples of embeddings, as pure functions of tensors.

All take embeddings of shape (..., batch, dim) and weights of shape (..., batch), so
that leading axes vectorise; where either sample has no weight, the result is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from domainemo.core import Outputs, Source, Target
from domainemo.errors import ConfigurationError

__all__ = [
    "branch_kernels",
    "gaussian_kernel",
    "maximum_mean_discrepancy",
    "normalised",
    "signed_discrepancy",
    "squared_distances",
    "unbiased_discrepancy",
]

_KERNELS = 5
_JITTER = 1e-5
_TINY = 1e-12


def normalised(weights: Tensor) -> Tensor:
    """Scale weights to sum to one over the last axis; leave zeros where all are."""
    return weights / weights.sum(-1, keepdim=True).clamp(min=_TINY)


def squared_distances(points: Tensor) -> Tensor:
    """Return the squared Euclidean distances between all pairs.

    Parameters
    ----------
    points : Tensor of shape (..., n, dim)

    Returns
    -------
    Tensor of shape (..., n, n)
    """
    # Distances do not change with the origin; near it they lose fewer digits.
    centred = points - points.mean(-2, keepdim=True).detach()
    squares = centred.square().sum(-1)
    products = centred @ centred.mT
    distances = squares.unsqueeze(-1) + squares.unsqueeze(-2) - 2 * products
    return distances.clamp(min=0)


def gaussian_kernel(points: Tensor, weights: Tensor) -> Tensor:
    r"""Return the sum of five Gaussian kernels between all pairs.

    .. math:: k(a, b) = \sum_{q=0}^{4}
              \exp\left(-\frac{\|a-b\|^2 + 10^{-5}}{\sigma 2^{q-2}}\right)

    with :math:`\sigma` the mean squared distance of distinct pairs, without gradient
    (UF-AMA's released code; Long et al., 2015).

    Parameters
    ----------
    points : Tensor of shape (..., n, dim)
    weights : Tensor of shape (..., n)
        Points of weight 0 do not count in the bandwidth.

    Returns
    -------
    Tensor of shape (..., n, n)
    """
    return _gaussian_kernel(squared_distances(points), weights)


def branch_kernels(
    source: Source, target: Target, branches: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `gaussian_kernel` of the embeddings of several branches.

    Adapters that align the same branches share it.

    Parameters
    ----------
    source : Source
        Of n samples.
    target : Target
        Of m.
    branches : sequence of str
        Each has a bandwidth of its own; their dimensions may differ.

    Returns
    -------
    kernel : Tensor of shape (..., branches, n + m, n + m)
    source_weights : Tensor of shape (..., branches, n)
    target_weights : Tensor of shape (..., branches, m)
    """
    both = (source.outputs, target.outputs)
    seen = [
        (o.embeddings[each], o.present.get(each)) for each in branches for o in both
    ]
    # By identity: the same tensors. They are kept, so that no other takes their place.
    key = (branch_kernels, *(id(tensor) for pair in seen for tensor in pair))
    if key not in target.shared:
        target.shared[key] = (*_branch_kernels(*both, branches), seen)
    kernel, here, there, _ = target.shared[key]
    return kernel, here, there


def _branch_kernels(
    source: Outputs, target: Outputs, branches: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    distances = [
        squared_distances(
            torch.cat([source.embeddings[each], target.embeddings[each]], dim=-2)
        )
        for each in branches
    ]
    here, there = (
        torch.stack([outputs.weight(each) for each in branches], dim=-2)
        for outputs in (source, target)
    )
    weights = torch.cat([here, there], dim=-1)
    return _gaussian_kernel(torch.stack(distances, dim=-3), weights), here, there


def _gaussian_kernel(distances: Tensor, weights: Tensor) -> Tensor:
    distances = distances + _JITTER
    pairs = weights.unsqueeze(-1) * weights.unsqueeze(-2)
    distinct = weights.sum(-1).square() - weights.square().sum(-1)
    total = (distances.detach() * pairs).sum((-2, -1))
    sigma = (total / distinct.clamp(min=_TINY)).clamp(min=_JITTER)
    return _kernel_sum(distances, sigma[..., None, None])


def _kernel_sum(distances: Tensor, sigma: Tensor) -> Tensor:
    # exp(-d/s) for the widest kernel; squaring it halves the bandwidth each time.
    kernel = torch.exp(-distances / (sigma * 2.0 ** (_KERNELS - 3)))
    total = kernel
    for _ in range(_KERNELS - 1):
        kernel = kernel.square()
        total = total + kernel
    return total


def signed_discrepancy(kernel: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance of two weighted means in the kernel's space.

    Parameters
    ----------
    kernel : Tensor of shape (..., n + m, n + m)
    source : Tensor of shape (..., n, k)
        `k` sets of weights of the first n points.
    target : Tensor of shape (..., m, k)
        `k` sets of weights of the other m points.

    Returns
    -------
    Tensor of shape (..., k)
        Zero where either set of weights is all zero.
    """
    signed = torch.cat([normalised(source.mT), -normalised(target.mT)], dim=-1)
    distance = ((signed @ kernel) * signed).sum(-1)
    both = (source.sum(-2) > 0) & (target.sum(-2) > 0)
    return distance * both


def unbiased_discrepancy(kernel: Tensor, source: Tensor, target: Tensor) -> Tensor:
    r"""Return the unbiased estimate of a squared maximum mean discrepancy.

    .. math:: \frac{\sum_{i \ne j} p_i p_j k(x_i, x_j)}{\sum_{i \ne j} p_i p_j}
              + \frac{\sum_{i \ne j} u_i u_j k(y_i, y_j)}{\sum_{i \ne j} u_i u_j}
              - 2 \frac{\sum_{ij} p_i u_j k(x_i, y_j)}{\sum_{ij} p_i u_j}

    leaves out what a sample has in common with itself (Gretton et al., 2012, eq. 3), so
    that two samples of one distribution are 0 apart on average, and often below it.

    Parameters
    ----------
    kernel : Tensor of shape (..., n + m, n + m)
    source : Tensor of shape (..., n)
        Weights of the first n points.
    target : Tensor of shape (..., m)
        Weights of the other m points.

    Returns
    -------
    Tensor of shape (...)
        Zero where either side has fewer than two points of any weight.
    """
    n = source.shape[-1]
    here = _distinct_mean(kernel[..., :n, :n], source)
    there = _distinct_mean(kernel[..., n:, n:], target)
    across = (kernel[..., :n, n:] @ normalised(target).unsqueeze(-1)).squeeze(-1)
    value = here + there - 2 * (across * normalised(source)).sum(-1)
    enough = ((source > 0).sum(-1) > 1) & ((target > 0).sum(-1) > 1)
    return value * enough


def _distinct_mean(kernel: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over pairs of two different points; zero without one."""
    itself = torch.eye(weights.shape[-1], dtype=kernel.dtype, device=kernel.device)
    pairs = weights.unsqueeze(-1) * weights.unsqueeze(-2) * (1 - itself)
    return (kernel * pairs).sum((-2, -1)) / pairs.sum((-2, -1)).clamp(min=_TINY)


def maximum_mean_discrepancy(
    source: Tensor,
    target: Tensor,
    source_weights: Tensor,
    target_weights: Tensor,
    *,
    linear: bool = False,
) -> Tensor:
    """Return the squared maximum mean discrepancy (Gretton et al., 2012).

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    source_weights, target_weights : Tensor of shape (..., batch)
    linear : bool
        The linear-time estimate from neighbouring pairs, which UF-AMA's released
        code uses: noisy, may be negative, needs batches of one size. Otherwise the
        full V-statistic, which is never negative.

    Returns
    -------
    Tensor of shape (...)

    Raises
    ------
    ConfigurationError
        If the linear-time estimate is asked for of batches of two sizes.
    """
    if linear:
        return _linear(source, target, source_weights, target_weights)
    kernel = gaussian_kernel(
        torch.cat([source, target], dim=-2),
        torch.cat([source_weights, target_weights], dim=-1),
    )
    return signed_discrepancy(
        kernel, source_weights.unsqueeze(-1), target_weights.unsqueeze(-1)
    ).squeeze(-1)


def _linear(
    source: Tensor, target: Tensor, source_weights: Tensor, target_weights: Tensor
) -> Tensor:
    if source.shape[-2] != target.shape[-2]:
        raise ConfigurationError(
            f"The linear-time estimate of the maximum mean discrepancy pairs samples "
            f"by their place: found {source.shape[-2]} source and {target.shape[-2]} "
            f"target samples, expected as many of each. Choose the full estimate."
        )
    sigma = _mean_squared_distance(
        torch.cat([source, target], dim=-2),
        torch.cat([source_weights, target_weights], dim=-1),
    )[..., None]

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        return _kernel_sum((first - second).square().sum(-1) + _JITTER, sigma)

    next_source, next_target = source.roll(-1, dims=-2), target.roll(-1, dims=-2)
    values = (
        kernel(source, next_source)
        + kernel(target, next_target)
        - kernel(source, next_target)
        - kernel(next_source, target)
    )
    weights = source_weights * target_weights
    pairs = weights * weights.roll(-1, dims=-1)
    return (values * normalised(pairs)).sum(-1)


def _mean_squared_distance(points: Tensor, weights: Tensor) -> Tensor:
    """Return the bandwidth of `gaussian_kernel` in linear time and memory."""
    points = points.detach()
    total = weights.sum(-1)
    centre = (points * normalised(weights)[..., None]).sum(-2, keepdim=True)
    spread = ((points - centre).square().sum(-1) * weights).sum(-1)
    distances = 2 * total * spread + _JITTER * total.square()
    distinct = total.square() - weights.square().sum(-1)
    return (distances / distinct.clamp(min=_TINY)).clamp(min=_JITTER)
