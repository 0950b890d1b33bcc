"""Several adapters as one, with one screen for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from domainemo.core import Adapter, Batch, Descend, Outputs, Screen, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.places import called, contract_error

from .screening import believed

__all__ = ["Composite", "losses_of", "on_source_alone", "without_target"]


class Composite(Adapter):
    """The sum of named adapters; composites nest.

    Losses come back under their path: ``distillation.eye``, ``marginal.fusion``. One
    term at most shapes the prediction, and one at most augments the target: its ways
    are then the composite's. There is one judge for all. It does not vectorise where a
    term does not.

    Parameters
    ----------
    terms : mapping of str to Adapter
    screen : Screen, optional
        Runs once per target batch; all terms see what it believes.

    Raises
    ------
    ConfigurationError
        If several terms shape the prediction, or augment the target, or want a judge
        that moves in another way.

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
        self.needs_trials = any(term.needs_trials for term in terms.values()) or (
            screen is not None and screen.needs_trials
        )
        self.needs_whole_trials = any(t.needs_whole_trials for t in terms.values())
        self.vectorises = all(term.vectorises for term in terms.values())
        asked = [term.judged_from for term in terms.values()]
        asked += [] if screen is None else [screen.judged_from]
        # The earliest: what one term teaches must not have reached another's judge.
        self.judged_from = min((at for at in asked if at is not None), default=None)
        self.judge_momentum = _momentum(terms, screen)
        shaping = [name for name, term in terms.items() if term.shapes_prediction]
        self._predicting = _only(shaping, "predict in their own way")
        augmenting = [name for name, term in terms.items() if term.augments]
        self._augmenting = _only(augmenting, "augment the target in their own way")

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the losses of every term."""
        if self.screen is not None:
            target = replace(target, pseudo=believed(self.screen, target))
        return {
            f"{name}.{key}": loss
            for name, term in self.terms.items()
            for key, loss in losses_of(cast(Adapter, term), source, target).items()
        }

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Have every term, and the screen, make its modules."""
        if self.screen is not None:
            self.screen.prepare(dims, classes)
        for term in self.terms.values():
            cast(Adapter, term).prepare(dims, classes, domains)

    def predict(self, outputs: Outputs) -> Tensor:
        """Return what the one term predicts that shapes the prediction."""
        if self._predicting is None:
            return super().predict(outputs)
        return cast(Adapter, self.terms[self._predicting]).predict(outputs)

    @property
    def begins(self) -> float:
        """Where the first of the terms that need a target begins."""
        terms = (cast(Adapter, term) for term in self.terms.values())
        starts = [term.begins for term in terms if term.needs_target]
        # A screen with a memory of its own learns from the start.
        remembers = self.screen is not None and self.screen.state_dict()
        return 0.0 if remembers else min(starts, default=0.0)

    @property
    def shapes_prediction(self) -> bool:
        """Whether a term does."""
        return self._predicting is not None

    def augment(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Batch:
        """Return what the one term makes of a batch that augments it."""
        if self._augmenting is None:
            return super().augment(signals, masks)
        return cast(Adapter, self.terms[self._augmenting]).augment(signals, masks)

    @property
    def augments(self) -> bool:
        """Whether a term does."""
        return self._augmenting is not None

    def settle(
        self, network: nn.Module, batches: Sequence[Batch], descend: Descend
    ) -> None:
        """Have every term change the network, one after the other."""
        for term in self.terms.values():
            cast(Adapter, term).settle(network, batches, descend)

    @property
    def settles(self) -> bool:
        """Whether a term does."""
        return any(cast(Adapter, term).settles for term in self.terms.values())


def _only(names: Sequence[str], words: str) -> str | None:
    """Return the one name, or None where there is none; refuse several."""
    if len(names) > 1:
        raise ConfigurationError(
            f"The adapters {' and '.join(map(repr, names))} all {words}; expected one "
            f"at most among adapters that are joined. Leave out the others."
        )
    return names[0] if names else None


def _momentum(terms: Mapping[str, Adapter], screen: Screen | None) -> float | None:
    """Return how the one judge of all terms moves; refuse several ways."""
    wanted = {
        f"the adapter {name!r}": term.judge_momentum
        for name, term in terms.items()
        if term.judged_from is not None or term.judge_momentum is not None
    }
    if screen is not None and screen.judged_from is not None:
        wanted["the screen"] = screen.judge_momentum
    if len(set(wanted.values())) > 1:
        ways = [
            f"{who} one that "
            + ("stays as it was" if share is None else f"moves with momentum {share}")
            for who, share in wanted.items()
        ]
        raise ConfigurationError(
            f"Adapters that are joined share one judge of the target, and here wants "
            f"{', '.join(ways)}; expected one way for all. Leave out the others, or "
            f"set the same judge_momentum."
        )
    return next(iter(wanted.values()), None)


def losses_of(adapter: Adapter, source: Source, target: Target) -> Mapping[str, Tensor]:
    """Return an adapter's losses.

    Raises
    ------
    ConfigurationError
        If they are nothing that can be added up under their names.
    """
    losses: object = adapter(source, target)
    expected = "scalar losses by name: a dict of Tensors without a dimension"
    if not isinstance(losses, Mapping):
        raise contract_error(adapter, "forward", called(losses), expected)
    for name, loss in losses.items():
        if not isinstance(name, str):
            raise contract_error(adapter, "forward", f"the name {name!r}", expected)
        if not isinstance(loss, Tensor) or loss.dim():
            found = f"{called(loss)} as {name!r}"
            raise contract_error(adapter, "forward", found, expected)
    return losses


def on_source_alone(adapter: Adapter) -> Adapter:
    """Return an adapter, or what of its terms needs no target.

    Raises
    ------
    ConfigurationError
        If nothing is left of it.
    """
    left = without_target(adapter)
    if left is None:
        raise ConfigurationError(
            f"The adapter {type(adapter).__name__} adapts to a target, and here is "
            f"none; expected one with a term for the source alone, or --adapter none. "
            f"`domainemo adapt --target` adapts to people who are there; `domainemo "
            f"predict --adapt` adapts a model to a recording."
        )
    return left


def without_target(adapter: Adapter) -> Adapter | None:
    """Return what of an adapter needs no target; None where nothing is left."""
    if not adapter.needs_target:
        return adapter
    terms = adapter.terms.items() if isinstance(adapter, Composite) else ()
    left = {name: without_target(cast(Adapter, term)) for name, term in terms}
    kept = {name: term for name, term in left.items() if term is not None}
    return Composite(terms=kept) if kept else None
