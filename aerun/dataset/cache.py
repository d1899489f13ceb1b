"""A cache on disk of decoded and transformed images, shared by later runs and other processes.

All files are in ``decoded`` below $AERUN_DATA or ~/.cache/aerun, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.files import leftover_files, storage_error, write_text
from aerun.base.lock import file_lock
from aerun.dataset.paths import data_root
from aerun.dataset.row_file import DamagedError, RowFile, write_rows
from aerun.errors import StorageError

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the folder of the cache."""
    return data_root() / "decoded"


def cached_rows(
    key: str,
    chunks: Callable[[], Iterable[np.ndarray]],
    metadata: Callable[[], Mapping[str, Any]] = dict,
    size: int = 0,
) -> RowFile | None:
    """Return the rows of ``key`` from the cache; if they are missing, write ``chunks`` of rows to it first.

    ``metadata()`` is stored with the rows; it is called after the last chunk. ``size`` is the expected number of
    bytes, 0 if unknown. One process builds, the others wait for it. Returns None, after a warning, if the
    cache cannot be written.
    """
    path = _path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _open(path, key)
        if found is not None:
            return found
        lock = path.with_name(f".{path.name}.lock")
        with file_lock(lock, lambda: log.info("another process is decoding the images; waiting for it")):
            found = _open(path, key)
            if found is None:
                for left in leftover_files(path.parent):
                    if left.name.startswith(f".{path.name}."):
                        left.unlink()  # left by a process that was killed while writing: nobody else has the lock
                if shutil.disk_usage(path.parent).free < size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                write_rows(path, key, chunks(), metadata)
                found = RowFile(path, key)
        return found
    except (OSError, StorageError) as error:
        reason = error if isinstance(error, StorageError) else storage_error(error, path)
        log.warning("%s: the images are not cached for other runs", reason)
        return None


def lookup_rows(key: str) -> RowFile | None:
    """Return the rows of ``key`` if they are in the cache, else None."""
    try:
        return _open(_path(key), key)
    except OSError as error:
        log.debug("%s", error)
        return None


def _path(key: str) -> Path:
    return cache_folder() / _digest(key)


def _digest(key: str) -> str:
    """32 hexadecimal digits. File names in the key may have bytes that are not UTF-8."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]


def _open(path: Path, key: str) -> RowFile | None:
    try:
        return RowFile(path, key)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        log.warning("%s; rebuilding it", error)
        return None


def files_key(what: str, root: Path, paths: Sequence[Path]) -> str:
    """Return a key that changes when the path, size or modification time of a file changes.

    The bytes are not read: that takes about as long as decoding them. A file replaced by another one with the same
    size and time is not noticed.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # a link to nothing or to itself: the decoder reports it
            status = path.lstat()
        name = os.fsencode(path.relative_to(root))
        where = os.fsencode(os.path.realpath(path)) if path.is_symlink() else b""
        digest.update(b"%d %d %d %b %b\0" % (status.st_size, status.st_mtime_ns, len(name), name, where))
    return f"{what} {root.resolve()} {digest.hexdigest()}"


def cached_checksum(key: str, compute: Callable[[], str]) -> str:
    """Return a slow checksum (16 hexadecimal digits) from the cache, or compute and store it."""
    path = cache_folder() / f"{_digest(key)}.checksum"
    with contextlib.suppress(OSError, ValueError):
        known = path.read_text()
        if re.fullmatch(r"[0-9a-f]{16}\n", known):
            return known.strip()
    value = compute()
    with contextlib.suppress(OSError, StorageError):  # only time is lost
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{value}\n")
    return value
