"""Where data sets lie."""

from __future__ import annotations

import os
from pathlib import Path

from aerun.errors import DataError


def cache_root() -> Path:
    """$AERUN_DATA or ~/.cache/aerun, which need not exist."""
    return Path(os.environ.get("AERUN_DATA") or Path.home() / ".cache" / "aerun")


def root_folder(root: str | None) -> Path:
    """Where data sets are kept: ``root``, which must exist, else $AERUN_DATA or ~/.cache/aerun, made when needed."""
    if root is None:
        folder = cache_root()
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return existing(root)


def existing(root: str) -> Path:
    """``root`` as a path. DataError where nothing is there."""
    path = Path(root).expanduser()
    if not root or not path.exists():
        raise DataError(f"dataset.root={root}: there is no such file or folder (looked for {path.absolute()})")
    return path
