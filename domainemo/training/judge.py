"""The judge of pseudo-labels: the network as it was before it learned from any."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ..core import Batch, Outputs
from .model import Network

__all__ = ["Judge"]


class Judge:
    """A copy of the network, made once in training and never trained.

    Screens that judge by it believe nothing before it is there, so that no label it
    gives can have been taught to it.

    Parameters
    ----------
    start : float or None
        The progress of training, from 0 to 1, at which the copy is made; None for
        adapters that ask for no judge.

    Attributes
    ----------
    model : Network or None
        The copy, once it is there.
    """

    def __init__(self, start: float | None) -> None:
        self.start = start
        self.model: Network | None = None

    def appoint(self, model: Network, progress: float) -> None:
        """Set a copy of `model` aside, if it is time and there is none yet."""
        if self.start is not None and self.model is None and progress >= self.start:
            self.model = copy.deepcopy(model).requires_grad_(False).eval()

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
