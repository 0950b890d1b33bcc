"""Adam and AdamW as torch computes them, without the compiler their classes import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

__all__ = ["Adam", "AdamW"]


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), fused.

    The function is torch's, and so is every bit. `torch.optim.AdamW` around it imports
    torch's compiler when it is made, which takes as long as all of torch beside it.

    Parameters
    ----------
    weights : iterable of Parameter
    weight_decay : float
    """

    decoupled: ClassVar[bool] = True
    """Whether weights shrink by themselves, and not by what is added to gradients."""

    def __init__(self, weights: Iterable[nn.Parameter], weight_decay: float) -> None:
        self.weights, self.weight_decay = list(weights), weight_decay
        # By place: how many steps, and the means of gradients and of their squares.
        self.state: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def forget_gradients(self) -> None:
        """Let go of the gradients there are."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take a step along the gradients; a weight without one stays as it is."""
        moved = [n for n, weight in enumerate(self.weights) if weight.grad is not None]
        weights = [self.weights[n] for n in moved]
        for n, weight in zip(moved, weights, strict=True):
            if n not in self.state:
                none = torch.zeros((), device=weight.device)
                self.state[n] = (
                    none,
                    torch.zeros_like(weight),
                    torch.zeros_like(weight),
                )
        steps, means, squares = (
            [self.state[n][part] for n in moved] for part in range(3)
        )
        adam(
            [*weights],
            [weight.grad for weight in weights if weight.grad is not None],
            means,
            squares,
            [],
            steps,
            fused=True,
            decoupled_weight_decay=self.decoupled,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {str(n): list(tensors) for n, tensors in self.state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` returned."""
        self.state = {int(n): tuple(tensors) for n, tensors in state.items()}


class Adam(AdamW):
    """Adam with an L2 penalty (Kingma and Ba, 2015), fused.

    `weight_decay` times each weight is added to its gradient, before the means of
    gradients and of their squares are taken.

    Parameters
    ----------
    weights : iterable of Parameter
    weight_decay : float
    """

    decoupled = False
