"""Leases: who writes a folder, for machines that do not see each other's locks.

A lease is a small file. Its owner changes its time of modification at regular intervals, and deletes it at the end. If
the file stays unchanged for as long as it says itself, its owner is dead, and another process may replace it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import stat
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from aerun.base.arguments import whole_number
from aerun.base.bounded import parse_json
from aerun.base.files import NO_FOLLOW, NO_WAIT, storage_error
from aerun.base.typed import TEXT, or_null, record, whole
from aerun.errors import BusyError

LEASE, SUCCESSOR = ".lease", ".lease.next"
EXPIRY_S = 60
EXPIRY_VARIABLE = "AERUN_LEASE_S"
BEATS = 6  # signs of life until a lease expires
LOST_CODE = 75  # exit code of a process whose folder was given to another
MAX_BYTES, MAX_SECONDS = 4096, 24 * 60 * 60


@dataclass(frozen=True)
class Owner:
    """The content of a lease. ``boot`` changes when the machine restarts; ``seconds`` until the lease expires."""

    host: str
    boot: str | None
    process: int
    token: str
    seconds: int

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}" if self.process else self.host

    @property
    def machine(self) -> tuple[str, str | None]:
        """What is equal for two processes of one machine."""
        return self.host, self.boot


@dataclass(frozen=True)
class Found:
    """A lease as it was read: its owner and its time of modification, in nanoseconds."""

    owner: Owner
    time_ns: int


UNKNOWN = "another process"  # the owner of a lease that is being written, or damaged
FIELDS = {"host": TEXT, "boot": or_null(TEXT), "process": whole(), "token": TEXT, "seconds": whole(1, MAX_SECONDS)}
SCHEMA = record(FIELDS, FIELDS)
_first_seen: dict[Path, tuple[Found, float]] = {}  # the leases of others, since when this process has seen them so


def read_lease(path: Path) -> Found | None:
    """The lease; None if there is none. It is opened, because a network file system then shows its present state."""
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_FOLLOW | NO_WAIT)
    except FileNotFoundError:
        return None
    except OSError as error:  # such as a link
        raise storage_error(error, path) from error
    try:
        status = os.fstat(descriptor)
        content = os.read(descriptor, MAX_BYTES) if stat.S_ISREG(status.st_mode) else b""
    finally:
        os.close(descriptor)
    try:
        value = parse_json(content)
        SCHEMA("", value)
        owner = Owner(**{name: value[name] for name in FIELDS})
    except ValueError:
        owner = Owner(UNKNOWN, None, 0, "", EXPIRY_S)
    return Found(owner, status.st_mtime_ns)


class Lease:
    """The lease of a folder. ``now``: the present time in seconds by the clock of the folder's file system."""

    def __init__(self, folder: Path, now: Callable[[], float], locked: bool) -> None:
        self.path, self._now, self._locked = folder / LEASE, now, locked
        seconds = min(whole_number(os.environ.get(EXPIRY_VARIABLE, "")) or EXPIRY_S, MAX_SECONDS)
        self.owner = Owner(platform.node(), _boot(), os.getpid(), secrets.token_hex(8), seconds)
        self._done = threading.Event()

    def take(self, patient: bool) -> None:
        """Take the lease, also that of a dead owner. BusyError if the owner is alive.

        It takes time to see whether the owner is alive, if that is on another machine. With ``patient`` this waits;
        otherwise it is a BusyError until enough time has passed since the first attempt.
        """
        while not self._try():
            found = read_lease(self.path)
            if found is None:
                continue
            if not patient or not self._watch(found):
                raise BusyError(f"{self.path.parent}: is being written by {found.owner}; only one process may write it")
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Delete the lease, if it is still this process's."""
        self._done.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self._is_ours():
                self.path.unlink()

    def _try(self) -> bool:
        """Create the lease, or replace that of a dead owner; False if neither is possible now."""
        if self._create(self.path):
            return True
        found = read_lease(self.path)
        if found is None or not self._is_dead(self.path, found):
            return False
        successor = self.path.with_name(SUCCESSOR)
        # Of several processes that see a dead owner, the one that creates this file replaces it.
        if not self._create(successor):
            other = read_lease(successor)
            if other is not None and self._is_dead(successor, other):
                successor.unlink(missing_ok=True)
            time.sleep(0.05)
            return False
        if read_lease(self.path) != found:
            successor.unlink(missing_ok=True)
            return False
        successor.replace(self.path)
        _first_seen.pop(self.path, None)
        return True

    def _create(self, path: Path) -> bool:
        """Create a lease of this process. One of several processes succeeds, also on network file systems."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(descriptor, json.dumps(asdict(self.owner)).encode())
        except OSError:  # a full disk
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        return True

    def _is_dead(self, path: Path, found: Found) -> bool:
        """Whether the owner of a lease is dead.

        An owner on this machine is, because this process has the lock. Any other is, if it gave no sign of life for
        long enough: as seen by this process, or half as long if the clock of the file system agrees. That clock is not
        enough, because some file systems take the time from the machine that writes.
        """
        if found.owner.machine == self.owner.machine and self._locked:
            return True
        known = _first_seen.get(path)
        if known is None or known[0] != found:
            known = _first_seen[path] = found, time.monotonic()
        watched, age = time.monotonic() - known[1], self._now() - found.time_ns / 1e9
        return watched >= found.owner.seconds or (age >= found.owner.seconds and watched >= found.owner.seconds / 2)

    def _watch(self, found: Found) -> bool:
        """Wait until the owner of the lease is dead; False as soon as it gives a sign of life."""
        while (present := read_lease(self.path)) == found:
            if self._is_dead(self.path, found):
                return True
            time.sleep(found.owner.seconds / BEATS / 4)
        return present is None

    def _is_ours(self) -> bool:
        found = read_lease(self.path)
        return found is not None and found.owner == self.owner

    def _keep_alive(self) -> None:
        """Give signs of life. If another process has replaced the lease, end this process: it must not write."""
        while not self._done.wait(self.owner.seconds / BEATS):
            with contextlib.suppress(OSError):  # the network is away, or the folder
                if self._is_ours():
                    os.utime(self.path)
                elif not self._create(self.path) and (found := read_lease(self.path)) and found.owner.process:
                    print(
                        f"aerun: {self.path.parent}: was given to {found.owner}, because this process gave no sign of "
                        f"life for {self.owner.seconds} s; it ends, so that nothing is written twice",
                        file=sys.stderr,
                        flush=True,
                    )
                    os._exit(LOST_CODE)


def _boot() -> str | None:
    """A number of this start of the machine; None if the system does not have one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
