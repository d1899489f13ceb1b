"""What a run can be exported as, and what each format needs. Needs no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from aerun.errors import ConfigError
from aerun.runs.folder import CONFIG, ENVIRONMENT, OVERRIDES, SUMMARY, WEIGHTS, read_config
from aerun.use.outputs import OutputFolder, check_output_folder

FORMATS = ("onnx", "torch", "safetensors")
NEEDED_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
# Exported modules, with the names of their input and output.
PIECES = {"encoder": ("images", "codes"), "decoder": ("codes", "images"), "autoencoder": ("images", "reconstructions")}
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
CARD_FILE = "README.md"
CARD_HEAD = "---\nlibrary_name: aerun\n"


def foreign_files(folder: Path) -> list[str]:
    """What is in the folder that no export wrote; everything, if there are neither weights, graphs nor a model card."""
    graphs = {WEIGHTS, *(f"{piece}{suffix}" for piece in PIECES for suffix in SUFFIXES.values())}
    others = {CARD_FILE, CONFIG, ENVIRONMENT, OVERRIDES, SUMMARY}
    existing = sorted(path.name for path in folder.iterdir())
    if not graphs & set(existing) and not _is_card(folder / CARD_FILE):
        return existing
    return [name for name in existing if name not in graphs | others or not (folder / name).is_file()]


def _is_card(path: Path) -> bool:
    try:
        return path.read_text(encoding="utf-8").startswith(CARD_HEAD)
    except (OSError, UnicodeDecodeError):
        return False


EXPORT_FOLDER = OutputFolder("aerun-export", foreign_files)


def check_export(run: Path, folder: Path, formats: Sequence[str], overwrite: bool = False) -> None:
    """ConfigError or DataError for formats, packages and folders that would make the export fail."""
    if not formats:
        raise ConfigError(f"formats: name at least one. Allowed: {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"format {name}: unknown format. Allowed: {', '.join(FORMATS)}")
        missing = [package for package in NEEDED_PACKAGES.get(name, ()) if importlib.util.find_spec(package) is None]
        if missing:
            others = " ".join(other for other in FORMATS if other != name)
            raise ConfigError(
                f"format {name}: needs {', '.join(missing)}: pip install 'aerun[export]', or use --format {others}"
            )
    read_config(run)
    if folder.resolve() == run.resolve():
        raise ConfigError(f"{folder}: is the run itself; name another folder")
    check_output_folder(folder, EXPORT_FOLDER, overwrite)
