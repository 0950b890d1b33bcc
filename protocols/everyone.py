"""Train on everybody: one final model, for whoever comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pandas as pd

from domainemo.core import Fold, Protocol
from domainemo.registry import register

__all__ = ["Everyone"]


@register
class Everyone(Protocol):
    """Train on all recordings and test nobody, as `domainemo train` does."""

    domain: ClassVar[str] = "subject"
    scored: ClassVar[bool] = False

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield the one fold."""
        nobody = np.empty(0, np.int64)
        yield Fold("everyone", np.arange(len(windows)), nobody, nobody)
