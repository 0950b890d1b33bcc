"""What several validators compute."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from ..core import FUSION, Source, Target
from ..errors import ConfigurationError
from ..values import Bounds

__all__ = [
    "Samples",
    "balanced_accuracy",
    "diversity",
    "embeddings_of",
    "entropy",
    "expect_held_out",
    "fitted_logistic",
    "information",
    "is_finite",
    "kinds",
    "logits_of",
    "sampled",
    "source_accuracy",
]

Samples = Annotated[int, Bounds(least=2)]
"""How many samples of each side are looked at, where there are more; drawn once with
a fixed seed, so that all epochs and all networks are judged by the same ones."""


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


def expect_held_out(held_out: Source | None) -> Source:
    """Return the held-out source; refuse to do without."""
    if held_out is None:
        raise ConfigurationError(
            "This validator scores source subjects that were held out of training, but "
            "was given none. Hold some out, or select by 'last' or "
            "'information-maximisation'."
        )
    return held_out


def source_accuracy(held_out: Source | None) -> float:
    """Return the balanced accuracy on the held-out source; refuse to do without."""
    known = expect_held_out(held_out)
    return float(balanced_accuracy(known.outputs.logits[FUSION], known.labels))


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of every prediction, in nats; shape (batch,).

    Parameters
    ----------
    logits : Tensor of shape (batch, classes)
    """
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def diversity(logits: Tensor) -> Tensor:
    """Return the entropy of the mean prediction, in nats; a scalar, 0 for no sample.

    Parameters
    ----------
    logits : Tensor of shape (batch, classes)
    """
    if not len(logits):
        return logits.new_zeros(())
    shares = logits.softmax(1).mean(0, keepdim=True)
    tiny = torch.finfo(shares.dtype).tiny
    return -(shares * (shares + tiny).log()).sum(1)[0]


def information(target: Target) -> float:
    """Return the information of the target's predictions, in nats; 0 of none."""
    logits = logits_of(target)
    if len(logits) == 0:
        return 0.0
    return float(diversity(logits)) - float(entropy(logits).mean())


def logits_of(seen: Source | Target) -> Tensor:
    """Return what is predicted, as logits in float64 on the CPU, without gradient."""
    # In float64: a float32 difference of huge logits overflows to infinity.
    return seen.outputs.logits[FUSION].detach().cpu().double()


def embeddings_of(seen: Source | Target) -> Tensor:
    """Return the fusion's embeddings, in float64 on the CPU, without gradient."""
    return seen.outputs.embeddings[FUSION].detach().cpu().double()


def kinds(labels: Tensor | NDArray[np.int64]) -> int:
    """Return how many different numbers there are.

    Parameters
    ----------
    labels : Tensor or ndarray of int, shape (batch,)
    """
    return len(set(labels.tolist()))


def is_finite(*seen: Source | Target | None, embeddings: bool = False) -> bool:
    """Return whether the fusion's logits are finite, on all there is.

    Parameters
    ----------
    *seen : Source, Target or None
    embeddings : bool
        Whether its embeddings must be so as well.
    """
    found = []
    for each in seen:
        if each is not None:
            found.append(each.outputs.logits[FUSION])
            found += [each.outputs.embeddings[FUSION]] if embeddings else []
    return all(bool(torch.isfinite(values).all()) for values in found)


def sampled(count: int, most: int) -> Tensor:
    """Return which samples of `count` to look at: all, or `most` of them.

    Parameters
    ----------
    count, most : int

    Returns
    -------
    Tensor of int, shape (min(count, most),)
        In order; the same ones whenever there are as many.
    """
    if count <= most:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(count, generator=generator)[:most].sort().values


def fitted_logistic(points: Tensor, labels: Tensor) -> Any:
    """Return scikit-learn's logistic regression, with its defaults, fitted to points.

    Parameters
    ----------
    points : Tensor of shape (batch, dim)
    labels : Tensor of int, shape (batch,)
        Of two classes at least.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known: NDArray[np.float64] = points.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(max_iter=1000).fit(known, labels.numpy())
