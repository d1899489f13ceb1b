"""What has been decoded or transformed once, for later runs and for other processes.

Everything lies in ``decoded`` below $AERUN_DATA or ~/.cache/aerun, and may be deleted at any time.
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

from aerun.base.files import leftovers, storage_error, write_text
from aerun.base.lock import waiting_for
from aerun.dataset.places import cache_root
from aerun.dataset.store import DamagedError, RowFile, write_rows
from aerun.errors import StorageError

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where it lies."""
    return cache_root() / "decoded"


def cached_rows(
    key: str,
    chunks: Callable[[], Iterable[np.ndarray]],
    about: Callable[[], Mapping[str, Any]] = dict,
    size: int = 0,
) -> RowFile | None:
    """The rows of ``key``, from the cache or else from ``chunks`` of rows, which are written to it as they come.

    ``about`` is what to note beside them, asked when all have come; ``size`` is how many bytes there will be, as far
    as that is known. One process builds, the others wait for it. None, after a warning, where the cache cannot be
    written.
    """
    path = _place(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _open(path, key)
        if found is not None:
            return found
        lock = path.with_name(f".{path.name}.lock")
        with waiting_for(lock, lambda: log.info("another process decodes the images; waiting for it")):
            found = _open(path, key)
            if found is None:
                for left in leftovers(path.parent):
                    if left.name.startswith(f".{path.name}."):
                        left.unlink()  # of a process that was killed as it wrote; no other has the lock
                if shutil.disk_usage(path.parent).free < size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                write_rows(path, key, chunks(), about)
                found = RowFile(path, key)
        return found
    except (OSError, StorageError) as error:
        told = error if isinstance(error, StorageError) else storage_error(error, path)
        log.warning("%s: the images are not kept for other runs", told)
        return None


def known_rows(key: str) -> RowFile | None:
    """The rows of ``key`` if they are in the cache."""
    try:
        return _open(_place(key), key)
    except OSError as error:
        log.debug("%s", error)
        return None


def _place(key: str) -> Path:
    return cache_folder() / hashlib.sha256(key.encode()).hexdigest()[:32]


def _open(path: Path, key: str) -> RowFile | None:
    try:
        return RowFile(path, key)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        log.warning("%s; it is built anew", error)
        return None


def files_key(what: str, root: Path, paths: Sequence[Path]) -> str:
    """Tells apart files by path, size and time of change.

    Not by their bytes: reading those takes about as long as decoding them. A file that is replaced by another of
    the same size and time is taken for the old one.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            about = path.stat()
        except OSError:  # a link to nothing: it is for the decoder to say so
            about = path.lstat()
        name = os.fsencode(path.relative_to(root))
        where = os.fsencode(path.resolve()) if path.is_symlink() else b""
        digest.update(b"%d %d %d %b %b\0" % (about.st_size, about.st_mtime_ns, len(name), name, where))
    return f"{what} {root.resolve()} {digest.hexdigest()}"


def remembered(key: str, compute: Callable[[], str]) -> str:
    """A checksum in hexadecimal digits that takes long to compute, kept in the cache."""
    path = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.checksum"
    with contextlib.suppress(OSError, ValueError):
        known = path.read_text()
        if re.fullmatch(r"[0-9a-f]{16}\n", known):
            return known.strip()
    value = compute()
    with contextlib.suppress(OSError, StorageError):  # only time is lost
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{value}\n")
    return value
