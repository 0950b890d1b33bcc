"""Distances between two samples of embeddings, as pure functions of tensors.

All take embeddings of shape (..., batch, dim) and weights of shape (..., batch), so
that leading axes vectorise; where either sample has no weight, the result is zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "gaussian_kernel",
    "maximum_mean_discrepancy",
    "normalised",
    "signed_discrepancy",
]

_KERNELS = 5
_JITTER = 1e-5
_TINY = 1e-12


def normalised(weights: Tensor) -> Tensor:
    """Scale weights to sum to one over the last axis; leave zeros where all are."""
    return weights / weights.sum(-1, keepdim=True).clamp(min=_TINY)


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
    # Distances do not change with the origin; near it they lose fewer digits.
    centred = points - points.mean(-2, keepdim=True).detach()
    squares = centred.square().sum(-1)
    products = centred @ centred.mT
    distances = squares.unsqueeze(-1) + squares.unsqueeze(-2) - 2 * products
    distances = distances.clamp(min=0) + _JITTER
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
