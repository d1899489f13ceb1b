"""One writer to a run folder."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from aerun.errors import BusyError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


class FolderLock:
    """Holds a run folder for this process; BusyError, at once, where another process has it.

    The kernel drops the lock when its owner ends, however it ends. Processes of one machine are always told
    apart. Across machines it holds on file systems that pass on locks (NFS 4, Lustre with flock, GPFS), not on
    NFS mounted with ``nolock`` or ``local_lock``. Where the system has no such locks nothing is held.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        self._file = (self.folder / NAME).open("a+")
        if fcntl is not None:
            try:
                self._take()
            except OSError as error:
                self._file.seek(0)
                owner = self._file.read().strip() or "another process"
                self._file.close()
                raise BusyError(f"{self.folder}: is being written by {owner}; it has one writer") from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {platform.node()}\n")
        self._file.flush()
        return self

    def _take(self) -> None:
        """Lock the file, with some patience: whoever only looks (``is_held``) has it for an instant."""
        for attempt in range(5):
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if attempt == 4:
                    raise
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            if [path.name for path in self.folder.iterdir()] == [NAME]:
                (self.folder / NAME).unlink()  # a run that never began leaves nothing
        self._file.close()


@contextlib.contextmanager
def waiting_for(path: Path, told: Callable[[], None]) -> Iterator[None]:
    """A lock file of one's own for the block; where another process has it, ``told`` and wait for that to end."""
    with path.open("a+") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                told()
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                pass  # a file system without locks: the work may be done twice, files are replaced whole
        yield


def is_held(folder: Path) -> bool:
    """Whether a process of this machine holds the folder; True where that cannot be known."""
    held = True
    if fcntl is not None:
        with contextlib.suppress(OSError):
            held = (folder / NAME).exists()
            with (folder / NAME).open("rb") as file:
                # Shared and for an instant: a run that starts in this very instant tries again.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                held = False
    return held
