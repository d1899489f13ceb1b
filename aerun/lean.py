"""What keeps torch from importing its compiler, which takes as long as torch itself, in runs that compile nothing.

torch's optimizers import ``torch._dynamo`` for two reasons, neither of which matters to eager code: ``step`` to break
a graph that is being compiled, and four other methods to be left out of one.
"""

from __future__ import annotations

import functools
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
