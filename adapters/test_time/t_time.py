"""T-TIME: certain predictions of balanced classes, on a stream of EEG trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from domainemo.adapters.entropies import entropy, mean_prediction, spread
from domainemo.adapters.kernels import normalised
from domainemo.core import FUSION, Batch, Descend
from domainemo.registry import register
from domainemo.values import Bounds

from .source_free import SourceFree, go_by_batches, trainable

__all__ = ["TTime", "adaptive_information_loss", "confident_counts"]

_BEFORE = 4.0  # confident predictions of every class before the first, as released


@register(name="t-time")
class TTime(SourceFree):
    r"""Certain predictions, with the share of each class as told so far (T-TIME).

    After training, all weights take steps that lower

    .. math:: L = \frac1B \sum_i H(p_i) + \sum_k q_k \log q_k, \quad
        q_k \propto \frac{\frac1B \sum_i p_{ik}}{4 + z_k}

    on the fusion's predictions at a temperature, :math:`p_i`, with the entropy
    :math:`H` and the number :math:`z_k` of confident predictions of class :math:`k` in
    earlier batches: a class may be as frequent as the target has shown it to be (Li,
    Wang, Luo, Du and Wu, IEEE Transactions on Biomedical Engineering 71, 2024). It
    needs no source, and so adapts a finished model as well: ``domainemo predict --adapt
    t-time``.

    Ours: the paper predicts trials as they come in, from the past alone, and steps
    after each on the last eight; here all are given, so that batches follow one another
    in random order, and the prediction is that of the network in the end. Not here:
    incremental Euclidean alignment, for which the normalisation
    ``euclidean-alignment`` stands, and the ensemble of several networks, weighted by a
    spectral meta-learner. Dropout is off. The released code has the adaptive term for
    two classes, this for any number.

    Parameters
    ----------
    temperature : float
        Logits are divided by it.
    confidence : float
        The probability above which a prediction counts for :math:`z_k`.
    learning_rate : float
        Of Adam.
    epochs : int
        Passes over the target; each counts anew.
    """

    def __init__(
        self,
        *,
        temperature: Annotated[float, Bounds(above=0)] = 2.0,
        confidence: Annotated[float, Bounds(least=0, most=1)] = 0.7,
        learning_rate: Annotated[float, Bounds(above=0)] = 1e-3,
        epochs: Annotated[int, Bounds(least=1)] = 1,
    ) -> None:
        super().__init__()
        self.temperature, self.confidence = temperature, confidence
        self.learning_rate, self.epochs = learning_rate, epochs

    def settle(
        self, network: nn.Module, batches: Sequence[Batch], descend: Descend
    ) -> None:
        """Take the steps."""
        go_by_batches(network, batches)
        weights = trainable(network, heads=True)
        descend(weights, self._steps(network, batches), self.learning_rate)
        network.eval()

    def _steps(
        self, network: nn.Module, batches: Sequence[Batch]
    ) -> Iterator[Callable[[], Tensor]]:
        """Yield the steps, each with the counts of those before."""
        for _ in range(self.epochs):
            counts: list[Tensor] = []
            for batch in batches:
                yield partial(self._loss, network, batch, counts)

    def _loss(self, network: nn.Module, batch: Batch, counts: list[Tensor]) -> Tensor:
        """Return a step's loss, and add what it counts."""
        outputs = network(*batch)
        logits = outputs.logits[FUSION] / self.temperature
        there = outputs.weight(FUSION)
        earlier = torch.stack([torch.zeros_like(logits[0]), *counts]).sum(0)
        counts.append(confident_counts(logits.detach(), there, self.confidence))
        return adaptive_information_loss(logits, earlier, there)


def adaptive_information_loss(
    logits: Tensor, counts: Tensor, weights: Tensor
) -> Tensor:
    r"""Return the mean entropy, less that of the mean prediction relative to counts.

    .. math:: \sum_i w_i H(p_i) + \sum_k q_k \log q_k, \quad
        q_k \propto \frac{\sum_i w_i p_{ik}}{4 + z_k}, \quad \sum_i w_i = \sum_k q_k = 1

    With equal counts this is `shot.information_loss`.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    counts : Tensor of shape (..., classes)
    weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
        Zero where all weights are zero.
    """
    relative = normalised(mean_prediction(logits, weights) / (_BEFORE + counts))
    return entropy(logits, weights) - spread(relative)


def confident_counts(logits: Tensor, weights: Tensor, confidence: float) -> Tensor:
    """Return how many predictions of each class are confident.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    weights : Tensor of shape (..., batch)
    confidence : float
        The probability that a confident prediction exceeds.

    Returns
    -------
    Tensor of shape (..., classes)
    """
    most, labels = logits.softmax(-1).max(-1)
    counted = weights * (most > confidence)
    members = functional.one_hot(labels, logits.shape[-1]) * counted.unsqueeze(-1)
    return members.sum(-2)
