"""Which screen an adapter learns by: the composite's, or else its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from domainemo.core import Adapter, Pseudo, Screen, Target
from domainemo.places import called, contract_error
from domainemo.registry import find
from domainemo.screens.confidence import Screening

from .alignment import Weight
from .branches import (
    Schedule,
    beginning,
    cross_entropies,
    soft_cross_entropies,
    weighted_mean,
)

if TYPE_CHECKING:
    import optuna

__all__ = ["Screened", "believed", "learned", "pseudo_of", "screen_of"]


class Screened(Adapter):
    """An adapter that learns what a screen believes of the target.

    Parameters
    ----------
    weight : float
        Weight of the loss.
    schedule : {"ramp", "delayed", "constant", "released"}
        How the weight develops in training, see `branches.schedule_factor`.
    screen : Screen, str or None
        Used where no composite has screened the batch, or the name of one;
        ``confidence`` by default.
    """

    def __init__(
        self, weight: Weight, schedule: Schedule, screen: Screen | str | None
    ) -> None:
        super().__init__()
        self.weight, self.schedule = weight, schedule
        self.screen = screen_of(screen)
        self.needs_teacher = self.screen.needs_teacher
        self.needs_trials = self.screen.needs_trials
        self.judged_from = self.screen.judged_from
        self.judge_momentum = self.screen.judge_momentum

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Have the screen make its buffers."""
        self.screen.prepare(dims, classes)

    @property
    def begins(self) -> float:
        """Where the schedule lets go of zero."""
        return beginning(self.schedule, self)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 0.01, 10, log=True)}


def screen_of(given: Screen | str | None) -> Screen:
    """Return a screen that was made, a new one by its name, or the usual one."""
    if isinstance(given, str):
        made: Screen = find("screen", given)()
        return made
    return Screening() if given is None else given


def pseudo_of(target: Target, screen: Screen) -> Pseudo:
    """Return what the surrounding composite believes, or else what `screen` does."""
    return target.pseudo if target.pseudo is not None else believed(screen, target)


def learned(logits: Tensor, pseudo: Pseudo, weights: Tensor) -> Tensor:
    """Return the mean cross-entropy with what is believed; zero without a weight.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    pseudo : Pseudo
        Its soft labels count where it has some.
    weights : Tensor of shape (..., batch)
        In place of its own.
    """
    if pseudo.shares is None:
        return weighted_mean(cross_entropies(logits, pseudo.labels), weights)
    return weighted_mean(soft_cross_entropies(logits, pseudo.shares), weights)


def believed(screen: Screen, target: Target) -> Pseudo:
    """Return what a screen believes of a batch.

    Raises
    ------
    ConfigurationError
        If that is no label for each sample, and a weight for each in every branch, or
        soft labels are there that do not fit.
    """
    found = screen(target)
    branches = target.outputs.logits
    logits = next(iter(branches.values()))
    shape = logits.shape[:-1]
    if not isinstance(found, Pseudo) or not isinstance(found.weights, Mapping):
        expected = "a domainemo.Pseudo, its weights by branch"
        raise contract_error(screen, "forward", called(found), expected)
    labels: object = found.labels
    whole = isinstance(labels, Tensor) and not labels.is_floating_point()
    if not whole or found.labels.shape != shape:
        expected = f"whole numbers of shape {tuple(shape)}, a class for each sample"
        shown = f"{called(labels)} as labels"
        raise contract_error(screen, "forward", shown, expected)
    for name in branches:
        each: object = found.weights.get(name)
        if not isinstance(each, Tensor) or each.shape != shape:
            expected = f"weights of shape {tuple(shape)} for {', '.join(branches)}"
            shown = f"{called(each)} as weights of {name!r}"
            raise contract_error(screen, "forward", shown, expected)
    shares: object = found.shares
    fits = isinstance(shares, Tensor) and shares.shape == logits.shape
    if shares is not None and not fits:
        expected = f"soft labels of shape {tuple(logits.shape)}, or none"
        shown = f"{called(shares)} as soft labels"
        raise contract_error(screen, "forward", shown, expected)
    return found
