"""Random numbers of a population: each member draws its own, as it would alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..backbones.layers import kept_or_dropped

__all__ = ["AskedDraws", "Draw", "GivenDraws", "MemberDraws"]

Draw = Callable[[torch.Generator], Tensor]
"""Draws random numbers from a generator, always of one shape."""


class MemberDraws(TorchFunctionMode):
    """While it is entered, every member of a ``vmap`` draws from its own generator.

    The numbers are those that a member would draw if it were alone and torch's own
    generator had been seeded as its generator is: the same functions, in the same
    order, of the same shapes. What others there are makes no difference. On a GPU,
    where torch's own dropout draws in another way, they are others.

    Parameters
    ----------
    generators : sequence of torch.Generator
        One a member.
    marker : Tensor of shape (), batched
        Anything that ``vmap`` has one of for every member.
    """

    def __init__(self, generators: Sequence[torch.Generator], marker: Tensor) -> None:
        super().__init__()
        self.generators, self.marker = generators, marker

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Draw for each member, where `func` draws."""
        given = kwargs or {}
        if func in _DROPOUTS:
            return self._dropout(*args, **given)
        if func is functional.scaled_dot_product_attention:
            return self._attention(*args, **given)
        if func in _LIKE:
            values, *_ = args
            wanted = {"dtype": values.dtype, "device": values.device, **given}
            return self._drawn(_LIKE[func], tuple(values.shape), wanted)
        if func in _DRAWING and given.get("generator") is None:
            return self._drawn(func, args, given)
        return func(*args, **given)

    def _drawn(
        self, func: Callable[..., Tensor], args: Any, given: Mapping[str, Any]
    ) -> Tensor:
        def draw(generator: torch.Generator) -> Tensor:
            return func(*args, **{**given, "generator": generator})

        return self._each(draw)

    def _dropout(
        self,
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        """Drop as torch does on a CPU."""
        if not training or p == 0:
            return input
        if p == 1:
            return input * 0.0
        shape, dtype, device = input.shape, input.dtype, input.device

        def draw(generator: torch.Generator) -> Tensor:
            kept = torch.empty(shape, dtype=dtype, device=device)
            return kept.bernoulli_(1 - p, generator=generator).div_(1 - p)

        return input * self._each(draw)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        **given: Any,
    ) -> Tensor:
        """Attend in steps where something is dropped, as torch does on a CPU."""
        if dropout_p == 0 or any(v not in (None, False) for v in given.values()):
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, **given
            )
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        elif attn_mask is not None:
            scores = scores + attn_mask
        return self._dropout(scores.softmax(-1), dropout_p) @ value

    def _each(self, draw: Draw) -> Tensor:
        """Return what every member draws; what a draw needs must not be a Tensor."""
        drawn: Tensor = _Drawn.apply(self.marker, draw, self.generators)  # type: ignore[no-untyped-call]
        return drawn


class AskedDraws(MemberDraws):
    """Draws as :class:`MemberDraws`, and remembers what was asked for.

    Attributes
    ----------
    asked : list of callable
        Draws the same for another generator, in the order in which they were asked for.
    """

    def __init__(self, generators: Sequence[torch.Generator], marker: Tensor) -> None:
        super().__init__(generators, marker)
        self.asked: list[Draw] = []

    def _each(self, draw: Draw) -> Tensor:
        self.asked.append(draw)
        return super()._each(draw)


class GivenDraws(MemberDraws):
    """Hands out what was drawn beforehand, in the order in which it is asked for.

    Parameters
    ----------
    drawn : iterable of Tensor
        What :attr:`AskedDraws.asked` draws.
    """

    def __init__(self, drawn: Iterable[Tensor]) -> None:
        super().__init__((), torch.empty(()))
        self.drawn = iter(drawn)

    def _each(self, draw: Draw) -> Tensor:
        return next(self.drawn)


class _Drawn(torch.autograd.Function):
    """What each member of the ``vmap`` that `marker` is of draws."""

    @staticmethod
    def forward(
        marker: Tensor, draw: Draw, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Draw outside of any ``vmap``, for a member that is alone."""
        (generator,) = generators
        return draw(generator)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Remember nothing: a draw has no gradient."""
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        """Return no gradient."""
        return None, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        marker: Tensor,
        draw: Draw,
        generators: Sequence[torch.Generator],
    ) -> tuple[Tensor, int]:
        """Draw for every member."""
        return torch.stack([draw(each) for each in generators]), 0


_DROPOUTS = frozenset((functional.dropout, torch.dropout))
_LIKE: Mapping[Any, Callable[..., Tensor]] = {
    torch.rand_like: lambda *shape, **given: torch.rand(shape, **given),
    torch.randn_like: lambda *shape, **given: torch.randn(shape, **given),
}
_DRAWING = frozenset(
    (torch.rand, torch.randn, torch.randint, torch.randperm, kept_or_dropped)
)
