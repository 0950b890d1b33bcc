"""The judge of pseudo-labels: the network as it was, or its moving average since."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ..core import Batch, Outputs
from ..errors import ConfigurationError
from .model import Network

__all__ = ["Judge"]


class Judge:
    """A copy of the network, made once in training and never trained.

    Screens that judge by it believe nothing before it is there, so that no label it
    gives can have been taught to it. Or it follows the network from then on, as the
    moving average of its weights (Tarvainen and Valpola, 2017).

    Parameters
    ----------
    start : float or None
        The progress of training, from 0 to 1, at which the copy is made; None for
        adapters that ask for no judge.
    momentum : float, optional
        The share of itself that the copy keeps in every step, the rest becoming the
        network's; by default it stays as it is.

    Attributes
    ----------
    model : Network or None
        The copy, once it is there.

    Raises
    ------
    ConfigurationError
        If there is a momentum that is none, or no copy that it could be of.
    """

    def __init__(self, start: float | None, momentum: float | None = None) -> None:
        if momentum is not None and (start is None or not 0 <= momentum < 1):
            raise ConfigurationError(
                f"The adapter has the judge_momentum {momentum} and judged_from "
                f"{start}; expected a momentum from 0 to below 1, and the progress of "
                f"training, from 0 to 1, from which the judge follows the network. Set "
                f"both, or neither."
            )
        self.start, self.momentum = start, momentum
        self.model: Network | None = None

    def step(self, model: Network, progress: float) -> bool:
        """Set a copy of `model` aside if it is time; one that follows it, moves.

        Returns
        -------
        bool
            Whether it was set aside by now.
        """
        if self.model is not None:
            self._follow(model)
            return False
        if self.start is None or progress < self.start:
            return False
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        return True

    def outputs(self, batch: Batch) -> Outputs | None:
        """Return what the copy makes of a batch; None where there is no copy."""
        if self.model is None:
            return None
        with torch.no_grad():
            outputs: Outputs = self.model(*batch)
        return outputs

    def state(self) -> dict[str, Tensor] | None:
        """Return the copy's weights for a checkpoint; None where there is no copy."""
        return None if self.model is None else self.model.state_dict()

    def restore(self, model: Network, state: dict[str, Tensor] | None) -> None:
        """Make the copy again, of a network like `model` with the weights `state`."""
        if state is not None:
            self.model = copy.deepcopy(model).requires_grad_(False).eval()
            self.model.load_state_dict(state)

    def _follow(self, model: Network) -> None:
        """Average weights and running statistics; whole numbers are the network's."""
        if self.model is None or self.momentum is None:
            return
        latest = model.state_dict()
        for name, mean in self.model.state_dict().items():
            new = latest[name]
            if mean.is_floating_point():
                # What is equal stays, though it be infinite, as masks are.
                moved = new.lerp(mean, self.momentum)
                new = torch.where(mean == new, mean, moved)
            mean.copy_(new)
