"""aerun: a Hydra-configured experiment runner for autoencoders in PyTorch.

import aerun
model = aerun.load("outputs/RUN_FOLDER")
codes = model.encode(images)            # images [N,C,H,W], float, in [0,1]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aerun.errors import AerunError, ConfigError, DataError, DivergedError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from aerun.autoencoder import Autoencoder
    from aerun.use.export import Exported

__all__ = ["AerunError", "ConfigError", "DataError", "DivergedError", "denoise", "export", "load"]


def load(run_folder: str | os.PathLike[str], device: str = "cpu", trusted_packages: Sequence[str] = ()) -> Autoencoder:
    """The trained model of a run folder: ``encode``, ``decode`` and ``reconstruct`` batches of images in [0,1].

    A run with classes of one's own needs their packages in ``trusted_packages``: a run folder may come from
    anywhere. Raises DataError if the folder is not that of a run, or a file in it is damaged.
    """
    from aerun.trained import load as load_run

    return load_run(run_folder, device, trusted_packages)


def denoise(run: Any, images: Any) -> Any:
    """images, [H,W], [C,H,W] or [N,C,H,W] of any size, cleaned by a run folder's model: see ``aerun.use.clean``."""
    from aerun.use.clean import denoise as clean

    return clean(run, images)


def export(
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    formats: Sequence[str] = ("onnx", "torch", "safetensors"),
    trusted_packages: Sequence[str] = (),
) -> Exported:
    """Write a run's trained model for other programs into an empty or new folder: see ``aerun.use.export``."""
    from aerun.use.export import export as export_run

    return export_run(run, folder, formats, trusted_packages)
