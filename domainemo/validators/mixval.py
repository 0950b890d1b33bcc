"""Whether mixed target samples are predicted like the one they are mostly made of."""

from __future__ import annotations

import math
from typing import Annotated

from torch import Tensor

from ..core import FUSION, Source, Target, Validator
from ..registry import register
from ..values import Bounds
from .shared import is_finite, logits_of

__all__ = ["MixVal", "interpolation_consistency"]


@register(name="mixval")
class MixVal(Validator):
    r"""Mixed target samples predicted as their larger part: MixVal.

    .. math:: \hat y(\lambda x_i + (1 - \lambda) x_j) = \hat y(x_i)

    the share of target samples of which that holds, mixed with one of the same
    predicted class, which probes the density of classes, and with one of another, which
    probes the border between them; the mean of both (Hu, Liang, Liew, Xue, Bai and
    Wang, NeurIPS 2023; as by skada). Signals are mixed as the network sees them; a
    window that either lacks is lacking. It assumes that values half way between two
    recordings are a recording. A network that predicts a single class has no border to
    be probed and scores 1: for study, or under ``"guarded"``.

    Parameters
    ----------
    share : float
        What a sample keeps of itself, above a half; the authors' 0.55.
    """

    def __init__(
        self, *, share: Annotated[float, Bounds(above=0.5, below=1)] = 0.55
    ) -> None:
        self.share = self.mixes = share

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score, from 0 to 1."""
        assert target.mixed is not None
        mixed = target.mixed.logits[FUSION].detach().cpu().double()
        if not is_finite(held_out, target) or not bool(mixed.isfinite().all()):
            return -math.inf
        there = target.mixed.weight(FUSION).cpu() > 0
        found = logits_of(target).argmax(1), mixed.argmax(1)
        return interpolation_consistency(*found, there)


def interpolation_consistency(predicted: Tensor, mixed: Tensor, there: Tensor) -> float:
    """Return the share of mixed samples predicted as their larger part.

    Parameters
    ----------
    predicted : Tensor of int, shape (batch,)
        Of the samples themselves; each was mixed with the one as far from the end.
    mixed : Tensor of int, shape (batch,)
        Of the mixed ones.
    there : bool Tensor of shape (batch,)
        Which of these have anything left, where either lacked a sensor.

    Returns
    -------
    float
        The mean of two shares, among partners of the same predicted class and of
        another; of one where the other is empty, and 0 of no sample.
    """
    kept, alike = (mixed == predicted).double(), predicted == predicted.flip(0)
    parts = alike & there, ~alike & there
    shares = [float(kept[part].mean()) for part in parts if bool(part.any())]
    return sum(shares) / max(len(shares), 1)
