"""How far each source domain is from the target, and what it counts for that."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from domainemo.adapters.kernels import gaussian_kernel, normalised

__all__ = ["Distances", "domain_distances", "nearness"]

_TINY = 1e-12
_ROUNDING = 1e-6


class Distances(nn.Module):
    """A moving average of every source domain's distance from the target.

    Parameters
    ----------
    domains : int
    momentum : float
        Share of the average that a new batch leaves as it was.

    Attributes
    ----------
    average : Tensor of shape (domains,)
    known : Tensor of shape (domains,)
        1 for a domain whose distance could be measured so far, else 0.
    """

    average: Tensor
    known: Tensor

    def __init__(self, domains: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("average", torch.zeros(domains))
        self.register_buffer("known", torch.zeros(domains))

    def forward(
        self, source: Tensor, target: Tensor, belonging: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return average and known after a batch; keep them in training.

        Parameters
        ----------
        source, target, belonging, weights
            See `domain_distances`; without gradient.
        """
        now, measured = domain_distances(
            source.detach(), target.detach(), belonging, weights
        )
        before = self.known * self.momentum
        moved = before * self.average + (1 - before) * now
        average = torch.where(measured > 0, moved, self.average)
        known = torch.maximum(self.known, measured)
        if self.training:
            self.average.copy_(average)
            self.known.copy_(known)
        return average, known


def domain_distances(
    source: Tensor, target: Tensor, belonging: Tensor, target_weights: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Return every domain's squared mean discrepancy from the target, unbiased.

    .. math:: \frac{\sum_{i \neq i'} p_i p_{i'} k(x_i, x_{i'})}{1 - \sum_i p_i^2} +
              \frac{\sum_{j \neq j'} u_j u_{j'} k(y_j, y_{j'})}{1 - \sum_j u_j^2} -
              2 \sum_{ij} p_i u_j k(x_i, y_j)

    with weights :math:`p, u` that sum to one (Gretton et al., 2012, equation 3, where
    they are equal) and one kernel for all, of `kernels.gaussian_kernel`. Unbiased, so
    that a domain with few samples does not look far for that; it may be negative.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch, dim)
    belonging : Tensor of shape (..., domains, batch)
        Weights of the source's samples by domain, see `domains.members`.
    target_weights : Tensor of shape (..., batch)

    Returns
    -------
    distances : Tensor of shape (..., domains)
    measured : Tensor of shape (..., domains)
        1 where domain and target have two samples or more; elsewhere both are 0.
    """
    size = source.shape[-2]
    points = torch.cat([source, target], dim=-2)
    kernel = gaussian_kernel(points, torch.cat([belonging.sum(-2), target_weights], -1))
    ours, theirs = normalised(belonging), normalised(target_weights.unsqueeze(-2))
    cross = (ours @ kernel[..., :size, size:] * theirs).sum(-1)
    within, some = _within(kernel[..., :size, :size], ours)
    other, several = _within(kernel[..., size:, size:], theirs)
    measured = some & several
    distances = (within + other - 2 * cross) * measured
    return distances, measured.to(distances.dtype)


def _within(kernel: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of the kernel over distinct samples, and where there are two."""
    itself = kernel.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
    squares = shares.square()
    total = (shares @ kernel * shares).sum(-1) - (squares * itself).sum(-1)
    several = (shares > 0).sum(-1) > 1
    return total / torch.where(several, 1 - squares.sum(-1), 1.0), several


def nearness(
    average: Tensor, known: Tensor, *, temperature: float, keep: float = 1.0
) -> Tensor:
    r"""Return what each domain counts: the nearer, the more; 1 on average.

    .. math:: w_d = N \frac{\exp(-\delta_d / \tau)}{\sum_{d'} \exp(-\delta_{d'} / \tau)}

    over the nearest `keep` of the domains whose distance :math:`\delta` is known, of
    which there are N; those further away count 0, those that are not known 1.

    Parameters
    ----------
    average, known : Tensor of shape (..., domains)
        From `Distances`.
    temperature : float
        The :math:`\tau` of the equation.
    keep : float
        Share that is kept, rounded up to whole domains.

    Returns
    -------
    Tensor of shape (..., domains)
    """
    sure = known > 0
    count = sure.sum(-1, keepdim=True)
    numbers = torch.arange(average.shape[-1], device=average.device)
    apart = average.unsqueeze(-2) - average.unsqueeze(-1)
    earlier = numbers < numbers.unsqueeze(-1)
    before = (apart < 0) | ((apart == 0) & earlier)
    rank = (before & sure.unsqueeze(-2)).sum(-1)
    # A share such as 0.3 of 10 is three domains, whatever its last digit says.
    kept = sure & (rank < (keep * count - _ROUNDING).ceil().clamp(min=1))
    lowest = torch.finfo(average.dtype).min
    shares = (-average / temperature).masked_fill(~kept, lowest).softmax(-1)
    return torch.where(sure, count * shares * kept, 1.0)
