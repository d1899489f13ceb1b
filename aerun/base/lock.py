"""Locks, so that a run folder has a single writer."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from aerun.base.files import NO_WAIT, open_to_write
from aerun.base.lease import LEASE, SUCCESSOR, Lease
from aerun.errors import BusyError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
FILES = (NAME, LEASE, SUCCESSOR)  # what may be in a locked folder
ATTEMPTS = 5


class FolderLock:
    """Locks a run folder for this process. BusyError if another process has locked it.

    Between processes of one machine the kernel's lock decides, immediately; it is released when its owner ends, for
    whatever reason. Between machines the lease decides (see ``aerun.base.lease``), because not all network file systems
    pass on locks. ``patient``: if the folder has the lease of another machine, wait until it is known whether its owner
    is alive.
    """

    def __init__(self, folder: Path, patient: bool = True) -> None:
        self.folder, self.patient = folder, patient

    def __enter__(self) -> Self:
        self._before = {path.name for path in self.folder.iterdir()}
        self._file, is_locked = _open_locked(self.folder)
        try:
            self._lease = Lease(self.folder, self._now, is_locked)
            self._lease.take(self.patient)
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {platform.node()}\n")
            self._file.flush()
        except BaseException:
            self._close()
            raise
        return self

    def _now(self) -> float:
        """The time by the clock of the file system, which need not be that of this machine."""
        os.utime(self.folder / NAME)
        return (self.folder / NAME).stat().st_mtime

    def __exit__(self, *_: object) -> None:
        self._lease.release()
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            if {path.name for path in self.folder.iterdir()} - self._before == {NAME}:
                (self.folder / NAME).unlink()  # a run that never started leaves nothing
        self._file.close()


def _open_locked(folder: Path) -> tuple[Any, bool]:
    """The folder's lock file, open and locked, and whether its file system has locks. BusyError if it is locked."""
    owner = "another process"
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(0.05)
        file = open_to_write(folder / NAME, "a+")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), (folder / NAME).stat()):
                return file, fcntl is not None
        except BlockingIOError:  # perhaps by ``is_held`` in another process, for an instant
            file.seek(0)
            owner = file.read().strip() or owner
        except FileNotFoundError:  # the process that had the lock has removed it
            pass
        except OSError:  # a file system without locks
            return file, False
        file.close()
    raise BusyError(f"{folder}: is being written by {owner}; only one process may write it")


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
