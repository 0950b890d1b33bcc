"""How dense the neighbourhoods of the target's predictions are."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..core import Source, Target, Validator
from ..registry import register
from ..values import Bounds
from .shared import Samples, is_finite, logits_of, sampled

__all__ = ["SoftNeighbourhoodDensity", "neighbourhood_density"]


@register(name="snd")
class SoftNeighbourhoodDensity(Validator):
    r"""Soft neighbourhood density of the target's predictions: SND.

    .. math:: -\frac1n \sum_i \sum_{j \ne i} q_{ij} \log q_{ij}, \qquad
              q_{ij} \propto \exp(\cos(p_i, p_j) / \tau)

    (Saito et al., ICCV 2021; as by pytorch-adapt). It assumes that a network which
    discriminates well has samples of one class close together. One that predicts a
    single class has all of them together and scores best: measured on recordings of
    persons, it ranks networks the wrong way round. For study only.

    Parameters
    ----------
    temperature : float
        The authors' 0.05.
    samples : int
        Of more target samples than this, so many are drawn with a fixed seed.
    """

    def __init__(
        self,
        *,
        temperature: Annotated[float, Bounds(above=0)] = 0.05,
        samples: Samples = 1000,
    ) -> None:
        self.temperature, self.samples = temperature, samples

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, from 0 to the logarithm of the other samples' number."""
        if not is_finite(held_out, target):
            return -math.inf
        logits = logits_of(target)
        chosen = logits[sampled(len(logits), self.samples)]
        return float(neighbourhood_density(chosen.softmax(1), self.temperature))


def neighbourhood_density(probabilities: Tensor, temperature: float) -> Tensor:
    """Return the mean entropy of similarities to the others; 0 of fewer than two.

    Parameters
    ----------
    probabilities : Tensor of shape (batch, classes)
    temperature : float
    """
    count = len(probabilities)
    if count < 2:
        return probabilities.new_zeros(())
    directions = normalize(probabilities)
    similar = directions @ directions.T / temperature
    others = ~torch.eye(count, dtype=torch.bool)
    similar = similar[others].view(count, count - 1)
    return -(similar.softmax(1) * similar.log_softmax(1)).sum(1).mean()
