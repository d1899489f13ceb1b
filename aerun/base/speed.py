"""What keeps torch from importing its compiler, which takes as long as torch itself, in runs that compile nothing.

torch's optimizers import ``torch._dynamo`` for two reasons, neither of which matters to eager code: ``step`` to break
a graph that is being compiled, and four other methods to be left out of one.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

# Where torch notes the form of a function that the compiler leaves alone, once it has made it.
NOTE = "__dynamo_disable"
MARKED = ("state_dict", "load_state_dict", "zero_grad", "add_param_group")


def spare_compiler(spare: bool = True) -> None:
    """Let the optimizers' marked methods be called without the compiler, or, as torch has it, with it."""
    for name in MARKED:
        function = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if function is None:
            continue  # a torch that marks them in another way: its own way is slower, but as right
        if spare and not hasattr(function, NOTE):
            setattr(function, NOTE, function)
        elif not spare and getattr(function, NOTE, None) is function:
            delattr(function, NOTE)


def eager_step(optimizer: Optimizer) -> Callable[[], Any]:
    """``optimizer.step`` without what torch wraps around its own: hooks, the profiler's mark, and the compiler."""
    function: Any = type(optimizer).step
    if not type(optimizer).__module__.startswith("torch.optim."):
        return optimizer.step
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return functools.partial(torch.no_grad()(function), optimizer)


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
