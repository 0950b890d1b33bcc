"""Adapt to people whose labels nobody knows: everybody who is labelled trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pandas as pd

from domainemo.core import Fold, Protocol
from domainemo.errors import ConfigurationError
from domainemo.registry import register
from domainemo.words import in_order

__all__ = ["Newcomers"]


@register
class Newcomers(Protocol):
    """Train on all labelled recordings, adapt to others that have no labels.

    Nothing can be scored: it is the use of a method, not its test.

    Parameters
    ----------
    together : bool
        Whether all newcomers are one target. Else each is adapted to alone.
    """

    domain: ClassVar[str] = "subject"
    scored: ClassVar[bool] = False
    takes_target: ClassVar[bool] = True

    def __init__(self, *, together: bool = False) -> None:
        self.together = together

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield a fold per newcomer, as the column ``new`` tells them, or for all."""
        if "new" not in windows:
            raise ConfigurationError(
                "The protocol 'newcomers' adapts to recordings without labels, and "
                "none were given. Name them with --target, or call "
                "domainemo.adapt(labelled, unlabelled)."
            )
        new = windows["new"].to_numpy()
        source, rows = np.flatnonzero(~new), np.flatnonzero(new)
        if self.together:
            yield Fold("newcomers", source, rows, rows)
            return
        subjects = windows["subject"].to_numpy()
        for subject in in_order(subjects[rows]):
            theirs = rows[subjects[rows] == subject]
            yield Fold(f"subject {subject}", source, theirs, theirs)
