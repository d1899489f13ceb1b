"""Atomic writing: a file has either its old or its new content, never a part of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from aerun.errors import StorageError


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; at the end of the block it is flushed to disk and renamed to ``path``.

    After an exception ``path`` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``path`` atomically. StorageError says which file, how many bytes, and how many are free."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise storage_error(error, path, len(content)) from error


def write_text(path: Path, text: str) -> None:
    """Like write_bytes, in UTF-8."""
    write_bytes(path, text.encode())


def make_folder(folder: Path) -> None:
    """Create the folder and its parents if they do not exist. StorageError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error


def storage_error(error: OSError, path: Path, size: int | None = None) -> StorageError:
    """Return the error in one line: which file could not be written, why, and how much space is free."""
    what = f"{size} bytes cannot be written" if size is not None else "cannot be written"
    try:
        free = f"; {shutil.disk_usage(path.parent).free} bytes are free there"
    except OSError:
        free = ""
    return StorageError(f"{path}: {what} ({error.strerror or error}{free})")


def _sync_folder(folder: Path) -> None:
    """Make a new name durable, if the system can synchronize folders."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def leftover_files(folder: Path) -> list[Path]:
    """Return the temporary files of processes that were killed while writing to ``folder``."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if re.fullmatch(r"\..+\.\d+\.\d+", path.name)]
