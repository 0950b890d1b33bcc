"""Linear layers, by the faster of the two libraries that torch brings for a CPU.

Torch multiplies matrices by MKL and convolves by oneDNN. On AMD's newest processors the
second makes twice as many operations a second (`benchmarks/peak.py`). A linear layer is
a convolution that sees one place at a time: the same products, in half of the time.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Product", "convolves_faster", "linear"]

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Multiplies values by weights and adds a bias, as a linear layer does."""

_ROWS, _FEATURES = 1024, 64
"""Where convolutions began to be faster; of four times as many rows they took half."""

_SAMPLES = (32, *range(17, 65))
"""How many samples the rows are divided into; torch leaves fewer to another library."""


def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what :func:`torch.nn.functional.linear` does, to rounding.

    It differs from that only on a processor, and at a size, at which a convolution is
    faster.

    Parameters
    ----------
    values : Tensor of shape (..., inputs)
    weight : Tensor of shape (outputs, inputs)
    bias : Tensor of shape (outputs,), optional

    Returns
    -------
    Tensor of shape (..., outputs)
    """
    samples = _divided(values, weight)
    if not samples:
        return functional.linear(values, weight, bias)
    outputs, inputs = weight.shape
    # Features last, as oneDNN likes it, which is where they are: nothing is moved.
    image = values.reshape(samples, -1, 1, inputs).permute(0, 3, 1, 2)
    kernel = weight.reshape(outputs, inputs, 1, 1)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    found = functional.conv2d(image, kernel, bias).permute(0, 2, 3, 1)
    return found.reshape(*values.shape[:-1], outputs)


def _divided(values: Tensor, weight: Tensor) -> int:
    """Return into how many samples the rows are divided; 0 where a product is faster.

    What is written to a file, or stacked with other trainings, is left to torch.
    """
    if not convolves_faster() or torch.compiler.is_compiling():
        return 0
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return 0
    rows = values.numel() // max(values.shape[-1], 1)
    if rows < _ROWS or min(weight.shape) < _FEATURES:
        return 0
    stacked = torch._C._functorch.is_functorch_wrapped_tensor
    if stacked(values) or stacked(weight):
        return 0
    return next((count for count in _SAMPLES if rows % count == 0), 0)


@cache
def convolves_faster() -> bool:
    """Return whether this is a processor on which convolutions were faster.

    Of AMD, with AVX-512 in its full width: of the family 26 (Zen 5) on.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    told = _processor()
    family = re.search(r"family\s*:?\s*(\d+)", told, re.IGNORECASE)
    return there and "AMD" in told and family is not None and int(family[1]) >= 26


def _processor() -> str:
    """Return what the system says of the processor's maker and family."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")[:1000]
    except OSError:
        return platform.processor()
