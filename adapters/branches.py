"""What the adapters share: how branches count, means, lengths, schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from domainemo.core import FUSION, Outputs
from domainemo.errors import ConfigurationError, did_you_mean

__all__ = [
    "Branches",
    "Schedule",
    "beginning",
    "cross_entropies",
    "cross_entropy",
    "length",
    "levels",
    "schedule_factor",
    "shares",
    "soft_cross_entropies",
    "unit",
    "weighted_mean",
]

Branches = str | Sequence[str]
"""``"all"``, ``"modalities"``, or the names of branches such as ``"fusion"``."""

Schedule = Literal["delayed", "ramp", "constant", "released"]

_RELEASED = 2 / (1 + math.exp(-10)) - 1.5

_DELAY = 1 / 3
_TINY = 1e-12
_SHORTEST = 1e-6


def shares(outputs: Outputs, of_modalities: float = 0.5) -> Mapping[str, float]:
    """Return how much each branch counts: by default, fusion one half.

    With two modalities these are the weights 1/4, 1/4 and 1/2 of UF-AMA.

    Parameters
    ----------
    outputs : Outputs
    of_modalities : float
        What the modalities share, each alike; the fusion has the rest. A branch that
        would count nothing is not named.
    """
    modalities = outputs.modalities
    if not modalities or not of_modalities:
        return {FUSION: 1.0}
    each = of_modalities / len(modalities)
    return {**dict.fromkeys(modalities, each), FUSION: 1 - of_modalities}


def levels(outputs: Outputs, branches: Branches) -> Mapping[str, float]:
    """Return the branches that an adapter works on, and how much each counts.

    Parameters
    ----------
    outputs : Outputs
    branches : str or sequence of str
        ``"all"`` counts as :func:`shares` says; ``"modalities"``, which are none in a
        network that fuses at once, and branches by name count alike.

    Raises
    ------
    ConfigurationError
        If the network has no branch of that name, or one is named twice.
    """
    if branches == "all":
        return shares(outputs)
    if branches == "modalities":
        names = tuple(outputs.modalities)
    else:
        names = (branches,) if isinstance(branches, str) else tuple(branches)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError(
            f"The branch {twice!r} is named twice; expected each once, as all that are "
            f"named count alike."
        )
    for name in names:
        if name not in outputs.logits:
            known = ("all", "modalities", *outputs.logits)
            raise ConfigurationError(
                f"The network has no branch {name!r}.{did_you_mean(name, known)} "
                f"Expected 'all', 'modalities', or some of "
                f"{', '.join(map(repr, outputs.logits))}."
            )
    return {name: 1 / len(names) for name in names}


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over the last axis; zero, with zero gradient, of an empty set.

    Parameters
    ----------
    values, weights : Tensor of shape (..., batch)
    """
    total = weights.sum(-1)
    return (values * weights).sum(-1) / total.clamp(min=_TINY)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return every sample's cross-entropy, of shape (..., batch).

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    labels : Tensor of int, shape (..., batch)
    """
    log_probabilities = functional.log_softmax(logits, dim=-1)
    picked = torch.take_along_dim(log_probabilities, labels.unsqueeze(-1), dim=-1)
    return -picked.squeeze(-1)


def soft_cross_entropies(logits: Tensor, shares: Tensor) -> Tensor:
    r"""Return every sample's :math:`-\sum_k q_k \log p_k`, of shape (..., batch).

    Parameters
    ----------
    logits, shares : Tensor of shape (..., batch, classes)
        What :math:`p` is made of, and :math:`q`.
    """
    return -(shares * functional.log_softmax(logits, dim=-1)).sum(-1)


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy; zero where all weights are zero.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    labels : Tensor of int, shape (..., batch)
    weights : Tensor of shape (..., batch)
    """
    return weighted_mean(cross_entropies(logits, labels), weights)


def length(rows: Tensor) -> Tensor:
    """Return the Euclidean length; zero, with zero gradient, below 1e-6.

    Parameters
    ----------
    rows : Tensor of shape (..., dim)

    Returns
    -------
    Tensor of shape (...)
    """
    squares = rows.square().sum(-1)
    there = squares > _SHORTEST**2
    return torch.where(there, torch.where(there, squares, 1.0).sqrt(), 0.0)


def unit(rows: Tensor) -> Tensor:
    """Scale rows to unit length; zero, with zero gradient, without a direction.

    Parameters
    ----------
    rows : Tensor of shape (..., dim)
        Those shorter than 1e-6 have no direction.
    """
    squares = rows.square().sum(-1, keepdim=True)
    there = squares > _SHORTEST**2
    return rows * torch.where(there, torch.where(there, squares, 1.0).rsqrt(), 0.0)


def beginning(schedule: Schedule, adapter: nn.Module) -> float:
    """Return from what progress on an adapter's losses can be other than zero.

    0 for one with weights or a memory of its own, which learn from the start.
    """
    return _DELAY if schedule == "delayed" and not adapter.state_dict() else 0.0


def schedule_factor(schedule: Schedule, progress: float | Tensor) -> float | Tensor:
    """Return what a loss weight is multiplied by at this point of training.

    ``constant`` is 1. ``ramp`` rises from 0 to 1 as ``2 / (1 + exp(-10 p)) - 1``
    (Ganin et al., 2016). ``delayed`` is 0 for the first third, while the network
    learns the source, and then rises likewise. ``released`` is what UF-AMA's released
    code computes over its 400 epochs: 1, then a constant 0.49991 where a ramp was
    meant, then nothing.
    """
    if schedule == "constant":
        return 1.0
    if isinstance(progress, Tensor):
        return _of_several(schedule, progress)
    if schedule == "ramp":
        return _ramp(progress)
    if schedule == "delayed":
        return _ramp(max(progress - _DELAY, 0) * 1.5)
    epoch = int(progress * 400)
    if epoch <= 10:
        return 1.0
    if epoch <= 40:
        return _RELEASED
    return math.exp(-0.6 * epoch) if epoch <= 85 else 0.0


def _of_several(schedule: Schedule, progress: Tensor) -> Tensor:
    """Return the same where several trainings run as one, each at its own point."""
    if schedule == "ramp":
        return 2 / (1 + torch.exp(-10 * progress)) - 1
    if schedule == "delayed":
        return _of_several("ramp", (progress - _DELAY).clamp(min=0) * 1.5)
    epoch = (progress * 400 + 1e-4).floor()  # a float32 may lie just below
    fading = torch.where(epoch <= 85, torch.exp(-0.6 * epoch), 0.0)
    later = torch.where(epoch <= 40, _RELEASED, fading)
    return torch.where(epoch <= 10, 1.0, later)


def _ramp(progress: float) -> float:
    return 2 / (1 + math.exp(-10 * progress)) - 1
