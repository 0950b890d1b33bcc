"""Products of matrices, by the faster of the two libraries that torch brings for a CPU.

Torch multiplies matrices by MKL and convolves by oneDNN. On AMD's newest processors the
second makes more than twice as many operations a second (`benchmarks/peak.py`), and
multiplies as well where it is allowed to take sixteen bits in place of 32. It does so
on processors that have an instruction for that, which those of AMD have not: there it
is the same product in single precision, in less than half of the time.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

__all__ = ["Linear", "by_onednn", "linear", "onednn_faster", "product", "worthwhile"]

_SWITCH: Any = getattr(torch.backends.mkldnn, "matmul", None)
"""What oneDNN may take in place of 32 bits; before torch 2.9 there was no telling."""

_OPERATIONS = 12_000_000
"""Products and sums from which on the other library was clearly faster."""

_NARROW = 8
"""Of narrower matrices no library is faster: they wait for memory."""


class Linear(nn.Linear):
    """A linear layer that computes its products by :func:`linear`."""

    def forward(self, values: Tensor) -> Tensor:
        """Map values of shape (..., inputs) to (..., outputs)."""
        return linear(values, self.weight, self.bias)


def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what :func:`torch.nn.functional.linear` does, to rounding.

    Parameters
    ----------
    values : Tensor of shape (..., inputs)
    weight : Tensor of shape (outputs, inputs)
    bias : Tensor of shape (outputs,), optional

    Returns
    -------
    Tensor of shape (..., outputs)
    """
    sizes = math.prod(values.shape[:-1]), *weight.shape
    if not _by_onednn(values, weight, sizes):
        return functional.linear(values, weight, bias)
    rows = values.reshape(-1, values.shape[-1])
    return _multiplied(rows, weight.mT, bias).view(*values.shape[:-1], -1)


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``left @ right``, and a bias added to it, to rounding.

    Parameters
    ----------
    left : Tensor of shape (..., rows, inner)
    right : Tensor of shape (..., inner, columns)
        Its leading axes are those of `left`.
    bias : Tensor, optional
        Which broadcasts to the result.

    Returns
    -------
    Tensor of shape (..., rows, columns)
    """
    if not _by_onednn(left, right, (*left.shape, right.shape[-1])):
        return _plain(left, right, bias)
    if left.dim() <= 3:
        return _multiplied(left, right, bias)
    found = _multiplied(left.flatten(0, -3), right.flatten(0, -3), None)
    found = found.view(*left.shape[:-1], -1)
    return found if bias is None else found + bias


def _by_onednn(left: Tensor, right: Tensor, sizes: Sequence[int]) -> bool:
    """Return whether a product is one of those that oneDNN makes faster.

    The sizes are of all that is multiplied, the last three of each pair of matrices.
    What is written to a file, or stacked with other trainings, is left to torch.
    """
    # Asked first: what is traced must not depend on sizes that it was traced with.
    if torch.compiler.is_compiling() or not worthwhile(sizes):
        return False
    if left.device.type != "cpu" or {left.dtype, right.dtype} != {torch.float32}:
        return False
    stacked = torch._C._functorch.is_functorch_wrapped_tensor
    return not (stacked(left) or stacked(right))


def worthwhile(sizes: Sequence[int]) -> bool:
    """Return whether matrices are so large and wide that oneDNN is faster here.

    Parameters
    ----------
    sizes : sequence of int
        Of all that is multiplied: how many pairs, rows, inner ones, columns.
    """
    large = math.prod(sizes) >= _OPERATIONS and min(sizes[-3:]) >= _NARROW
    return large and onednn_faster()


def _multiplied(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    """Return the product of two matrices, or of as many pairs of them."""
    if torch.is_grad_enabled():
        found: Tensor = _Product.apply(left, right, bias)  # type: ignore[no-untyped-call]
        return found
    return _Product.forward(left, right, bias)


def _plain(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    """Return the product by the library that torch takes."""
    if bias is None:
        return left @ right
    if left.dim() > 3:
        return left @ right + bias
    return (torch.addmm if left.dim() == 2 else torch.baddbmm)(bias, left, right)


class _Product(Function):
    """A product whose gradients are computed by the same library."""

    @staticmethod
    def forward(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        with by_onednn():
            return _plain(left, right, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        left, right, bias = inputs
        ctx.save_for_backward(left, right)
        ctx.shape = None if bias is None else bias.shape

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            product(gradient, right.mT) if wanted[0] else None,
            product(left.mT, gradient) if wanted[1] else None,
            gradient.sum_to_size(ctx.shape) if wanted[2] else None,
        )


@contextmanager
def by_onednn() -> Iterator[None]:
    """Have oneDNN multiply in a block, on a processor on which it is faster.

    Of small matrices it is not: it takes longer to begin.
    """
    if not onednn_faster():
        yield
        return
    with _switched():
        yield


@contextmanager
def _switched() -> Iterator[None]:
    before, _SWITCH.fp32_precision = _SWITCH.fp32_precision, "bf16"
    try:
        yield
    finally:
        _SWITCH.fp32_precision = before


@cache
def onednn_faster() -> bool:
    """Return whether this is a processor on which oneDNN was faster, and as precise.

    Of AMD, with AVX-512 in its full width: of the family 26 (Zen 5) on, but for one
    that would multiply in sixteen bits.
    """
    if _SWITCH is None or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    told = _processor()
    family = re.search(r"family\s*:?\s*(\d+)", told, re.IGNORECASE)
    known = there and "AMD" in told and family is not None and int(family[1]) >= 26
    return known and _in_single_precision()


def _in_single_precision() -> bool:
    """Return whether products are still of 32 bits where sixteen are allowed."""
    size = 256
    with _switched():  # of sixteen bits, the ones would have lost what tells
        found = torch.full((size, size), 1 + 2**-12) @ torch.ones(size, size)
    return bool((found == size + size * 2**-12).all())


def _processor() -> str:
    """Return what the system says of the processor's maker and family."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")[:1000]
    except OSError:
        return platform.processor()
