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
    from aerun.runs.diagnose import diagnose, diagnose_model
    from aerun.runs.reopen import load
    from aerun.use.clusters.organise import organise
    from aerun.use.collection.embed import embed
    from aerun.use.denoising.clean import denoise
    from aerun.use.export.export import export
    from aerun.use.generation.generate import arithmetic, interpolate, samples, traverse
    from aerun.use.maps.latent import active_units, dictionary, empty_regions, latent_map, manifold
    from aerun.use.search.cropped import search_cropped
    from aerun.use.search.index import search

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
    "search_cropped",
    "traverse",
]

# Functions that need torch, and the module of each: imported when they are first asked for.
FUNCTIONS = {
    "active_units": "aerun.use.maps.latent",
    "arithmetic": "aerun.use.generation.generate",
    "denoise": "aerun.use.denoising.clean",
    "diagnose": "aerun.runs.diagnose",
    "diagnose_model": "aerun.runs.diagnose",
    "dictionary": "aerun.use.maps.latent",
    "embed": "aerun.use.collection.embed",
    "empty_regions": "aerun.use.maps.latent",
    "export": "aerun.use.export.export",
    "interpolate": "aerun.use.generation.generate",
    "latent_map": "aerun.use.maps.latent",
    "load": "aerun.runs.reopen",
    "manifold": "aerun.use.maps.latent",
    "organise": "aerun.use.clusters.organise",
    "samples": "aerun.use.generation.generate",
    "search": "aerun.use.search.index",
    "search_cropped": "aerun.use.search.cropped",
    "traverse": "aerun.use.generation.generate",
}


def __getattr__(name: str) -> Any:
    if name not in FUNCTIONS:
        raise AttributeError(f"module 'aerun' has no attribute '{name}'")
    return getattr(import_module(FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *FUNCTIONS})
