"""Whether a network predicts as all that it is compared with do together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..core import Source, Target, Validator
from ..registry import register
from .shared import Samples, is_finite, logits_of, sampled

__all__ = ["EnsembleAgreement"]


@register(name="ensemble-agreement")
class EnsembleAgreement(Validator):
    r"""Agreement with the ensemble of all that are compared: EnsV.

    .. math:: \frac1n \sum_i [\hat y^m_i = \arg\max_k {\textstyle\sum_{m'}} p^{m'}_{ik}]

    of the target's samples, over the epochs, the candidates or the methods m' that are
    chosen from (Hu, Luo, Liang and Foo, NeurIPS 2024). It never takes the worst of
    many, by its authors' account, as it follows the crowd. It assumes that the crowd is
    right: where most of what is compared has collapsed, it takes a collapsed one. Of a
    single network there is nothing to say, and the score is 1: a study that is chosen
    by it searches blindly (``--sampler random``).

    Parameters
    ----------
    samples : int
        Of more target samples than this, so many are drawn with a fixed seed.
    """

    def __init__(self, *, samples: Samples = 500) -> None:
        self.samples = samples

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return 1: a network agrees with itself."""
        return 1.0 if is_finite(held_out, target) else -math.inf

    def evidence(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> list[float]:
        """Return the number of classes, and the probabilities sample by sample."""
        if not is_finite(held_out, target):
            return [-math.inf]
        logits = logits_of(target)
        chosen = logits[sampled(len(logits), self.samples)]
        found: list[float] = chosen.softmax(1).flatten().tolist()
        return [float(logits.shape[1]), *found]

    def compare(self, found: Sequence[Sequence[float]]) -> list[float]:
        """Return each one's share of samples on which it agrees with all together."""
        sound = [place for place, each in enumerate(found) if math.isfinite(each[0])]
        scores = [-math.inf] * len(found)
        if not sound:
            return scores
        classes = int(found[sound[0]][0])
        votes = np.array([found[place][1:] for place in sound])
        votes = votes.reshape(len(sound), -1, classes)
        ensemble = votes.mean(0).argmax(-1)
        for place, own in zip(sound, votes.argmax(-1), strict=True):
            scores[place] = float((own == ensemble).mean()) if len(ensemble) else 0.0
        return scores
