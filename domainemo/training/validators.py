"""Validators: scores that choose the epoch and the options without target labels.

None of them is an oracle: a validator is handed :class:`~domainemo.core.Target`, which
has no field a label could be read from. Every score looks at the fusion branch, whose
head makes the prediction, and a model whose output is not finite scores minus infinity.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..core import FUSION, Source, Target, Validator
from ..errors import ConfigurationError
from ..registry import register

__all__ = [
    "InformationMaximisation",
    "LastEpoch",
    "SourceAccuracy",
    "SourceAndInformation",
    "balanced_accuracy",
]


@register(name="last")
class LastEpoch(Validator):
    """The last epoch: no selection at all; the later, the better."""

    sees_target: ClassVar[bool] = False

    def __call__(self, source: Source | None, target: Target) -> float:
        """Return how far training has come, from 0 to 1."""
        return target.progress if _finite(source, target) else -math.inf


@register(name="source")
class SourceAccuracy(Validator):
    """Balanced accuracy on source subjects held out of training.

    It tells how well the model carries over to a new subject, not how well it has
    adapted to this one.
    """

    held_out: ClassVar[bool] = True
    sees_target: ClassVar[bool] = False

    def __call__(self, source: Source | None, target: Target) -> float:
        """Return the balanced accuracy, from 0 to 1."""
        return _source_accuracy(source) if _finite(source, target) else -math.inf


@register(name="information-maximisation")
class InformationMaximisation(Validator):
    """Confident predictions that use every class, scored as by pytorch-adapt.

    The entropy of the mean prediction less the mean entropy of the predictions, in
    nats: 0 when all samples are predicted alike, log(classes) when each is predicted
    with certainty and the classes are equally frequent (Shi and Sha, ICML 2012).

    It assumes balanced target classes: where class shares differ between subjects it
    chooses badly. It scores a confident random predictor above a good one, so it needs
    a safeguard beside it; ``"source-and-information"`` has one.
    """

    def __call__(self, source: Source | None, target: Target) -> float:
        """Return the score, from 0 to log(classes)."""
        return _information(target) if _finite(source, target) else -math.inf


@register(name="source-and-information")
class SourceAndInformation(Validator):
    """Source accuracy, plus half of information maximisation on the target.

    The balanced accuracy on held-out source subjects + 0.5 x information /
    log(classes). The first term catches the collapsed and the random predictors that
    the second would take. The second assumes balanced target classes; where class
    shares may differ between subjects, use ``"source"``.
    """

    held_out: ClassVar[bool] = True

    def __call__(self, source: Source | None, target: Target) -> float:
        """Return the score, from 0 to 1.5."""
        if not _finite(source, target):
            return -math.inf
        classes = target.outputs.logits[FUSION].shape[-1]
        # A single class has no information to share out: 0 whatever it is divided by.
        share = _information(target) / math.log(max(classes, 2))
        return _source_accuracy(source) + 0.5 * share


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


def _source_accuracy(source: Source | None) -> float:
    if source is None:
        raise ConfigurationError(
            "This validator scores source subjects that were held out of training, but "
            "was given none. Hold some out, or select by 'last' or "
            "'information-maximisation'."
        )
    return float(balanced_accuracy(source.outputs.logits[FUSION], source.labels))


def _information(target: Target) -> float:
    # In float64: a float32 difference of huge logits overflows to infinity.
    logits = target.outputs.logits[FUSION].detach().double()
    if len(logits) == 0:
        return 0.0
    probabilities = logits.softmax(1)
    doubt = -(probabilities * logits.log_softmax(1)).sum(1).mean()
    shares = probabilities.mean(0, keepdim=True)
    variety = -(shares * (shares + torch.finfo(shares.dtype).tiny).log()).sum(1)
    return float(variety) - float(doubt)


def _finite(source: Source | None, target: Target) -> bool:
    outputs = [target.outputs] if source is None else [source.outputs, target.outputs]
    return all(bool(torch.isfinite(each.logits[FUSION]).all()) for each in outputs)
