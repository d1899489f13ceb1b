"""Where a run computes."""

from __future__ import annotations

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
