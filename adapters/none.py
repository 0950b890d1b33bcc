"""No adaptation: the baseline that every adapter is measured against."""

from __future__ import annotations

from torch import Tensor

from domainemo.core import Adapter, Source, Target
from domainemo.registry import register

__all__ = ["SourceOnly"]


@register(name="none")
class SourceOnly(Adapter):
    """Source only: the network never sees the target's signals in training."""

    needs_target = False

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return no losses."""
        return {}
