"""aerun: a Hydra-configured experiment runner for autoencoders in PyTorch.

import aerun
model = aerun.load("outputs/RUN_FOLDER")
codes = model.encode(images)            # images [N,C,H,W], float, in [0,1]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aerun.errors import AerunError, ConfigError, DataError, DivergedError

if TYPE_CHECKING:
    from aerun.trained import load
    from aerun.use.clean import denoise
    from aerun.use.export import export

__all__ = ["AerunError", "ConfigError", "DataError", "DivergedError", "denoise", "export", "load"]

# Functions that need torch, and the module of each: imported when they are first asked for.
FUNCTIONS = {
    "denoise": "aerun.use.clean",
    "export": "aerun.use.export",
    "load": "aerun.trained",
}


def __getattr__(name: str) -> Any:
    if name not in FUNCTIONS:
        raise AttributeError(f"module 'aerun' has no attribute '{name}'")
    return getattr(import_module(FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *FUNCTIONS})
