"""Memory that the process keeps for the next step instead of giving it back after every one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # mallopt's names for them, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD
LARGEST = 32 * 2**20  # glibc's own limit of the first
KEPT = 2**30


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MiB for the next allocation, up to a GiB of them in all.

    Left alone it hands every larger tensor of a step back to the kernel, which then clears the same pages for
    the next step: at 784-64-784 and batches of 512 that is a third of the time. Does nothing elsewhere.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST)
        mallopt(TRIM_THRESHOLD, KEPT)


def release_freed_memory() -> None:
    """Give back now what is kept."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Callable[..., int] | None:
    """A function of glibc; None where the C library has none of that name."""
    if sys.platform != "linux":
        return None
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function
