"""Elementwise nonlinearities by their names in ``torch.nn.functional``, and the precision of penalties."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return the function of that name, with torch's default parameters; ``identity`` returns its argument."""
    import torch

    if name == "identity":
        return torch.positive
    home = torch if name in ("tanh", "sigmoid") else torch.nn.functional
    return cast("Callable[[Tensor], Tensor]", getattr(home, name))


def at_least_float32(x: Tensor) -> Tensor:
    """Return half precision as float32; float32 and float64 are unchanged."""
    return x if x.element_size() == 8 else x.float()
