"""What adversarial methods share: modules per branch, and how hard they are fought."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import (
    Branches,
    Schedule,
    levels,
    schedule_factor,
    weighted_mean,
)
from domainemo.core import FUSION, Adapter, Outputs, Target
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["Adversarial", "Width", "domain_loss", "perceptron"]

Width = Annotated[int, Bounds(least=1)]


class Adversarial(Adapter):
    """A module of its own on each of some branches, against which the network works.

    Both train in one step, by gradient reversal. The module's own loss always counts in
    full: what is weighted is how hard the network works against it.

    Released code ends the network in batch normalisation. Where nothing bounds the
    embeddings, those of the target, which no label holds, may run away from the module
    rather than towards the source: a network with normalisation layers holds them
    (``backbone.normalisation=batch`` in ``concatenation-mlp``).

    Parameters
    ----------
    weight : float
        Strength of the reversed gradient, over all branches.
    branches : str or sequence of str
        Where, each with a module of its own: ``"fusion"``, from which the prediction is
        made, ``"all"``, ``"modalities"``, or branches by name; see `branches.levels`.
    schedule : {"ramp", "delayed", "constant", "released"}
        How the strength develops in training, see `branches.schedule_factor`. Ganin et
        al. (2016) have the ramp, lest features flee from a module that knows nothing.
    width : int
        Units of the module's two hidden layers.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        branches: Branches = FUSION,
        schedule: Schedule = "ramp",
        width: Width = 128,
    ) -> None:
        super().__init__()
        self.weight, self.branches, self.schedule = weight, branches, schedule
        self.width = width
        self.adversaries = nn.ModuleDict()

    @abstractmethod
    def adversary(self, dim: int, classes: int) -> nn.Module:
        """Return a new module for a branch whose embeddings are `dim` wide."""

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Make a module per branch."""
        there = Outputs({}, {branch: torch.empty(0) for branch in dims})
        self.adversaries = nn.ModuleDict(
            {
                branch: self.adversary(dims[branch], classes)
                for branch in levels(there, self.branches)
            }
        )

    def strengths(self, target: Target) -> Mapping[str, float | Tensor]:
        """Return how hard the network works against the module of each branch."""
        factor = self.weight * schedule_factor(self.schedule, target.progress)
        found = levels(target.outputs, self.branches)
        return {branch: factor * share for branch, share in found.items()}

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 0.01, 3, log=True)}


def perceptron(dim: int, width: int, outputs: int) -> nn.Sequential:
    """Return a network of two hidden layers.

    It has no dropout and no batch normalisation: the same loss comes of the same
    embeddings, fold by fold or vectorised over folds, and no sample's depends on which
    domain the others are of.
    """
    return nn.Sequential(
        nn.Linear(dim, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, outputs),
    )


def domain_loss(
    source: Tensor, target: Tensor, source_weights: Tensor, target_weights: Tensor
) -> Tensor:
    r"""Return how badly a discriminator tells the source from the target.

    .. math:: L = -\frac12 \left(\mathrm{mean}_i \log\sigma(d_i^s)
              + \mathrm{mean}_j \log(1 - \sigma(d_j^t))\right)

    The binary cross-entropy in which either domain counts one half: log 2 where they
    cannot be told apart.

    Parameters
    ----------
    source, target : Tensor of shape (..., batch)
        The discriminator's logits :math:`d` of being from the source.
    source_weights, target_weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
        Zero where either domain has no weight: there is nothing to tell apart.
    """
    here = weighted_mean(functional.softplus(-source), source_weights)
    there = weighted_mean(functional.softplus(target), target_weights)
    both = (source_weights.sum(-1) > 0) & (target_weights.sum(-1) > 0)
    return (here + there) / 2 * both
