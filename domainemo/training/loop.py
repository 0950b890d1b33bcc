"""The one training loop: steps, epochs, the learning rate, and where it left off."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import ConfigurationError
from ..places import where
from .checkpoint import Checkpoint
from .divergence import Divergence
from .freed import freed_memory_kept
from .optimiser import Adam, AdamW
from .seeds import derive_seed, seed_torch
from .settings import Training

__all__ = ["Loop", "Report", "Step", "Task", "descend", "differentiated"]

Report = Callable[[Mapping[str, float]], None]
"""Called after every epoch with its row of the history."""

Step = Callable[[float], Mapping[str, Tensor]]
"""Leaves the gradients of a step in the weights; returns every loss term.

It is given the progress of training, from 0 to 1, and weights without gradients.
"""

_SECONDS_BETWEEN_CHECKPOINTS = 30.0


class Task(ABC):
    """What the loop trains: the loss of every step, and what follows an epoch.

    Parameters
    ----------
    network : Module
        What is kept.
    beside : Module
        What is trained with it; both are on one device.
    training : Training

    Attributes
    ----------
    name : str
        What an error calls it.
    divergence : Divergence
        Looks at losses and weights after every epoch.
    multiplies_first : bool
        Whether the cosine's angle is (pi x epochs so far) / all epochs, and not
        pi x (epochs so far / all epochs): the last bits of what is trained depend on
        it, and must stay what they were.
    """

    name: ClassVar[str]
    multiplies_first: ClassVar[bool] = False

    def __init__(
        self, network: nn.Module, beside: nn.Module, training: Training
    ) -> None:
        self.training = training
        self.parts = nn.ModuleList([network, beside])
        self.divergence = Divergence(self.name, network, beside, training)

    @abstractmethod
    def steps(self, epoch: int) -> Sequence[Step]:
        """Return the steps of an epoch, counted from 0.

        By now torch draws from the epoch's own seed, ``torch.initial_seed()``.
        """

    def after_epoch(self, epoch: int) -> Mapping[str, float]:
        """Look at what an epoch, counted from 1, has left; return more of its row."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside the weights and the history."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027  (may be nothing)
        """Take up what :meth:`state` returned."""


def descend(
    weights: Iterable[nn.Parameter],
    steps: Iterable[Callable[[], Tensor]],
    learning_rate: float,
) -> None:
    """Take gradient steps with Adam; what is not among the weights stays as it is.

    Parameters
    ----------
    weights : iterable of Parameter
    steps : iterable of callable
        Each returns the loss of a step.
    learning_rate : float

    Raises
    ------
    ConfigurationError
        If there are no weights.
    """
    known = list(weights)
    if not known:
        raise ConfigurationError(
            "There are no weights to take gradient steps of; expected some of the "
            "network's parameters."
        )
    optimiser = torch.optim.Adam(known, learning_rate)
    for step in steps:
        gradients = torch.autograd.grad(step(), known, allow_unused=True)
        for weight, gradient in zip(known, gradients, strict=True):
            weight.grad = gradient
        optimiser.step()
    for weight in known:
        weight.grad = None


def differentiated(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave the gradients of the losses' sum in the weights; return the losses."""
    torch.stack([*losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
    return losses


class Loop:
    """Trains a task's modules in place; all that changes can be saved and resumed.

    Every epoch draws its random numbers from a seed of its own, so that training
    resumed from a checkpoint ends with the same bits.

    Parameters
    ----------
    task : Task
    seed : int
    checkpoint : Checkpoint, optional
        To resume from where it was written, and to write to now and then.
    report : callable, optional
        Called after every epoch; on resuming first with the epochs there were.

    Attributes
    ----------
    history : list of dict
        Per epoch that is over, counted from 1, the mean of every loss term, and what
        the task adds.
    """

    def __init__(
        self,
        task: Task,
        *,
        seed: int,
        checkpoint: Checkpoint | None = None,
        report: Report | None = None,
    ) -> None:
        self.task, self.parts, self.training = task, task.parts, task.training
        kind = AdamW if self.training.optimiser == "adamw" else Adam
        self.optimiser = kind(
            [p for p in self.parts.parameters() if p.requires_grad],
            self.training.weight_decay,
        )
        self.history: list[dict[str, float]] = []
        self._kept = set(self.parts.state_dict())
        self._seed, self._checkpoint = seed, checkpoint
        self._report = report or (lambda row: None)
        self._saved = time.monotonic()

    @property
    def epoch(self) -> int:
        """The epoch that is next, counted from 0."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        """Whether no epoch is left."""
        return self.epoch >= self.training.epochs

    @property
    def seed(self) -> int:
        """What random numbers of the next epoch are drawn from."""
        return derive_seed(self._seed, "epoch", self.epoch)

    def run(self) -> None:
        """Take all epochs that are left; the weights of the last one stay."""
        self.load()
        with freed_memory_kept():
            while not self.finished:
                seed_torch(self.seed)
                self.finish_epoch(self.train_epoch())

    def train_epoch(self) -> list[dict[str, Tensor]]:
        """Take an epoch's steps; return the losses of each."""
        self.parts.train()
        steps = self.task.steps(self.epoch)
        return [
            self.take(step, self.epoch + number / len(steps))
            for number, step in enumerate(steps)
        ]

    def take(self, step: Step, passed: float) -> dict[str, Tensor]:
        """Take a step when so many epochs are over; return its losses."""
        self.optimiser.forget_gradients()
        losses = step(passed / self.training.epochs)
        if self.training.clip:
            nn.utils.clip_grad_norm_(self.optimiser.weights, self.training.clip)
        self.descend(passed)
        terms = {name: loss.detach() for name, loss in losses.items()}
        return {**terms, "total": torch.stack([*terms.values()]).sum()}

    def finish_epoch(self, taken: Sequence[Mapping[str, Tensor]]) -> None:
        """Look at what an epoch has left, tell it, and save it now and then.

        Parameters
        ----------
        taken : sequence of mapping of str to Tensor
            The losses of each step, and their ``"total"``.

        Raises
        ------
        RunError
            If a loss or a weight is not finite.
        ConfigurationError
            If a part has made weights or buffers in a step.
        """
        self._check_no_more()
        losses = self.task.divergence.means(self.epoch + 1, taken)
        more = self.task.after_epoch(self.epoch + 1)
        self.history.append({"epoch": self.epoch + 1, **losses, **more})
        self._report(self.history[-1])
        waited = time.monotonic() - self._saved > _SECONDS_BETWEEN_CHECKPOINTS
        if self._checkpoint and waited:
            self._save(self._checkpoint)
            self._saved = time.monotonic()

    def _check_no_more(self) -> None:
        """Refuse what was made in a step: the optimiser has never heard of it."""
        more = sorted(self.parts.state_dict().keys() - self._kept)
        if more:
            place, _, name = more[0].partition(".")
            part = self.parts[int(place)]
            made = "__init__" if place == "0" else "prepare"
            raise ConfigurationError(
                f"{type(part).__name__} has made {name} in a step of training, too "
                f"late to be trained and to be read again; expected all weights and "
                f"buffers to be there before. Make it in {made}: {where(part)}."
            )

    def descend(self, passed: float) -> None:
        """Take the optimiser's step along the gradients that there are."""
        self.optimiser.step(self._learning_rate(passed))

    def _learning_rate(self, passed: float) -> float:
        """Return the learning rate after so many epochs, of which one may be begun."""
        rate = self.training.learning_rate
        if self.training.decay == "cosine":
            if self.task.multiplies_first:
                angle = math.pi * passed / self.training.epochs
            else:
                angle = math.pi * (passed / self.training.epochs)
            rate *= 0.5 * (1 + math.cos(angle))
        elif self.training.decay == "warm-restarts":
            period = max(self.training.epochs // 3, 1)
            angle = math.pi * (math.floor(passed) % period) / period
            rate *= 0.5 * (1 + math.cos(angle))
        return rate

    def _save(self, checkpoint: Checkpoint) -> None:
        checkpoint.save(
            {
                "parts": self.parts.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "history": self.history,
                **self.task.state(),
            }
        )

    def load(self) -> None:
        """Resume from the checkpoint where there is one, and tell what there was."""
        device = next(self.parts.parameters()).device
        content = self._checkpoint and self._checkpoint.load(device)
        if content:
            self.parts.load_state_dict(content.pop("parts"))
            self.optimiser.load_state_dict(content.pop("optimiser"))
            self.history = content.pop("history")
            self.task.restore(content)
        for row in self.history:
            self._report(row)
