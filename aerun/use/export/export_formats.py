"""What a trained run can be exported as, and what each needs. Nothing here imports torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from aerun.errors import ConfigError
from aerun.runs.folder import CONFIG, ENVIRONMENT, OVERRIDES, SUMMARY, WEIGHTS, read_config
from aerun.use.outputs import OutputFolder, check_output_folder

FORMATS = ("onnx", "torch", "safetensors")
NEEDED_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
PIECES = {"encoder": ("images", "codes"), "decoder": ("codes", "images"), "autoencoder": ("images", "reconstructions")}
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
CARD_FILE = "README.md"
CARD_HEAD = "---\nlibrary_name: aerun\n"  # of the card


def foreign_files(folder: Path) -> list[str]:
    """What is in a folder that no export wrote; without weights, a graph or a card of ours, everything."""
    ours = {WEIGHTS, *(f"{piece}{suffix}" for piece in PIECES for suffix in SUFFIXES.values())}
    told = {CARD_FILE, CONFIG, ENVIRONMENT, OVERRIDES, SUMMARY}
    there = sorted(path.name for path in folder.iterdir())
    if not ours & set(there) and not _is_card(folder / CARD_FILE):
        return there
    return [name for name in there if name not in ours | told or not (folder / name).is_file()]


def _is_card(path: Path) -> bool:
    try:
        return path.read_text(encoding="utf-8").startswith(CARD_HEAD)
    except (OSError, UnicodeDecodeError):
        return False


EXPORT_FOLDER = OutputFolder("aerun-export", foreign_files)


def check_export(run: Path, folder: Path, formats: Sequence[str], overwrite: bool = False) -> None:
    """Refuse what cannot work before work begins. ConfigError or DataError in a line."""
    if not formats:
        raise ConfigError(f"no format is given. Allowed: {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"format {name}: there is no such format. Allowed: {', '.join(FORMATS)}")
        missing = [package for package in NEEDED_PACKAGES.get(name, ()) if importlib.util.find_spec(package) is None]
        if missing:
            others = " ".join(other for other in FORMATS if other != name)
            raise ConfigError(
                f"format {name}: needs {', '.join(missing)}: pip install 'aerun[export]', or --format {others}"
            )
    read_config(run)
    if folder.resolve() == run.resolve():
        raise ConfigError(f"{folder}: is the run itself; name another folder")
    check_output_folder(folder, EXPORT_FOLDER, overwrite)
