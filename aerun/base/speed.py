"""Two savings: no import of torch's compiler in runs that compile nothing, and no page clearing in every step.

Importing the compiler, ``torch._dynamo``, takes as long as importing torch. torch's optimizers import it for two
reasons, neither of which matters without compiling: ``step`` breaks a graph that is being compiled, and four other
methods are excluded from it.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

DISABLED = "__dynamo_disable"  # attribute in which torch caches the compiler-free version of a function
WRAPPED_METHODS = ("state_dict", "load_state_dict", "zero_grad", "add_param_group")


def spare_compiler(spare: bool = True) -> None:
    """Let optimizers call their wrapped methods without importing the compiler; with ``spare=False`` undo that."""
    for name in WRAPPED_METHODS:
        function = vars(vars(Optimizer)[name]).get("__wrapped__")
        if function is None:
            continue  # this version of torch wraps them differently: slower, but equally correct
        if spare:
            vars(function).setdefault(DISABLED, function)
        elif vars(function).get(DISABLED) is function:
            del vars(function)[DISABLED]


def eager_step(optimizer: Optimizer) -> Callable[[], Any]:
    """Return ``optimizer.step`` without torch's wrappers: hooks, profiler marks and the compiler."""
    if not type(optimizer).__module__.startswith("torch.optim."):
        return optimizer.step
    function = inspect.unwrap(type(optimizer).step)
    return functools.partial(torch.no_grad()(function), optimizer)


M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # mallopt's parameters
LARGEST_KEPT_BLOCK = 32 * 2**20  # bytes; glibc's limit of the first
KEPT_BYTES = 2**30


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MiB for the next allocation, up to 1 GiB in total.

    By default it returns every larger tensor of a step to the kernel, which then clears the same pages for the next
    step: a third of the time at 784-64-784 with batches of 512. Does nothing with other C libraries.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def release_freed_memory() -> None:
    """Return kept blocks to the kernel now."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Callable[..., int] | None:
    """Return a function of glibc; None if the C library does not have it."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None)[name]
    except AttributeError:
        return None
