"""Domain-specific normalisation: each domain's embeddings by statistics of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor, nn

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import cross_entropy
from domainemo.core import FUSION, Adapter, Outputs, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = ["DomainSpecificNormalisation", "moments"]

_TINY = 1e-5


@register(name="domain-specific-normalisation")
class DomainSpecificNormalisation(Adapter):
    r"""Source and target embeddings normalised apart, then classified alike (DSBN).

    .. math:: \hat z_d = \frac{z_d - \mu_d}{\sqrt{\sigma_d^2 + \epsilon}}, \quad
        L = -\frac1B \sum_i \log \operatorname{softmax}(W \hat z_{s,i} + b)_{y_i}

    where :math:`\mu_d` and :math:`\sigma_d^2` are the batch's in training, and running
    means over batches otherwise: of the source's for the source, of the target's for
    the target. :math:`W \hat z_t + b` is predicted (Chang, You, Seo, Kwak and Han, CVPR
    2019).

    Ours: the paper has a domain's own statistics in every layer of batch normalisation.
    An adapter sees what comes out of a network, and so it is the fusion's embedding
    alone that is normalised, with a linear classifier of its own on top; scale and
    shift, which are the domain's own in the paper, are in :math:`W` and :math:`b`, as
    nothing would teach the target's. All of the source is one domain. In a network with
    batch normalisation, ``adabn`` is the method on every layer, but for these.

    A prediction is not told of whom a sample is: every one is normalised as the
    target's. Validators that score people of the source who were held out so see them
    through another's statistics, and judge this adapter too severely.

    Parameters
    ----------
    weight : float
        Of the classifier's cross-entropy, beside the network's own.
    momentum : float
        How far each batch moves the running statistics; the first one sets them.
    """

    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        momentum: Annotated[float, Bounds(above=0, most=1)] = 0.1,
    ) -> None:
        super().__init__()
        self.weight, self.momentum = weight, momentum

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Make the classifier, and the statistics of source and target, in order."""
        dim = dims[FUSION]
        self.classifier = nn.Linear(dim, classes)
        self.register_buffer("mean", torch.zeros(2, dim))
        self.register_buffer("variance", torch.ones(2, dim))
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the classifier's loss on the source."""
        embedding = source.outputs.embeddings[FUSION]
        there = source.outputs.weight(FUSION)
        mean, variance = self.mean[0], self.variance[0]
        if self.training:
            mean, variance = self._of_batch(0, source.outputs)
            self._of_batch(1, target.outputs)
        logits = self.classifier(_normalised(embedding, mean, variance))
        return {FUSION: self.weight * cross_entropy(logits, source.labels, there)}

    def predict(self, outputs: Outputs) -> Tensor:
        """Return what the classifier makes of embeddings that are the target's."""
        embedding = outputs.embeddings[FUSION]
        logits: Tensor = self.classifier(
            _normalised(embedding, self.mean[1], self.variance[1])
        )
        return logits

    def _of_batch(self, domain: int, outputs: Outputs) -> tuple[Tensor, Tensor]:
        """Return a batch's mean and variance, and move the domain's running ones."""
        weights = outputs.weight(FUSION)
        mean, variance = moments(outputs.embeddings[FUSION], weights)
        count = weights.sum(-1)
        enough = count > 1
        with torch.no_grad():
            first = self.seen[domain] == 0
            moved = torch.where(first, 1.0, self.momentum) * enough
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.mean[domain].lerp_(mean, moved)
            self.variance[domain].lerp_(unbiased, moved)
            self.seen[domain] += enough
        # Copies: the running ones change again before the gradient is taken.
        return (
            torch.where(enough, mean, self.mean[domain]),
            torch.where(enough, variance, self.variance[domain]),
        )

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 0.1, 10, log=True)}


def _normalised(values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return (values - mean) * (variance + _TINY).rsqrt()


def moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean and variance over a batch; zero of an empty one.

    Parameters
    ----------
    values : Tensor of shape (..., batch, dim)
    weights : Tensor of shape (..., batch)

    Returns
    -------
    mean, variance : Tensor of shape (..., dim)
    """
    shares = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
    mean = (values * shares.unsqueeze(-1)).sum(-2)
    apart = (values - mean.unsqueeze(-2)).square()
    return mean, (apart * shares.unsqueeze(-1)).sum(-2)
