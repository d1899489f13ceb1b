"""Arithmetic of less than 32 bits: where there is hardware for it, and what it changes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from aerun.errors import ConfigError

if TYPE_CHECKING:
    pass

Precision = Literal["float32", "tf32", "bfloat16"]
TINY = 1e-30  # in place of nothing at all to compare with
log = logging.getLogger(__name__)


def choose_precision(precision: Precision, device: torch.device) -> None:
    """Put torch's process-wide switches where this run wants them. ConfigError for what the device does not have."""
    if precision == "tf32" and not (device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)):
        raise ConfigError(f"trainer.precision=tf32: needs a CUDA device of Ampere or later, the device is {device}")
    if precision == "bfloat16" and device.type == "cpu" and not _computes_bfloat16():
        log.warning("trainer.precision=bfloat16: this processor has no such arithmetic, float32 is faster here")
    _allow_tf32(precision == "tf32")


def autocast(precision: Precision, device: torch.device, cached: bool = True) -> contextlib.AbstractContextManager[Any]:
    """The context of a forward pass; ``cached=False`` in a recording, which must not keep casts of old weights."""
    if precision != "bfloat16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=cached)


@contextlib.contextmanager
def restored_precision() -> Iterator[None]:
    """A block after which torch's switches are what they were."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        if torch.cuda.is_available():
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _allow_tf32(allowed: bool) -> None:
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.backends.cudnn.allow_tf32 = allowed


def _computes_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself; True where it cannot be asked."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    return any(flag in text for flag in ("avx512_bf16", "amx_bf16", " bf16"))
