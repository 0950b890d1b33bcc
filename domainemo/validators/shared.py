"""What several validators compute."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..core import FUSION, Source, Target
from ..errors import ConfigurationError

__all__ = ["balanced_accuracy", "information", "is_finite", "source_accuracy"]


def balanced_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the recall averaged over the classes that occur in the labels.

    Parameters
    ----------
    logits : Tensor of shape (batch, classes)
    labels : Tensor of int, shape (batch,)

    Returns
    -------
    Tensor
        A scalar in float64; 0 for an empty batch.
    """
    members = one_hot(labels.long(), logits.shape[-1]).double()
    hits = (logits.argmax(-1) == labels).double()
    counts = members.sum(0)
    recall = (hits[:, None] * members).sum(0) / counts.clamp(min=1)
    return recall.sum() / (counts > 0).sum().clamp(min=1)


def source_accuracy(held_out: Source | None) -> float:
    """Return the balanced accuracy on the held-out source; refuse to do without."""
    if held_out is None:
        raise ConfigurationError(
            "This validator scores source subjects that were held out of training, but "
            "was given none. Hold some out, or select by 'last' or "
            "'information-maximisation'."
        )
    return float(balanced_accuracy(held_out.outputs.logits[FUSION], held_out.labels))


def information(target: Target) -> float:
    """Return the information of the target's predictions, in nats; 0 of none."""
    # In float64: a float32 difference of huge logits overflows to infinity.
    logits = target.outputs.logits[FUSION].detach().double()
    if len(logits) == 0:
        return 0.0
    probabilities = logits.softmax(1)
    doubt = -(probabilities * logits.log_softmax(1)).sum(1).mean()
    shares = probabilities.mean(0, keepdim=True)
    variety = -(shares * (shares + torch.finfo(shares.dtype).tiny).log()).sum(1)
    return float(variety) - float(doubt)


def is_finite(held_out: Source | None, target: Target) -> bool:
    """Return whether the fusion's logits are finite, on all there is."""
    outputs = [each.outputs for each in (held_out, target) if each is not None]
    return all(bool(torch.isfinite(each.logits[FUSION]).all()) for each in outputs)
