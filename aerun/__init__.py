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
    from aerun.doctor.folder import diagnose, diagnose_model
    from aerun.trained import load
    from aerun.use.clean import denoise
    from aerun.use.embed import embed
    from aerun.use.export import export
    from aerun.use.generate import arithmetic, interpolate, samples, traverse
    from aerun.use.maps import active_units, dictionary, empty_regions, latent_map, manifold
    from aerun.use.organise import organise
    from aerun.use.search import search

__all__ = [
    "AerunError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "active_units",
    "arithmetic",
    "denoise",
    "diagnose",
    "diagnose_model",
    "dictionary",
    "embed",
    "empty_regions",
    "export",
    "interpolate",
    "latent_map",
    "load",
    "manifold",
    "organise",
    "samples",
    "search",
    "traverse",
]

# Functions that need torch, and the module of each: imported when they are first asked for.
FUNCTIONS = {
    "active_units": "aerun.use.maps",
    "arithmetic": "aerun.use.generate",
    "denoise": "aerun.use.clean",
    "diagnose": "aerun.doctor.folder",
    "diagnose_model": "aerun.doctor.folder",
    "dictionary": "aerun.use.maps",
    "embed": "aerun.use.embed",
    "empty_regions": "aerun.use.maps",
    "export": "aerun.use.export",
    "interpolate": "aerun.use.generate",
    "latent_map": "aerun.use.maps",
    "load": "aerun.trained",
    "manifold": "aerun.use.maps",
    "organise": "aerun.use.organise",
    "samples": "aerun.use.generate",
    "search": "aerun.use.search",
    "traverse": "aerun.use.generate",
}


def __getattr__(name: str) -> Any:
    if name not in FUNCTIONS:
        raise AttributeError(f"module 'aerun' has no attribute '{name}'")
    return getattr(import_module(FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *FUNCTIONS})
