"""What adapters share that tell one source domain, a subject say, from another.

Pure functions of tensors with an axis of domains, (..., domains, batch), in place of a
loop over them. A domain that is absent from a batch has no weight in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from domainemo.core import Source

from .alignment import Alignment
from .branches import cross_entropies, weighted_mean

__all__ = [
    "BetweenDomains",
    "classifier",
    "mean_over_present",
    "members",
    "present",
    "risks",
]


class BetweenDomains(Alignment):
    """A loss on each of some branches that knows how many source domains there are.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.

    Attributes
    ----------
    domains : int
        How many source domains train, as `prepare` is told.
    """

    domains: int

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Remember the number of domains."""
        self.domains = domains

    def members(self, source: Source, branch: str) -> Tensor:
        """Return the weights of `branch` by domain; shape (..., domains, batch)."""
        return members(source.domains, source.outputs.weight(branch), self.domains)


def members(domains: Tensor, weights: Tensor, count: int) -> Tensor:
    """Return each domain's weights: a sample's own in its domain, 0 in all others.

    Parameters
    ----------
    domains : Tensor of int, shape (..., batch)
    weights : Tensor of shape (..., batch)
    count : int
        Of domains, numbered from 0.

    Returns
    -------
    Tensor of shape (..., count, batch)
    """
    numbers = torch.arange(count, device=domains.device).unsqueeze(-1)
    return (domains.unsqueeze(-2) == numbers) * weights.unsqueeze(-2)


def present(belonging: Tensor) -> Tensor:
    """Return 1 for a domain that has any weights among its own, (..., batch)."""
    return (belonging.sum(-1) > 0).to(belonging.dtype)


def mean_over_present(values: Tensor, belonging: Tensor) -> Tensor:
    """Return the mean over domains that a batch shows; zero where it shows none.

    Parameters
    ----------
    values : Tensor of shape (..., domains)
    belonging : Tensor of shape (..., domains, batch)
        From `members`.
    """
    return weighted_mean(values, present(belonging))


def risks(logits: Tensor, labels: Tensor, belonging: Tensor) -> Tensor:
    """Return every domain's mean cross-entropy; zero for one that is absent.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    labels : Tensor of int, shape (..., batch)
    belonging : Tensor of shape (..., domains, batch)
        From `members`.

    Returns
    -------
    Tensor of shape (..., domains)
    """
    return weighted_mean(cross_entropies(logits, labels).unsqueeze(-2), belonging)


def classifier(dim: int, classes: int) -> nn.Module:
    """Return a classifier as the library puts on a branch, but without dropout."""
    hidden = max(dim // 2, 8)
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, classes))
