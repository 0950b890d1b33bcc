"""MS-MDA: a feature extractor and a classifier for every source subject."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import (
    Schedule,
    cross_entropies,
    schedule_factor,
    weighted_mean,
)
from domainemo.adapters.domains import (
    mean_over_present,
    members,
)
from domainemo.adapters.statistics.dan import multi_kernel_discrepancy
from domainemo.core import FUSION, Adapter, Outputs, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

from .distances import Distances, nearness

if TYPE_CHECKING:
    import optuna

__all__ = ["MSMDA", "StackedLinear", "disagreement", "domain_losses"]


@register(name="ms-mda")
class MSMDA(Adapter):
    r"""A branch per source subject, each adapted to the target by itself (MS-MDA).

    Multi-source marginal distribution adaptation for EEG (Chen, Jin, Li, Fan, Li and
    He, Frontiers in Neuroscience 15, 2021). On the fusion's embeddings, which all
    subjects share, stand for each source domain d a feature extractor :math:`F_d`
    (linear, normalised, leaky ReLU) and a linear classifier :math:`C_d`:

    .. math:: L = \frac1N \sum_d \Big( \ell(C_d F_d X_d, Y_d) +
              \gamma\, \mathrm{MMD}^2(F_d X_d, F_d X_T) \Big) +
              \gamma \beta \binom N2^{-1} \sum_{d<d'} |C_d F_d X_T - C_{d'} F_{d'} X_T|

    over the domains that the batch shows, the last sum over all. What is predicted is
    the mean of all classifiers' probabilities. Rare classes count no more here than
    others (``training.class_weight`` is of the trainer's loss).

    What differs: :math:`F_d` normalises each sample (layer norm) where the paper has
    batch norm, as a prediction must not depend on the rest of the batch; the
    discrepancy of marginal distributions has a Gaussian kernel where the released code
    has a linear one, the difference of means, and is the unbiased estimate: a batch
    shows a few samples of a subject, of which any other one is above zero unless all
    features are one point, and to that it trained them; classifiers disagree by their
    probabilities, as the paper says, and not by their softmaxed features, as the
    released code has it. Domains are averaged, not summed nor taken in turns.

    The reported 89.63 % on SEED are of the last subject as the target, its epoch chosen
    by its labels; over all subjects, chosen likewise, the authors later had 82.67 %.

    A batch must show several samples of a domain to compare it with the target: take
    ``training.balance = "domains"`` and a ``training.batch_size`` of several samples
    per domain (the paper: 32 to 256 of each).

    Parameters
    ----------
    weight : float
        Weight of all losses.
    marginal : float
        Weight of the discrepancy from the target, relative to the classification.
    disagreement : float
        Weight of the classifiers' disagreement on the target, relative to `marginal`.
    width : int
        Of the features of a domain.
    weighting : {"mean", "distance"}
        How classifiers are averaged in the prediction: alike, or by how near their
        domains are to the target, see `distances.nearness`.
    temperature, momentum : float
        Of the weights by distance, as in ``source-weighting``.
    schedule : {"ramp", "delayed", "constant", "released"}
        How `marginal` and `disagreement` develop, see `branches.schedule_factor`; the
        classification is constant.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        marginal: Weight = 1.0,
        disagreement: Weight = 0.01,
        width: Annotated[int, Bounds(1)] = 32,
        weighting: Literal["mean", "distance"] = "mean",
        temperature: Annotated[float, Bounds(above=0)] = 0.5,
        momentum: Annotated[float, Bounds(0, below=1)] = 0.95,
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__()
        self.weight, self.marginal, self.disagreement = weight, marginal, disagreement
        self.width, self.weighting = width, weighting
        self.temperature, self.momentum = temperature, momentum
        self.schedule = schedule

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Make every domain's feature extractor and classifier."""
        self.extract = StackedLinear(domains, dims[FUSION], self.width)
        self.classify = StackedLinear(domains, self.width, classes)
        self.distances = Distances(domains, self.momentum)

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the three losses."""
        ours, theirs = source.outputs, target.outputs
        weights = theirs.weight(FUSION)
        domains = len(self.distances.known)
        belonging = members(source.domains, ours.weight(FUSION), domains)
        embeddings = ours.embeddings[FUSION], theirs.embeddings[FUSION]
        if self.weighting == "distance":
            self.distances(*embeddings, belonging, weights)
        first, second = (self._features(each) for each in embeddings)
        logits = self.classify(first)
        learnt, moved = domain_losses(
            first, second, logits, source.labels, belonging, weights
        )
        apart = disagreement(self.classify(second).softmax(-1), weights)
        factor = self.weight * schedule_factor(self.schedule, target.progress)
        return {
            "sources": self.weight * learnt,
            "marginal": factor * self.marginal * moved,
            "disagreement": factor * self.marginal * self.disagreement * apart,
        }

    def predict(self, outputs: Outputs) -> Tensor:
        """Return the logarithm of the classifiers' mean probability."""
        logits = self.classify(self._features(outputs.embeddings[FUSION]))
        counted = torch.ones_like(self.distances.known)
        if self.weighting == "distance":
            found = self.distances.average, self.distances.known
            counted = nearness(*found, temperature=self.temperature)
        shares = (counted / counted.sum()).log()
        together: Tensor = (logits.log_softmax(-1) + shares[:, None, None]).logsumexp(
            -3
        )
        return together

    def _features(self, embeddings: Tensor) -> Tensor:
        """Return features of every domain's own, (..., domains, batch, width)."""
        found = self.extract(embeddings.unsqueeze(-3))
        return functional.leaky_relu(functional.layer_norm(found, (self.width,)))

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weights, and how the prediction is averaged."""
        return {
            "weight": trial.suggest_float("weight", 0.1, 10, log=True),
            "marginal": trial.suggest_float("marginal", 0.01, 10, log=True),
            "weighting": trial.suggest_categorical("weighting", ["mean", "distance"]),
        }


class StackedLinear(nn.Module):
    """Linear layers side by side, one per domain, each drawn as torch draws one.

    Parameters
    ----------
    count, inputs, outputs : int
    """

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(count, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(count, 1, outputs))
        for each in (self.weight, self.bias):
            nn.init.uniform_(each, -bound, bound)

    def forward(self, points: Tensor) -> Tensor:
        """Return (..., count, batch, outputs) of (..., count or 1, batch, inputs)."""
        return points @ self.weight + self.bias


def domain_losses(
    source: Tensor,
    target: Tensor,
    logits: Tensor,
    labels: Tensor,
    belonging: Tensor,
    target_weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return classification and discrepancy, each the mean over domains that are shown.

    Every domain's extractor and classifier see the whole batch; only the domain's own
    samples count.

    Parameters
    ----------
    source, target : Tensor of shape (..., domains, batch, width)
        Features by every domain's extractor.
    logits : Tensor of shape (..., domains, batch, classes)
        Of the source, by every domain's classifier.
    labels : Tensor of int, shape (..., batch)
    belonging : Tensor of shape (..., domains, batch)
        Weights of the source's samples by domain, see `domains.members`.
    target_weights : Tensor of shape (..., batch)

    Returns
    -------
    classification, discrepancy : Tensor of shape (...)
    """
    wrong = weighted_mean(cross_entropies(logits, labels.unsqueeze(-2)), belonging)
    theirs = target_weights.unsqueeze(-2).expand(*belonging.shape[:-1], -1)
    apart = multi_kernel_discrepancy(
        source, target, belonging, theirs, estimate="unbiased"
    )
    return mean_over_present(wrong, belonging), mean_over_present(apart, belonging)


def disagreement(probabilities: Tensor, weights: Tensor) -> Tensor:
    """Return the mean absolute difference between each pair of classifiers.

    Parameters
    ----------
    probabilities : Tensor of shape (..., classifiers, batch, classes)
    weights : Tensor of shape (..., batch)
        Of the samples.

    Returns
    -------
    Tensor of shape (...)
        Zero of a single classifier.
    """
    count = probabilities.shape[-3]
    apart = probabilities.unsqueeze(-3) - probabilities.unsqueeze(-4)
    # Every pair twice, and each classifier with itself, which adds nothing.
    each = apart.abs().mean(-1).sum((-3, -2)) / max(count * (count - 1), 1)
    return weighted_mean(each, weights)
