"""The last epoch."""

from __future__ import annotations

import math
from typing import ClassVar

from ..core import Source, Target, Validator
from ..registry import register
from .shared import is_finite

__all__ = ["LastEpoch"]


@register(name="last")
class LastEpoch(Validator):
    """The last epoch: no selection at all; the later, the better."""

    sees_target: ClassVar[bool] = False

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return how far training has come, from 0 to 1."""
        return target.progress if is_finite(held_out, target) else -math.inf
