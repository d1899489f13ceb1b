"""Locks, so that a run folder has a single writer."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from aerun.base.files import NO_WAIT, open_to_write
from aerun.errors import BusyError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


class FolderLock:
    """Locks a run folder for this process. BusyError, immediately, if another process has locked it.

    The kernel releases the lock when its owner ends, for whatever reason. It always works between processes of one
    machine. Between machines it works on file systems that pass on locks (NFS 4, Lustre with flock, GPFS), but not on
    NFS mounted with ``nolock`` or ``local_lock``. On systems without such locks nothing is locked.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        self._before = {path.name for path in self.folder.iterdir()}
        self._file = open_to_write(self.folder / NAME, "a+")
        if fcntl is not None:
            try:
                self._take()
            except OSError as error:
                self._file.seek(0)
                owner = self._file.read().strip() or "another process"
                self._file.close()
                raise BusyError(f"{self.folder}: is being written by {owner}; only one process may write it") from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {platform.node()}\n")
        self._file.flush()
        return self

    def _take(self) -> None:
        """Lock the file; retry a few times, because ``is_held`` in another process takes the lock for an instant."""
        for attempt in range(5):
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if attempt == 4:
                    raise
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            if {path.name for path in self.folder.iterdir()} - self._before == {NAME}:
                (self.folder / NAME).unlink()  # a run that never started leaves nothing
        self._file.close()


@contextlib.contextmanager
def file_lock(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file during the block. If another process holds it, call ``on_wait`` and wait."""
    with open_to_write(path, "a+") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                pass  # a file system without locks: the work may be done twice, but files are replaced atomically
        yield


def is_held(folder: Path) -> bool:
    """Whether a process of this machine has locked the folder; True if that cannot be determined."""
    held = True
    if fcntl is not None:
        with contextlib.suppress(OSError):
            held = (folder / NAME).exists()
            with open(folder / NAME, "rb", opener=lambda name, flags: os.open(name, flags | NO_WAIT)) as file:
                # A shared lock for an instant; a run that starts at the same moment retries.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                held = False
    return held
