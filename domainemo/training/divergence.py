"""Training that diverges ends with a sentence; nothing that is not finite goes on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import RunError
from ..places import is_outside, where
from .settings import Training

__all__ = ["Divergence"]

Step = Mapping[str, Tensor]
"""Every loss term of one step by name, and their ``"total"``."""


class Divergence:
    """Looks at losses and weights after every epoch, the last one among them.

    Parameters
    ----------
    what : str
        ``"Training"`` or ``"Pre-training"``.
    network : Module
        What is kept: its buffers are looked at as well, unless they were not finite
        to begin with, as a mask's are.
    beside : Module
        What is trained beside it.
    training : Training
    """

    def __init__(
        self, what: str, network: nn.Module, beside: nn.Module, training: Training
    ) -> None:
        self.what, self.network, self.beside = what, network, beside
        self.training = training
        self.watched = {
            name
            for name, buffer in network.named_buffers()
            if buffer.is_floating_point() and bool(buffer.isfinite().all())
        }

    def means(self, epoch: int, steps: Sequence[Step]) -> dict[str, float]:
        """Return the mean of every loss term over an epoch's steps.

        Parameters
        ----------
        epoch : int
            Counted from 1.
        steps : sequence of mapping of str to Tensor
            After the last of them, the weights are what the epoch leaves.

        Raises
        ------
        RunError
            If a loss or a weight is not finite: which one, where, and what to do.
        """
        sums: dict[str, Tensor] = {}
        for losses in steps:
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss
        means = {name: float(value) / len(steps) for name, value in sums.items()}
        if not all(map(math.isfinite, means.values())):
            raise self._error(epoch, _first_bad(steps) + self._whose(steps))
        self.check_weights(epoch, steps)
        return means

    def check_weights(self, epoch: int, steps: Sequence[Step] = ()) -> None:
        """Raise :class:`RunError` if a weight is not finite after an epoch."""
        weights = dict(self._weights())
        finite = torch.stack([each.isfinite().all() for each in weights.values()])
        if bool(finite.all()):
            return
        bad = [n for n, fine in zip(weights, finite.tolist(), strict=True) if not fine]
        found = (
            f"{len(bad)} of {len(weights)} weights, such as {bad[0]}, are not finite"
        )
        if steps:
            losses = {name: float(loss) for name, loss in steps[-1].items()}
            losses.pop("total")
            largest = max(losses, key=lambda name: abs(losses[name]))
            found += (
                f" after its last step, whose losses still were (the largest, "
                f"{largest}, was {losses[largest]:.3g})"
            )
        raise self._error(epoch, found)

    def check_outputs(self, epoch: int, logits: Tensor) -> None:
        """Raise :class:`RunError` if what the network says is not finite."""
        if not bool(logits.isfinite().all()):
            found = "the network's output is not finite, though its weights are"
            raise self._error(epoch, found)

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.network.named_parameters()
        for name, parameter in self.beside.named_parameters():
            yield f"{type(self.beside).__name__}.{name}", parameter
        for name, buffer in self.network.named_buffers():
            if name in self.watched:
                yield name, buffer

    def _whose(self, steps: Sequence[Step]) -> str:
        """Return where the loss is made, unless that is in this package."""
        own = not is_outside(type(self.beside)) or not any(
            name not in ("classification", "total") and not bool(loss.isfinite())
            for losses in steps
            for name, loss in losses.items()
        )
        return "" if own else f" ({where(self.beside, 'forward')})"

    def _error(self, epoch: int, found: str) -> RunError:
        return RunError(
            f"{self.what} diverged in epoch {epoch}: {found}. Lower "
            f"training.learning_rate (now {self.training.learning_rate}) or the weight "
            f"of that loss; and look for values beyond reason in the recordings, with "
            f"`domainemo data check`."
        )


def _first_bad(steps: Sequence[Step]) -> str:
    """Return which losses are not finite, and from which step on."""
    for number, losses in enumerate(steps, 1):
        bad = [name for name, loss in losses.items() if not bool(loss.isfinite().all())]
        if bad:
            named = ", ".join(name for name in bad if name != "total") or "total"
            return f"{named} is not finite from step {number} of {len(steps)} on"
    return "the sum of all losses is not finite"
