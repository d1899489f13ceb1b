"""Checks a user's module by a pass of zeros: does it accept its input, and what does it return?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aerun.errors import ConfigError

ROWS = 2  # batch size of the pass


def zeros(shape: Sequence[int], device: torch.device | None = None) -> Tensor:
    """A batch of zeros; ``shape`` is without the batch."""
    return torch.zeros(ROWS, *shape, device=device)


def try_call(key: str, function: Callable[[Tensor], Any], batch: Tensor, content: str) -> Any:
    """``function(batch)``. ConfigError, starting with ``key``, if it raises. ``content``: what the batch contains."""
    try:
        return function(batch)
    except Exception as error:  # a user's class may raise anything
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise ConfigError(f"{key}: does not take {format_shape(batch)}, {content} ({reason})") from error


def check_tensor(key: str, result: Any) -> Tensor:
    """``result``. ConfigError, starting with ``key``, if it is not a tensor with the batch size of the pass."""
    if not isinstance(result, Tensor):
        raise ConfigError(f"{key}: returns {type(result).__name__}, must return a tensor [B,...]")
    if result.dim() < 2 or len(result) != ROWS:
        raise ConfigError(
            f"{key}: returns a tensor of shape {list(result.shape)} for {ROWS} images, must return [B,...]"
        )
    return result


def format_shape(batch: Tensor) -> str:
    """The shape of a batch for a message: ``[B, 1, 28, 28]``."""
    return f"[{', '.join(['B', *map(str, batch.shape[1:])])}]"
