"""Folders of data sets."""

from __future__ import annotations

import os
from pathlib import Path

from aerun.errors import DataError


def data_root() -> Path:
    """Return $AERUN_DATA or ~/.cache/aerun, which may not exist yet."""
    return Path(os.environ.get("AERUN_DATA") or Path.home() / ".cache" / "aerun")


def root_folder(root: str | None) -> Path:
    """Return ``root``, which must exist; for null $AERUN_DATA or ~/.cache/aerun, created if needed."""
    if root is None:
        folder = data_root()
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return existing_path(root)


def existing_path(root: str, key: str = "dataset.root") -> Path:
    """Return ``root``, the value of ``key``, as a path. DataError if it does not exist."""
    path = Path(root).expanduser()
    if not root or not path.exists():
        raise DataError(f"{key}={root}: no such file or folder ({path.absolute()})")
    return path
