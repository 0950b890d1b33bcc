"""Entropic transport by Sinkhorn's iterations on logarithms, in torch alone.

On logarithms nothing overflows, however small the regularisation is. A fixed number of
iterations, without gradient, vectorises: by the envelope theorem the gradient by the
costs is the plan itself, and none has to pass through the iterations.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["entropic_plan", "logarithm", "soft_minimum"]

_ABSENT = -1e9


def logarithm(mass: Tensor) -> Tensor:
    """Return the logarithm of masses; a number that is as good as infinite for none."""
    return torch.where(mass > 0, mass.clamp(min=1e-30).log(), _ABSENT)


def soft_minimum(costs: Tensor, potential: Tensor, log_mass: Tensor) -> Tensor:
    r"""Return :math:`-\log \sum_j b_j \exp(g_j - C_{ij})` of each sample :math:`i`.

    Parameters
    ----------
    costs : Tensor of shape (..., n, m)
        Over the regularisation, as the potential.
    potential, log_mass : Tensor of shape (..., m)

    Returns
    -------
    Tensor of shape (..., n)
    """
    return -((log_mass + potential)[..., None, :] - costs).logsumexp(-1)


def entropic_plan(
    costs: Tensor,
    source_mass: Tensor,
    target_mass: Tensor,
    f: Tensor,
    g: Tensor,
) -> Tensor:
    r"""Return :math:`a_i b_j \exp(f_i + g_j - C_{ij})`.

    Parameters
    ----------
    costs : Tensor of shape (..., n, m)
        Over the regularisation, as the potentials.
    source_mass, f : Tensor of shape (..., n)
    target_mass, g : Tensor of shape (..., m)

    Returns
    -------
    Tensor of shape (..., n, m)
        Differentiable by the costs.
    """
    mass = source_mass[..., :, None] * target_mass[..., None, :]
    exponent = f[..., :, None] + g[..., None, :] - costs
    # Between samples without mass the potentials say nothing and may overflow.
    return mass * torch.where(mass > 0, exponent, 0.0).exp()
