"""Arithmetic with less than 32 bits, where the hardware supports it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from aerun.errors import ConfigError

Precision = Literal["float32", "tf32", "bfloat16"]

log = logging.getLogger(__name__)


def choose_precision(precision: Precision, device: torch.device) -> None:
    """Set torch's process-wide switches for this run. ConfigError if the device does not support the precision."""
    if precision == "tf32" and not (device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)):
        raise ConfigError(f"trainer.precision=tf32: needs a CUDA device of Ampere or later; the device is {device}")
    if precision == "bfloat16" and device.type == "cpu" and not _computes_bfloat16():
        log.warning("trainer.precision=bfloat16: this processor does not support it; float32 is faster here")
    allow_tf32(precision == "tf32")


def autocast(precision: Precision, device: torch.device, cached: bool = True) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass. A recorded pass needs ``cached=False``, to keep no casts of old weights."""
    if precision != "bfloat16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=cached)


@contextlib.contextmanager
def restored_precision() -> Iterator[None]:
    """Restore torch's switches after the block."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        if torch.cuda.is_available():
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def allow_tf32(allowed: bool) -> None:
    """Let CUDA's matrix products and convolutions use TF32, or not."""
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.backends.cudnn.allow_tf32 = allowed


def _computes_bfloat16() -> bool:
    """Whether the processor supports bfloat16 arithmetic; True if that is unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    return any(flag in text for flag in ("avx512_bf16", "amx_bf16", " bf16"))
