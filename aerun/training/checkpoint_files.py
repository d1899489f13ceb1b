"""The files of a run's checkpoints: their names, their checksums, and which of them a finished run keeps. No torch."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from aerun.base.bounded import MAX_ARRAY_BYTES, read_bytes
from aerun.errors import DataError

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
BLANK = "0" * 64  # in place of the SHA-256 while it is computed
# What ``checkpoint.keep`` removes from a finished run. ``last`` is enough to make the run longer.
REMOVED = {"weights": (PREVIOUS, LAST), "last": (PREVIOUS,), "all": ()}


def with_checksum(content: bytes) -> bytes:
    """The content of a checkpoint with its SHA-256 in place of BLANK."""
    return content.replace(BLANK.encode(), hashlib.sha256(content).hexdigest().encode(), 1)


def read_intact(path: Path) -> bytes:
    """The content of a checkpoint. DataError if a single byte is wrong."""
    try:
        content = read_bytes(path, MAX_ARRAY_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    match = re.search(rb'"sha256":"([0-9a-f]{64})"', content)
    blank = content[: match.start(1)] + BLANK.encode() + content[match.end(1) :] if match else b""
    if match is None or hashlib.sha256(blank).hexdigest().encode() != match.group(1):
        raise DataError(f"{path}: is not an intact checkpoint of aerun (its checksum does not match)")
    return content


def removable(folder: Path, keep: str) -> list[Path]:
    """The files in a folder of checkpoints that a finished run does not keep, in the order in which to remove them."""
    return [folder / name for name in REMOVED[keep] if (folder / name).exists()]


def can_be_continued(folder: Path) -> bool:
    """Whether a folder of checkpoints has one that training can continue from."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))
