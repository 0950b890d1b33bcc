"""Source weighting: learn from the source subjects that are near the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from torch import Tensor

from domainemo.adapters.alignment import Weight
from domainemo.adapters.branches import (
    Schedule,
    cross_entropies,
    schedule_factor,
    weighted_mean,
)
from domainemo.adapters.domains import classifier, members
from domainemo.core import FUSION, Adapter, Outputs, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

from .distances import Distances, nearness

if TYPE_CHECKING:
    import optuna

__all__ = ["SourceWeighting"]


@register
class SourceWeighting(Adapter):
    r"""A classifier that learns most from source subjects near the target.

    Every source domain's distance from the target is measured on the fusion's
    embeddings, by an unbiased maximum mean discrepancy, and averaged over batches;
    domains count by `distances.nearness`. Source weighting is an old idea (Mansour,
    Mohri and Rostamizadeh, NeurIPS 2008) with many forms; this is a plain one.

    The trainer's own classification counts all source samples alike, and no adapter can
    take that back. So the weighted classification,

    .. math:: L = \frac1B \sum_i w_{d(i)}\, \ell(f(z_i), y_i)

    has a classifier :math:`f` of its own, on the fusion's embeddings, and it is this
    one that predicts: a domain of weight 0 has taught it nothing. The embeddings
    are shaped by both classifiers, and thus by all domains. Rare classes count no more
    here than others (``training.class_weight`` is of the trainer's loss).

    A distance needs two samples of a domain in a batch: take ``training.balance =
    "domains"`` and a ``training.batch_size`` of several samples per domain. Until it is
    known, a domain counts 1.

    Parameters
    ----------
    weight : float
        Weight of the loss.
    keep : float
        Share of the domains that count at all, the nearest ones, rounded up: 1 weights
        them all, and a little more than 0 selects the nearest one.
    temperature : float
        Difference of distances over which a weight falls by a factor of e; distances
        are about 0 where domains are alike, by chance a little below, and 10 where
        they share nothing. Large values count those that are kept alike.
    momentum : float
        Share of the averaged distances that a new batch leaves as it was.
    schedule : {"constant", "ramp", "delayed", "released"}
        How the weight develops in training, see `branches.schedule_factor`.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        keep: Annotated[float, Bounds(above=0, most=1)] = 1.0,
        temperature: Annotated[float, Bounds(above=0)] = 0.5,
        momentum: Annotated[float, Bounds(0, below=1)] = 0.95,
        schedule: Schedule = "constant",
    ) -> None:
        super().__init__()
        self.weight, self.keep, self.temperature = weight, keep, temperature
        self.momentum, self.schedule = momentum, schedule

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Make the classifier, and begin to measure."""
        self.head = classifier(dims[FUSION], classes)
        self.distances = Distances(domains, self.momentum)

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the weighted classification loss."""
        embeddings = source.outputs.embeddings[FUSION]
        weights = source.outputs.weight(FUSION)
        belonging = members(source.domains, weights, len(self.distances.known))
        average, known = self.distances(
            embeddings,
            target.outputs.embeddings[FUSION],
            belonging,
            target.outputs.weight(FUSION),
        )
        counted = nearness(average, known, temperature=self.temperature, keep=self.keep)
        sample = (counted.unsqueeze(-1) * belonging).sum(-2)
        each = cross_entropies(self.head(embeddings), source.labels)
        factor = self.weight * schedule_factor(self.schedule, target.progress)
        return {FUSION: factor * weighted_mean(sample * each, weights)}

    def predict(self, outputs: Outputs) -> Tensor:
        """Return the logits of the adapter's own classifier."""
        logits: Tensor = self.head(outputs.embeddings[FUSION])
        return logits

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight, and which domains count."""
        return {
            "weight": trial.suggest_float("weight", 0.1, 10, log=True),
            "keep": trial.suggest_float("keep", 0.2, 1),
            "temperature": trial.suggest_float("temperature", 0.05, 5, log=True),
        }
