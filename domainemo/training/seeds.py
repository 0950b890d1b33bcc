"""What makes training repeatable: seeds of its own, and deterministic kernels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["default_generator", "derive_seed", "reproducible", "seed_torch"]


def derive_seed(*parts: object) -> int:
    """Return a seed that depends on all parts and on nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def default_generator(device: torch.device) -> torch.Generator:
    """Return the generator that torch draws from on a device."""
    if device.type == "cuda":
        place = torch.cuda.current_device() if device.index is None else device.index
        generator: torch.Generator = torch.cuda.default_generators[place]
        return generator
    return torch.default_generator


def seed_torch(seed: int) -> None:
    """Seed all of torch's random numbers, as `torch.manual_seed` does.

    That notes the whole stack as text, thrice, for devices which a torch that was built
    for the CPU alone never has.
    """
    if torch.accelerator.current_accelerator() is None:
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Run a block in single precision, by deterministic kernels; leave torch as is."""
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    precision = torch.get_default_dtype()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Asking a machine for its GPUs would wake them, also where the CPU trains.
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count() if used else 0)
    with torch.random.fork_rng(devices):
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
        # The same as `use_deterministic_algorithms`, but for the compiler, which that
        # imports, as large as all of torch beside it.
        torch.set_deterministic_debug_mode("error")
        # Else torch writes NaN into every tensor before its values.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.set_default_dtype(precision)
            torch.set_num_threads(before[0])
            torch.set_deterministic_debug_mode(before[1])
            torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
