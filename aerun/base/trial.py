"""One pass of zeros through a module of somebody else's, to see what it takes and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aerun.errors import ConfigError

ROWS = 2  # images of the pass


def zeros(shape: Sequence[int], device: torch.device | None = None) -> Tensor:
    """A batch of that shape, without the batch."""
    return torch.zeros(ROWS, *shape, device=device)


def tried(key: str, function: Callable[[Tensor], Any], given: Tensor, what: str) -> Any:
    """``function(given)``. ConfigError, beginning with ``key``, if it raises; ``what`` says what it was given."""
    try:
        return function(given)
    except Exception as error:  # of somebody else's class it may be any
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise ConfigError(f"{key}: does not take {written(given)}, {what} ({reason})") from error


def tensor_of(key: str, given: Any) -> Tensor:
    """``given``. ConfigError, beginning with ``key``, if it is not a tensor of as many rows as the pass has."""
    if not isinstance(given, Tensor):
        raise ConfigError(f"{key}: returns {type(given).__name__}, must return a tensor [B,...]")
    if given.dim() < 2 or len(given) != ROWS:
        raise ConfigError(
            f"{key}: returns a tensor of shape {list(given.shape)} for {ROWS} images, must return [B,...]"
        )
    return given


def written(batch: Tensor) -> str:
    """The shape of a batch for a message: ``[B, 1, 28, 28]``."""
    return f"[{', '.join(['B', *map(str, batch.shape[1:])])}]"
