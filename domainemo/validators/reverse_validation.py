"""Whether what is predicted of the target would teach the source's classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..core import Source, Target, Validator
from ..registry import register
from .shared import (
    Samples,
    balanced_accuracy,
    embeddings_of,
    expect_held_out,
    fitted_logistic,
    is_finite,
    kinds,
    logits_of,
    sampled,
)

__all__ = ["ReverseValidation", "taught_accuracy"]


@register(name="reverse-validation")
class ReverseValidation(Validator):
    r"""Learned from the target's predicted classes, tested on the source: circular.

    .. math:: \frac1C \sum_{k=1}^{C} \frac1{n_k} \sum_{j: y_j = k}
              [g(z_j) = k], \qquad g \text{ fitted to } (z'_i, \hat y_i)

    A classifier g is trained on the target, with what the network predicts for labels;
    the score is its balanced accuracy on held-out source people (Bruzzone and
    Marconcini, PAMI 2010; Zhong, Fan, Yang, Verscheure and Ren, 2010; skada's
    ``CircularValidation``). What is trained again is a logistic regression on the
    network's embeddings, not the network, which would cost a training per score.

    It assumes that wrong classes lead back to wrong ones. Classes that are exchanged in
    the target and exchanged back are not seen, and an embedding in which the source's
    classes lie apart anyway gives a good score to many a bad prediction.

    Parameters
    ----------
    samples : int
        Of more samples of a side than this, so many are drawn with a fixed seed.
    """

    held_out = True

    def __init__(self, *, samples: Samples = 1000) -> None:
        self.samples = samples

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, from 0 to 1."""
        source = expect_held_out(held_out)
        if not is_finite(source, target, embeddings=True):
            return -math.inf
        logits = logits_of(target)
        rows = sampled(len(logits), self.samples)
        tested = sampled(len(source.labels), self.samples)
        return float(
            taught_accuracy(
                embeddings_of(target)[rows],
                logits[rows].argmax(1),
                embeddings_of(source)[tested],
                source.labels.cpu()[tested],
                logits.shape[1],
            )
        )


def taught_accuracy(
    points: Tensor, predicted: Tensor, tested: Tensor, labels: Tensor, classes: int
) -> Tensor:
    """Return the balanced accuracy on other points of a classifier taught by some.

    Parameters
    ----------
    points, tested : Tensor of shape (batch, dim)
    predicted, labels : Tensor of int, shape (batch,)
    classes : int

    Returns
    -------
    Tensor
        A scalar; 0 where either side is empty. Of a single predicted class nothing is
        learned, and all is predicted so.
    """
    if not len(points) or not len(tested):
        return points.new_zeros(())
    if kinds(predicted) < 2:
        said = predicted[:1].expand(len(tested))
    else:
        fitted = fitted_logistic(points, predicted)
        said = torch.from_numpy(fitted.predict(tested.numpy()))
    return balanced_accuracy(one_hot(said, classes).double(), labels)
