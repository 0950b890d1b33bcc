"""Entropic transport by Sinkhorn's iterations on logarithms, in torch alone.

On logarithms nothing overflows however small the regularisation is. A fixed number of
iterations, without gradient, lets it vectorise: by the envelope theorem the gradient
by the costs is the plan itself, and none has to pass through the iterations.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["entropic_plan", "potentials"]

_ABSENT = -1e9


def potentials(
    costs: Tensor,
    source_mass: Tensor,
    target_mass: Tensor,
    *,
    epsilon: float,
    tau: float | None = None,
    iterations: int = 100,
) -> tuple[Tensor, Tensor]:
    r"""Return the dual potentials of entropic transport, without gradient.

    .. math:: \min_P \langle P, C \rangle + \varepsilon KL(P \| a b^\top)
              + \tau KL(P 1 \| a) + \tau KL(P^\top 1 \| b)

    by :math:`f \leftarrow \frac12 f + \frac12 \frac{-\tau \varepsilon}
    {\tau + \varepsilon} \log \sum_j b_j \exp((g_j - C_{\cdot j}) / \varepsilon)` and
    likewise :math:`g`, both at once, so that what is symmetric stays so (Feydy et al.,
    2019; Chizat et al., 2018).

    Parameters
    ----------
    costs : Tensor of shape (..., n, m)
    source_mass : Tensor of shape (..., n)
    target_mass : Tensor of shape (..., m)
    epsilon : float
        Regularisation, in the units of the costs.
    tau : float, optional
        How dear it is to leave mass where it is; balanced transport without it.
    iterations : int

    Returns
    -------
    f : Tensor of shape (..., n)
    g : Tensor of shape (..., m)
    """
    damping = epsilon if tau is None else epsilon * tau / (tau + epsilon)
    with torch.no_grad():
        source, target = _logarithm(source_mass), _logarithm(target_mass)
        scaled = costs / epsilon
        f, g = torch.zeros_like(source), torch.zeros_like(target)
        for _ in range(iterations):
            over = (target + g / epsilon)[..., None, :] - scaled
            under = (source + f / epsilon)[..., :, None] - scaled
            f = (f - damping * over.logsumexp(-1)) / 2
            g = (g - damping * under.logsumexp(-2)) / 2
    return f, g


def entropic_plan(
    costs: Tensor,
    source_mass: Tensor,
    target_mass: Tensor,
    f: Tensor,
    g: Tensor,
    *,
    epsilon: float,
) -> Tensor:
    r"""Return :math:`a_i b_j \exp((f_i + g_j - C_{ij}) / \varepsilon)`.

    Parameters
    ----------
    costs : Tensor of shape (..., n, m)
    source_mass, f : Tensor of shape (..., n)
    target_mass, g : Tensor of shape (..., m)
    epsilon : float

    Returns
    -------
    Tensor of shape (..., n, m)
        Differentiable by the costs.
    """
    mass = source_mass[..., :, None] * target_mass[..., None, :]
    exponent = (f[..., :, None] + g[..., None, :] - costs) / epsilon
    # Between samples without mass the potentials say nothing and may overflow.
    return mass * torch.where(mass > 0, exponent, 0.0).exp()


def _logarithm(mass: Tensor) -> Tensor:
    return torch.where(mass > 0, mass.clamp(min=1e-30).log(), _ABSENT)
