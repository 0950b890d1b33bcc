"""What a step frees, kept for the next one."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freed_memory_kept"]

_TRIM, _MAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_EVERYTHING, _MOST_MAPPED = 2**31 - 1, 32 * 2**20  # the most that each may be


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed in a block for what the block needs next.

    The tensors of a step are freed, and are needed again by the next. On Linux glibc
    returns large ones to the system, which hands them back page by page, each one
    cleared. After the block the system has them back. Elsewhere nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(_MAP, _MOST_MAPPED)
    library.mallopt(_TRIM, _EVERYTHING)
    try:
        yield
    finally:
        # What glibc itself arrives at, at most; once set, it changes neither any more.
        library.mallopt(_TRIM, 2 * _MOST_MAPPED)
        library.malloc_trim(ctypes.c_size_t(0))
