"""Several adapters as one, with one screen for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from domainemo.core import Adapter, Screen, Source, Target

__all__ = ["Composite"]


class Composite(Adapter):
    """The sum of named adapters; composites nest.

    Losses come back under their path: ``distillation.eye``, ``marginal.fusion``.

    Parameters
    ----------
    terms : mapping of str to Adapter
    screen : Screen, optional
        Runs once per target batch; all terms see what it believes.

    Examples
    --------
    >>> Composite(terms={"marginal": Marginal(), "pairwise": PairwiseSimilarity()})
    """

    def __init__(
        self, *, terms: Mapping[str, Adapter], screen: Screen | None = None
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        self.screen = screen
        self.needs_target = any(term.needs_target for term in terms.values())
        self.needs_teacher = any(term.needs_teacher for term in terms.values()) or (
            screen is not None and screen.needs_teacher
        )
        asked = [term.judged_from for term in terms.values()]
        asked += [] if screen is None else [screen.judged_from]
        # The earliest: what one term teaches must not have reached another's judge.
        self.judged_from = min((at for at in asked if at is not None), default=None)

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the losses of every term."""
        if self.screen is not None:
            target = replace(target, pseudo=self.screen(target))
        return {
            f"{name}.{key}": loss
            for name, term in self.terms.items()
            for key, loss in term(source, target).items()
        }
