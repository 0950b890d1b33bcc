"""SHOT: information maximisation and pseudo-labels, through the backbone alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from domainemo.adapters.branches import cross_entropy, unit
from domainemo.adapters.entropies import entropy, variety
from domainemo.core import FUSION, Batch, Descend
from domainemo.registry import register
from domainemo.values import Bounds

from .source_free import SourceFree, go_by_batches, trainable

__all__ = ["Shot", "information_loss", "labels_by_centroids"]


@register
class Shot(SourceFree):
    r"""The target's embeddings are moved to where the trained heads are certain (SHOT).

    After training the heads stay as they are, and all other weights take steps that
    lower

    .. math:: L = \frac1B \sum_i H(p_i) - H\Big(\frac1B \sum_i p_i\Big)
        - \frac{\beta}{B} \sum_i \log p_{i \hat y_i}

    on the fusion's predictions :math:`p_i`, with the entropy :math:`H`: each certain,
    all together of every class, and as the pseudo-labels say. These are the classes of
    the nearest centroids in the space of embeddings, told anew before each pass over
    the target (Liang, Hu and Feng, ICML 2020). It needs no source, and so adapts a
    finished model as well: ``domainemo predict --adapt shot``. Its second term presumes
    that the target's classes are about equally frequent.

    Ours: Adam at one rate in place of stochastic gradient descent, without dropout; the
    same batches in every pass; what counts as classifier is the whole head, hidden
    layer included, without weight normalisation; source training smooths labels only if
    ``training.label_smoothing`` says so.

    Parameters
    ----------
    pseudo_weight : float
        :math:`\beta`; 0 leaves information maximisation alone (SHOT-IM).
    learning_rate : float
        Of Adam.
    epochs : int
        Passes over the target.
    """

    def __init__(
        self,
        *,
        pseudo_weight: Annotated[float, Bounds(least=0)] = 0.3,
        learning_rate: Annotated[float, Bounds(above=0)] = 1e-3,
        epochs: Annotated[int, Bounds(least=1)] = 5,
    ) -> None:
        super().__init__()
        self.pseudo_weight = pseudo_weight
        self.learning_rate, self.epochs = learning_rate, epochs

    def settle(
        self, network: nn.Module, batches: Sequence[Batch], descend: Descend
    ) -> None:
        """Take the steps."""
        weights = trainable(network, heads=False)
        descend(weights, self._steps(network, batches), self.learning_rate)
        network.eval()

    def _steps(
        self, network: nn.Module, batches: Sequence[Batch]
    ) -> Iterator[Callable[[], Tensor]]:
        """Yield the steps; between two passes the network says what it believes."""
        for _ in range(self.epochs):
            network.eval()
            labels = _believed(network, batches)
            go_by_batches(network, batches)
            for batch, believed in zip(batches, labels, strict=True):
                yield partial(self._loss, network, batch, believed)

    def _loss(self, network: nn.Module, batch: Batch, labels: Tensor) -> Tensor:
        outputs = network(*batch)
        logits, there = outputs.logits[FUSION], outputs.weight(FUSION)
        taught = cross_entropy(logits, labels, there)
        return information_loss(logits, there) + self.pseudo_weight * taught


def _believed(network: nn.Module, batches: Sequence[Batch]) -> Sequence[Tensor]:
    """Return the pseudo-labels of all of the target, batch by batch."""
    with torch.no_grad():
        found = [network(*batch) for batch in batches]
    labels = labels_by_centroids(
        torch.cat([outputs.embeddings[FUSION] for outputs in found]),
        torch.cat([outputs.logits[FUSION] for outputs in found]),
        torch.cat([outputs.weight(FUSION) for outputs in found]),
    )
    return torch.split(labels, [len(outputs.logits[FUSION]) for outputs in found])


def information_loss(logits: Tensor, weights: Tensor) -> Tensor:
    r"""Return the mean entropy of predictions less that of the mean prediction.

    .. math:: \sum_i w_i H(p_i) - H\Big(\sum_i w_i p_i\Big), \quad \sum_i w_i = 1

    It is lowest, at minus the logarithm of the number of classes, where each prediction
    is certain and the classes are equally frequent.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
        Zero where all weights are zero.
    """
    return entropy(logits, weights) - variety(logits, weights)


def labels_by_centroids(embeddings: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    r"""Return the class of the nearest centroid, by the angle between embeddings.

    .. math:: c_k = \frac{\sum_i \delta_{ik} g_i}{\sum_i \delta_{ik}}, \quad
        \hat y_i = \arg\max_k \cos(g_i, c_k)

    twice: with the predictions as :math:`\delta`, and then with the labels that were
    found. :math:`g_i` is the embedding with a 1 appended, at unit length. Classes that
    nothing is predicted as have no centroid.

    Parameters
    ----------
    embeddings : Tensor of shape (..., samples, dim)
    logits : Tensor of shape (..., samples, classes)
    weights : Tensor of shape (..., samples)
        Zero for those that have no part in the centroids.

    Returns
    -------
    Tensor of int, shape (..., samples)
    """
    classes = logits.shape[-1]
    points = unit(torch.cat([embeddings, torch.ones_like(embeddings[..., :1])], -1))
    assigned, labels = logits.softmax(-1), logits.argmax(-1)
    for _ in range(2):
        held = functional.one_hot(labels, classes) * weights.unsqueeze(-1)
        shares = assigned * weights.unsqueeze(-1)
        # The angle does not depend on the length: no need to divide by the mass.
        centroids = unit(shares.transpose(-1, -2) @ points)
        likeness = points @ centroids.transpose(-1, -2)
        empty = held.sum(-2, keepdim=True) == 0
        labels = likeness.masked_fill(empty, -torch.inf).argmax(-1)
        assigned = functional.one_hot(labels, classes).to(points.dtype)
    return labels
