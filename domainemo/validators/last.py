"""The last epoch."""

from __future__ import annotations

import math

from ..core import Source, Target, Validator
from ..registry import register
from .shared import is_finite

__all__ = ["LastEpoch"]


@register(name="last")
class LastEpoch(Validator):
    r"""The last epoch: no selection at all; the later, the better.

    .. math:: \frac{\text{epochs done}}{\text{epochs}}

    It assumes that the number of epochs was chosen well, and fails where training
    longer does harm.

    Parameters
    ----------
    held_out : bool
        Whether source domains are held out of training nevertheless. They choose no
        epoch; but finished runs can then be scored by them, see ``domainemo select``.
    """

    sees_target = False

    def __init__(self, *, held_out: bool = False) -> None:
        self.held_out = held_out

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return how far training has come, from 0 to 1."""
        return target.progress if is_finite(held_out, target) else -math.inf
