"""The risk on held-out source samples, carried over to the target."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..core import Source, Target, Validator
from ..registry import register
from .shared import (
    Samples,
    embeddings_of,
    expect_held_out,
    fitted_logistic,
    is_finite,
    logits_of,
    sampled,
)

__all__ = ["DeepEmbedded", "controlled_risk", "domain_ratios"]

_RAREST = 1e-12
"""The least probability of being of the source that is divided by."""


@register(name="deep-embedded")
class DeepEmbedded(Validator):
    r"""The held-out source's risk, weighted by who looks like the target: DEV.

    .. math:: -\left( \overline{w \ell} + \eta \bar w - \eta \right), \qquad
              \eta = -\frac{\operatorname{Cov}(w \ell, w)}{\operatorname{Var}(w)},
              \quad w = \frac{n_S}{n_T} \frac{p(T \mid f)}{p(S \mid f)}

    with the cross-entropy :math:`\ell` of held-out source samples and weights of a
    logistic regression that tells the embeddings of the training source from the
    target's; :math:`\eta` takes variance away (You, Wang, Long and Jordan, ICML 2019;
    the regression is skada's, in place of the authors' small network). It assumes
    covariate shift in the embedding. A domain classifier that succeeds, as between
    people it does, leaves few weights that count: the score is as noisy as
    ``"importance-weighted"``, and unbounded.

    Parameters
    ----------
    samples : int
        Of more samples of a side than this, so many are drawn with a fixed seed.
    """

    held_out = True
    needs_training = True

    def __init__(self, *, samples: Samples = 1000) -> None:
        self.samples = samples

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the negative risk: the nearer to 0, the better."""
        assert training is not None
        known = expect_held_out(held_out)
        if not is_finite(training, known, target, embeddings=True):
            return -math.inf
        every = [embeddings_of(each) for each in (known, training, target)]
        points, source, other = (e[sampled(len(e), self.samples)] for e in every)
        rows = sampled(len(known.labels), self.samples)
        labels = known.labels.cpu().long()[rows]
        losses = cross_entropy(logits_of(known)[rows], labels, reduction="none")
        return -float(controlled_risk(domain_ratios(points, source, other), losses))


def domain_ratios(points: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return how much likelier each point is in the target than in the source.

    Parameters
    ----------
    points, source, target : Tensor of shape (batch, dim)

    Returns
    -------
    Tensor of shape (len(points),)
        1 where either side is empty.
    """
    if not min(len(points), len(source), len(target)):
        return points.new_ones(len(points))
    labels = torch.cat([torch.ones(len(source)), torch.zeros(len(target))])
    fitted = fitted_logistic(torch.cat([source, target]), labels.long())
    chances = torch.from_numpy(fitted.predict_proba(points.numpy()))
    odds = chances[:, 0] / chances[:, 1].clamp(min=_RAREST)
    return odds * (len(source) / len(target))


def controlled_risk(weights: Tensor, losses: Tensor) -> Tensor:
    """Return the weighted mean loss, with the weights' mean as a control variate.

    Parameters
    ----------
    weights, losses : Tensor of shape (batch,)

    Returns
    -------
    Tensor
        A scalar; 0 of no sample, and without control where all weights are alike.
    """
    if not len(weights):
        return losses.new_zeros(())
    weighted = weights * losses
    centred = weights - weights.mean()
    spread = (centred**2).sum()
    eta = -((weighted - weighted.mean()) * centred).sum() / spread
    eta = torch.where(spread > 0, eta, torch.zeros_like(eta))
    return weighted.mean() + eta * weights.mean() - eta
