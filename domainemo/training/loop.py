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
from .checkpoint import Checkpoint
from .divergence import Divergence
from .seeds import derive_seed
from .settings import Training

__all__ = ["Report", "Step", "Task", "descend", "train"]

Report = Callable[[Mapping[str, float]], None]
"""Called after every epoch with its row of the history."""

Step = Callable[[float], Mapping[str, Tensor]]
"""Returns every loss term of a step, given the progress of training from 0 to 1."""

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


def train(
    task: Task,
    *,
    seed: int,
    checkpoint: Checkpoint | None = None,
    report: Report | None = None,
) -> list[dict[str, float]]:
    """Train a task's modules in place; the weights of the last epoch stay.

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

    Returns
    -------
    list of dict
        Per epoch, counted from 1, the mean of every loss term, and what the task adds.

    Raises
    ------
    RunError
        If a loss or a weight stops being finite.
    """
    loop = _Loop(task)
    loop.load(checkpoint)
    report = report or (lambda row: None)
    for row in loop.history:
        report(row)
    saved = time.monotonic()
    for epoch in range(len(loop.history), task.training.epochs):
        torch.manual_seed(derive_seed(seed, "epoch", epoch))
        losses = loop.train_epoch(epoch)
        more = task.after_epoch(epoch + 1)
        loop.history.append({"epoch": epoch + 1, **losses, **more})
        report(loop.history[-1])
        if checkpoint and time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
            loop.save(checkpoint)
            saved = time.monotonic()
    return loop.history


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


class _Loop:
    """All that changes in every training, so that it can be saved and resumed."""

    def __init__(self, task: Task) -> None:
        self.task, self.parts, self.training = task, task.parts, task.training
        self.optimiser = torch.optim.AdamW(
            [p for p in self.parts.parameters() if p.requires_grad],
            lr=self.training.learning_rate,
            weight_decay=self.training.weight_decay,
            fused=True,
        )
        self.history: list[dict[str, float]] = []

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Take an epoch's steps; return the mean of every loss term."""
        self.parts.train()
        steps = self.task.steps(epoch)
        taken: list[dict[str, Tensor]] = []
        for number, step in enumerate(steps):
            passed = epoch + number / len(steps)
            self._set_learning_rate(passed)
            losses = step(passed / self.training.epochs)
            total = torch.stack(list(losses.values())).sum()
            self.optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            if self.training.clip:
                nn.utils.clip_grad_norm_(self.parts.parameters(), self.training.clip)
            self.optimiser.step()
            terms = {**losses, "total": total}
            taken.append({name: loss.detach() for name, loss in terms.items()})
        return self.task.divergence.means(epoch + 1, taken)

    def _set_learning_rate(self, passed: float) -> None:
        rate = self.training.learning_rate
        if self.training.decay == "cosine":
            if self.task.multiplies_first:
                angle = math.pi * passed / self.training.epochs
            else:
                angle = math.pi * (passed / self.training.epochs)
            rate *= 0.5 * (1 + math.cos(angle))
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def save(self, checkpoint: Checkpoint) -> None:
        """Write everything to a checkpoint."""
        checkpoint.save(
            {
                "parts": self.parts.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "history": self.history,
                **self.task.state(),
            }
        )

    def load(self, checkpoint: Checkpoint | None) -> None:
        """Resume from a checkpoint where there is one."""
        device = next(self.parts.parameters()).device
        content = checkpoint and checkpoint.load(device)
        if not content:
            return
        self.parts.load_state_dict(content.pop("parts"))
        self.optimiser.load_state_dict(content.pop("optimiser"))
        self.history = content.pop("history")
        self.task.restore(content)
