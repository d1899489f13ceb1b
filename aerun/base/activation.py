"""Elementwise nonlinearities by their names in ``torch.nn.functional``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return the function of that name, with torch's default parameters; ``identity`` returns its argument."""
    import torch

    if name == "identity":
        return lambda x: x
    home = torch if name in ("tanh", "sigmoid") else torch.nn.functional
    return cast("Callable[[Tensor], Tensor]", getattr(home, name))
