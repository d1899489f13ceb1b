"""Files that are either the old or the new, never half of one."""

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
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; when the block ends well it is flushed to disk and takes its name."""
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
    """Write ``path`` as a whole. StorageError says which file, how many bytes, and how many there is room for."""
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise storage_error(error, path, len(content)) from error


def write_text(path: Path, text: str) -> None:
    """As write_bytes, in UTF-8."""
    write_bytes(path, text.encode())


def make_folder(folder: Path) -> None:
    """The folder, and those above it, unless they are there. StorageError if that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error


def storage_error(error: OSError, path: Path, size: int | None = None) -> StorageError:
    """The error in a line: which file could not be written, why, and how much room there is."""
    what = f"{size} bytes cannot be written" if size is not None else "cannot be written"
    try:
        room = f"; {shutil.disk_usage(path.parent).free} bytes are free there"
    except OSError:
        room = ""
    return StorageError(f"{path}: {what} ({error.strerror or error}{room})")


def _sync_folder(folder: Path) -> None:
    """Make a new name durable, where the system lets folders be synchronised."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files of processes that were killed as they wrote in ``folder``."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if re.fullmatch(r"\..+\.\d+\.\d+", path.name)]
