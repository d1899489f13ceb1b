"""What a trained run can be exported as, and what each needs. Nothing here imports torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from aerun.errors import ConfigError
from aerun.runfolder import read_config

FORMATS = ("onnx", "torch", "safetensors")
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}


def check(run: Path, folder: Path, formats: Sequence[str]) -> None:
    """Refuse what cannot work before work begins. ConfigError or DataError in a line."""
    if not formats:
        raise ConfigError(f"no format is given. Allowed: {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"format {name}: there is no such format. Allowed: {', '.join(FORMATS)}")
        missing = [package for package in NEEDED.get(name, ()) if importlib.util.find_spec(package) is None]
        if missing:
            others = " ".join(other for other in FORMATS if other != name)
            raise ConfigError(
                f"format {name}: needs {', '.join(missing)}: pip install 'aerun[export]', or --format {others}"
            )
    read_config(run)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not an empty or new folder")
