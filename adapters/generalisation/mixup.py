"""Mixup: between two source subjects, the prediction should be between theirs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import (
    Schedule,
    cross_entropies,
    schedule_factor,
    weighted_mean,
)
from domainemo.adapters.domains import classifier
from domainemo.core import FUSION, Adapter, Outputs, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["Mixup", "mixed_cross_entropy", "partners", "proportions"]


@register
class Mixup(Adapter):
    r"""Mixtures of two subjects' embeddings, with labels likewise, without a target.

    Mixup (Zhang, Cisse, Dauphin and Lopez-Paz, ICLR 2018) of the fusion's embeddings,
    that is manifold mixup (Verma et al., ICML 2019) at the last layer; each sample with
    one of another source domain, as the benchmark DomainBed mixes them (Gulrajani and
    Lopez-Paz, ICLR 2021). With :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`,

    .. math:: L = \frac1B \sum_i
              \lambda_i\, \ell(f(\tilde z_i), y_i) +
              (1 - \lambda_i)\, \ell(f(\tilde z_i), y_{j(i)}), \qquad
              \tilde z_i = \lambda_i z_i + (1 - \lambda_i) z_{j(i)}

    An adapter sees what a network has made of its inputs: these cannot be mixed, nor
    can the network's own classifier be asked about a mixture. So :math:`f` is a
    classifier of the adapter's own, and it is this one that predicts. The network's
    classifiers train beside it, on samples as they are. Rare classes count no more here
    than others (``training.class_weight`` is of the trainer's loss).

    Nothing is drawn: batches come in random order, and so the partner is the next
    sample of another domain (of the same one, where there is no other), and the
    :math:`\lambda` of a batch are evenly spaced quantiles, see `proportions`.

    Parameters
    ----------
    weight : float
        Weight of the loss.
    alpha : float
        Of the beta distribution: small ones leave most samples nearly as they are, 1
        mixes evenly.
    schedule : {"constant", "ramp", "delayed", "released"}
        How the weight develops in training, see `branches.schedule_factor`.
    """

    needs_target = False

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        alpha: Annotated[float, Bounds(above=0)] = 0.2,
        schedule: Schedule = "constant",
    ) -> None:
        super().__init__()
        self.weight, self.alpha, self.schedule = weight, alpha, schedule

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Make the classifier."""
        self.head = classifier(dims[FUSION], classes)

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the loss of mixtures."""
        embeddings = source.outputs.embeddings[FUSION]
        weights = source.outputs.weight(FUSION)
        partner = partners(source.domains, weights)
        share = proportions(embeddings.shape[-2], self.alpha).to(embeddings)
        others = torch.take_along_dim(embeddings, partner.unsqueeze(-1), dim=-2)
        kept = share.unsqueeze(-1)
        logits = self.head(kept * embeddings + (1 - kept) * others)
        loss = mixed_cross_entropy(logits, source.labels, partner, share, weights)
        factor = self.weight * schedule_factor(self.schedule, target.progress)
        return {FUSION: factor * loss}

    def predict(self, outputs: Outputs) -> Tensor:
        """Return the logits of the adapter's own classifier."""
        logits: Tensor = self.head(outputs.embeddings[FUSION])
        return logits

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight and the distribution of proportions."""
        return {
            "weight": trial.suggest_float("weight", 0.1, 10, log=True),
            "alpha": trial.suggest_float("alpha", 0.1, 2, log=True),
        }


def partners(domains: Tensor, weights: Tensor) -> Tensor:
    """Return which sample each one is mixed with.

    The next one of another domain, the first following the last; where there is none,
    the next one at all; where there is none either, itself.

    Parameters
    ----------
    domains : Tensor of int, shape (..., batch)
    weights : Tensor of shape (..., batch)
        A sample of weight 0 is nobody's partner, unless all are.

    Returns
    -------
    Tensor of int, shape (..., batch)
    """
    size = domains.shape[-1]
    places = torch.arange(size, device=domains.device)
    # From 1 for the next one to `size` for the sample itself.
    steps = (places - places.unsqueeze(-1) - 1) % size + 1
    same = domains.unsqueeze(-1) == domains.unsqueeze(-2)
    lost = (weights == 0).unsqueeze(-2)
    return (steps + size * same + 2 * size * lost).argmin(-1)


def proportions(size: int, alpha: float) -> Tensor:
    r"""Return evenly spaced quantiles of the beta distribution of two equal parameters.

    .. math:: F^{-1}\Big(\frac{i + 1/2}{B}\Big), \quad F \text{ of }
              \mathrm{Beta}(\alpha, \alpha)

    Parameters
    ----------
    size : int
        The B of the equation.
    alpha : float

    Returns
    -------
    Tensor of shape (size,), in float64
    """
    return torch.from_numpy(_proportions(size, alpha))


@cache
def _proportions(size: int, alpha: float) -> NDArray[np.float64]:
    return np.asarray(betaincinv(alpha, alpha, (np.arange(size) + 0.5) / size))


def mixed_cross_entropy(
    logits: Tensor, labels: Tensor, partner: Tensor, share: Tensor, weights: Tensor
) -> Tensor:
    """Return the mean cross-entropy of mixtures; zero where nothing has weight.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
        Of the mixtures.
    labels, partner : Tensor of int, shape (..., batch)
    share : Tensor of shape (..., batch)
        How much of a mixture is of the sample itself; the rest is of its partner.
    weights : Tensor of shape (..., batch)
        Of the samples.

    Returns
    -------
    Tensor of shape (...)
    """
    others = torch.take_along_dim(labels, partner, dim=-1)
    own, other = (cross_entropies(logits, each) for each in (labels, others))
    return weighted_mean(share * own + (1 - share) * other, weights)
