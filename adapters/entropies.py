"""How uncertain predictions are, one by one and together, as pure functions."""

from __future__ import annotations

from torch import Tensor

from .branches import weighted_mean

__all__ = ["entropy", "mean_prediction", "spread", "variety"]

_TINY = 1e-12


def entropy(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean entropy of predictions, in nats; 0 of none.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
    """
    each = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    return weighted_mean(each, weights)


def mean_prediction(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the predicted probabilities; zeros of none.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (..., classes)
    """
    return weighted_mean(logits.softmax(-1).mT, weights.unsqueeze(-2))


def spread(shares: Tensor) -> Tensor:
    """Return the entropy of shares of classes, in nats; 0 where all are zero.

    Parameters
    ----------
    shares : Tensor of shape (..., classes)

    Returns
    -------
    Tensor of shape (...)
    """
    return -(shares * shares.clamp(min=_TINY).log()).sum(-1)


def variety(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the entropy of the weighted mean prediction, in nats; 0 of none.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    weights : Tensor of shape (..., batch)

    Returns
    -------
    Tensor of shape (...)
    """
    return spread(mean_prediction(logits, weights))
