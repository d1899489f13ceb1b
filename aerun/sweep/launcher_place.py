"""The folder of a launcher in that of its sweep: decoded data, its stop file, and a sign that it is alive."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from aerun.base.files import leftover_files, make_subfolder, remove_empty
from aerun.base.lease import LEASE, read_lease
from aerun.base.lock import FolderLock, is_held
from aerun.errors import BusyError, StorageError

PLACES = ".launchers"
POLL_S = 0.3


@contextlib.contextmanager
def launcher_place(sweep: Path, detached: bool) -> Iterator[Path]:
    """Make the place of this launcher, locked during the block, and remove it afterwards.

    ``detached``: jobs may run on, and need their data. The place is then removed by a later launcher.
    """
    host = re.sub(r"[^\w.-]+", "_", platform.node())
    place = make_subfolder(sweep, PLACES, f"{host}-{os.getpid()}")
    try:
        with FolderLock(place):
            if not _any_job_runs(sweep):
                _remove_dead(place)
            yield place
    finally:
        if not detached or not _any_job_runs(sweep):
            _remove(place)
        remove_empty([sweep / PLACES])


@contextlib.contextmanager
def waiting_lock(folder: Path) -> Iterator[None]:
    """Lock a sweep's folder during the block, for changes of its index; wait while another launcher has locked it."""
    was_printed = False
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(FolderLock(folder, patient=False))
                break
            except BusyError as error:
                if not was_printed:
                    print(f"waiting: {error}", file=sys.stderr, flush=True)
                was_printed = True
                time.sleep(POLL_S)
        yield


@contextlib.contextmanager
def idle_sweep(sweep: Path) -> Iterator[None]:
    """Lock a sweep's folder, so that no launcher begins during the block. BusyError if one is at work."""
    with FolderLock(sweep):
        for place in _places(sweep):
            with FolderLock(place):
                pass
        yield


def is_idle(sweep: Path) -> bool:
    """Whether no launcher of this machine is at work in the sweep."""
    return not any(map(is_held, (sweep, *_places(sweep))))


def _places(sweep: Path) -> list[Path]:
    found = (sweep / PLACES).iterdir() if (sweep / PLACES).is_dir() else ()
    return [place for place in found if place.is_dir() and not place.is_symlink()]


def other_launchers(place: Path) -> list[str]:
    """The processes of the sweep's other launchers that have not ended, as far as this machine can see at once."""
    found = (read_lease(path) for path in sorted(place.parent.glob(f"*/{LEASE}")) if path.parent != place)
    return [str(lease.owner) for lease in found if lease is not None]


def _any_job_runs(sweep: Path) -> bool:
    return any(sweep.glob(f"*/{LEASE}"))


def _remove_dead(place: Path) -> None:
    """Remove the places of launchers that are known to be dead."""
    for other in _places(place.parent.parent):
        if other != place:
            with contextlib.suppress(BusyError, StorageError, OSError):
                with FolderLock(other, patient=False):
                    pass
                _remove(other)


def _remove(place: Path) -> None:
    """Remove the files that a launcher makes, and the place if it contains nothing else."""
    ours = (path for path in place.iterdir() if re.fullmatch(r"stop|\.lock|[0-9a-f]{16}\.safetensors", path.name))
    for path in (*ours, *leftover_files(place)):
        path.unlink(missing_ok=True)
    remove_empty([place])
