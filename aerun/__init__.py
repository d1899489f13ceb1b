"""aerun: a Hydra-configured experiment runner for autoencoders in PyTorch.

import aerun
run = aerun.train("model=conv", "trainer.epochs=5", data=images)
codes = run.model.encode(images)                    # uint8, or float in [0,1]
model = aerun.load("outputs/RUN_FOLDER")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aerun.errors import AerunError, ConfigError, DataError, DivergedError

if TYPE_CHECKING:
    __version__: str
    from aerun.python.sweep import compare_runs, run_sweep
    from aerun.python.train import train
    from aerun.runs.diagnose import diagnose, diagnose_model
    from aerun.runs.reopen import load
    from aerun.use.anomalies.finding import find_anomalies
    from aerun.use.clusters.clustering import organise
    from aerun.use.collection.embedding import embed
    from aerun.use.compression.compress import compress, decompress
    from aerun.use.denoising.cleaning import clean
    from aerun.use.denoising.tiling import denoise
    from aerun.use.export.export_run import export
    from aerun.use.generation.neighbor_walk import walk_through_neighbors
    from aerun.use.generation.new_images import arithmetic, interpolate, samples, traverse
    from aerun.use.maps.code_maps import active_units, dictionary, empty_regions, latent_map, manifold
    from aerun.use.search.code_search import search
    from aerun.use.search.crop_search import search_cropped
    from aerun.use.search.fused_search import search_pictures

__all__ = [
    "AerunError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "active_units",
    "arithmetic",
    "clean",
    "compare_runs",
    "compress",
    "decompress",
    "denoise",
    "diagnose",
    "diagnose_model",
    "dictionary",
    "embed",
    "empty_regions",
    "export",
    "find_anomalies",
    "interpolate",
    "latent_map",
    "load",
    "manifold",
    "organise",
    "run_sweep",
    "samples",
    "search",
    "search_cropped",
    "search_pictures",
    "train",
    "traverse",
    "walk_through_neighbors",
]

# The module of each function, imported on first use; most of them import torch.
FUNCTIONS = {
    "active_units": "aerun.use.maps.code_maps",
    "arithmetic": "aerun.use.generation.new_images",
    "clean": "aerun.use.denoising.cleaning",
    "compare_runs": "aerun.python.sweep",
    "compress": "aerun.use.compression.compress",
    "decompress": "aerun.use.compression.compress",
    "denoise": "aerun.use.denoising.tiling",
    "diagnose": "aerun.runs.diagnose",
    "diagnose_model": "aerun.runs.diagnose",
    "dictionary": "aerun.use.maps.code_maps",
    "embed": "aerun.use.collection.embedding",
    "empty_regions": "aerun.use.maps.code_maps",
    "export": "aerun.use.export.export_run",
    "find_anomalies": "aerun.use.anomalies.finding",
    "interpolate": "aerun.use.generation.new_images",
    "latent_map": "aerun.use.maps.code_maps",
    "load": "aerun.runs.reopen",
    "manifold": "aerun.use.maps.code_maps",
    "organise": "aerun.use.clusters.clustering",
    "run_sweep": "aerun.python.sweep",
    "samples": "aerun.use.generation.new_images",
    "search": "aerun.use.search.code_search",
    "search_cropped": "aerun.use.search.crop_search",
    "search_pictures": "aerun.use.search.fused_search",
    "train": "aerun.python.train",
    "traverse": "aerun.use.generation.new_images",
    "walk_through_neighbors": "aerun.use.generation.neighbor_walk",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from aerun.base.program import package_version

        return package_version()
    if name not in FUNCTIONS:
        raise AttributeError(f"module 'aerun' has no attribute '{name}'")
    return getattr(import_module(FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *FUNCTIONS, "__version__"})
