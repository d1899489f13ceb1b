"""Where a run computes."""

from __future__ import annotations

import os

import torch

from aerun.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device that ``trainer.device`` names, ``auto`` being the fastest there is.

    ConfigError for one that this machine does not have.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, here in available.items() if here))
    device = torch.device(name)
    missing_card = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if not available[device.type] or missing_card:
        here = ", ".join(kind for kind, is_here in available.items() if is_here)
        raise ConfigError(f"trainer.device={name}: is not there; this machine has {here} (torch {torch.__version__})")
    return device


def default_threads() -> int:
    """How many CPU threads a run takes unless told: $OMP_NUM_THREADS, else the cores that the process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
