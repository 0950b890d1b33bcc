"""Gradient reversal: what one side lowers, the other side raises, in one step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["reverse"]


def reverse(values: Tensor, strength: float | Tensor) -> Tensor:
    r"""Return the same values, whose gradient is multiplied by :math:`-\lambda`.

    What comes after it in a network lowers a loss, what comes before raises it (Ganin
    et al., Domain-adversarial training of neural networks, 2016). The strength belongs
    here and not before the loss: while it rises from 0, the discriminator learns at
    full speed.

    Parameters
    ----------
    values : Tensor
    strength : float or Tensor of shape ()
        :math:`\lambda`, at least 0; it has no gradient.

    Returns
    -------
    Tensor of the shape of `values`
    """
    reversed_: Tensor = _Reversal.apply(values, strength)  # type: ignore[no-untyped-call]
    return reversed_


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor, strength: float | Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, float | Tensor], output: Tensor
    ) -> None:
        ctx.strength = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, int | None],
        values: Tensor,
        strength: float | Tensor,
    ) -> tuple[Tensor, int]:
        if in_dims[0] is None:
            values = values.expand(info.batch_size, *values.shape)
        else:
            values = values.movedim(in_dims[0], 0)
        if isinstance(strength, Tensor) and in_dims[1] is not None:
            strength = strength.view(-1, *(1,) * (values.dim() - 1))
        return reverse(values, strength), 0
