"""Leases: who may write a folder, for machines that do not see each other's locks."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aerun.base import lease
from aerun.base.lease import EXPIRY_S, LEASE, LOST_CODE, SUCCESSOR, Lease, read_lease
from aerun.base.lock import FolderLock
from aerun.errors import BusyError, StorageError


class Clock:
    """Time as a test lets it pass: of the machine (``monotonic``) and of the file system, which may be wrong."""

    def __init__(self) -> None:
        self.passed, self.error = 0.0, 0.0

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds

    def file_system(self) -> float:
        return 1e9 + self.passed + self.error

    def beat(self, folder: Path) -> None:
        """A sign of life of the owner."""
        time_ns = int((1e9 + self.passed) * 1e9)
        os.utime(folder / LEASE, ns=(time_ns, time_ns))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    yield clock
    lease._first_seen.clear()


def on(host: str, folder: Path, clock: Clock, locked: bool = True) -> Lease:
    """The lease of a folder as a process on another machine makes it."""
    result = Lease(folder, clock.file_system, locked)
    result.owner = dataclasses.replace(result.owner, host=host)
    return result


def die(owner: Lease) -> None:
    """End the signs of life."""
    owner._done.set()
    owner._thread.join()


def is_free(owner: Lease) -> bool:
    """Whether it can be taken at once; it is then given back."""
    try:
        owner.take(patient=False)
    except BusyError:
        return False
    owner.release()
    return True


def leave_dead(folder: Path, clock: Clock) -> None:
    """A lease whose owner died 1000 s ago."""
    owner = on("a", folder, clock)
    owner.take(patient=False)
    clock.beat(folder)
    die(owner)
    clock.passed += 1000


def test_a_living_owner_keeps_its_lease_even_if_the_clock_of_the_file_system_is_wrong(
    tmp_path: Path, clock: Clock
) -> None:
    owner, other = on("a", tmp_path, clock), on("b", tmp_path, clock)
    owner.take(patient=False)
    for clock.error in (0.0, 1e5, -1e5):
        for _ in range(30):
            clock.passed += EXPIRY_S / 6
            clock.beat(tmp_path)
            with pytest.raises(BusyError, match=rf"is being written by process {os.getpid()} on a; only one"):
                other.take(patient=False)
    owner.release()
    assert is_free(other) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("error", "seconds"), [(0.0, EXPIRY_S / 2), (-1e5, EXPIRY_S), (1e5, EXPIRY_S / 2)])
def test_a_dead_owner_loses_its_lease_after_it_was_watched(
    tmp_path: Path, clock: Clock, error: float, seconds: float
) -> None:
    """For half of the time if the lease is old by the clock of the file system, for all of it if that clock is late."""
    leave_dead(tmp_path, clock)
    clock.error, other = error, on("b", tmp_path, clock)
    start = clock.passed
    while not is_free(other):
        clock.passed += 1
    assert clock.passed - start == seconds
    assert list(tmp_path.iterdir()) == []


def test_waiting_ends_when_the_owner_gives_a_sign_of_life_or_is_dead(tmp_path: Path, clock: Clock) -> None:
    leave_dead(tmp_path, clock)
    other = on("b", tmp_path, clock)
    sleep, clock_sleep = clock.sleep, clock.passed

    def revive(seconds: float) -> None:
        sleep(seconds)
        if clock.passed > clock_sleep + 20:
            clock.beat(tmp_path)

    clock.sleep = revive  # type: ignore[method-assign]
    with pytest.raises(BusyError):
        other.take(patient=True)
    clock.sleep = sleep  # type: ignore[method-assign]
    other.take(patient=True)
    found = read_lease(tmp_path / LEASE)
    assert found is not None and found.owner.host == "b"
    other.release()


def test_on_its_own_machine_the_lock_decides_and_nothing_is_waited_for(tmp_path: Path, clock: Clock) -> None:
    leave_dead(tmp_path, clock)
    assert not is_free(on("a", tmp_path, clock, locked=False))  # a file system without locks
    again = on("a", tmp_path, clock)
    assert is_free(again)
    leave_dead(tmp_path, clock)
    again.owner = dataclasses.replace(again.owner, boot="before the machine was started again")
    assert not is_free(again)


def test_of_many_processes_that_see_a_dead_owner_one_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(Lease, "_is_dead", lambda self, path, found: found.owner.host == "dead")
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert on("dead", folder, clock)._try()
        rivals, wins, start = [on(f"host{i}", folder, clock) for i in range(8)], [], threading.Barrier(8)

        def compete(rival: Lease, start: threading.Barrier = start, wins: list[str] = wins) -> None:
            start.wait()
            if any(rival._try() for _ in range(3)):
                wins.append(rival.owner.host)

        threads = [threading.Thread(target=compete, args=(rival,)) for rival in rivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = read_lease(folder / LEASE)
        assert found is not None and wins == [found.owner.host]


def test_a_process_that_died_while_it_took_over_does_not_block_others(tmp_path: Path, clock: Clock) -> None:
    leave_dead(tmp_path, clock)
    (tmp_path / SUCCESSOR).write_bytes((tmp_path / LEASE).read_bytes())
    other, tries = on("b", tmp_path, clock), 0
    while not is_free(other):
        clock.passed += 10
        tries += 1
    assert tries < 20 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"host": 3}', '{"seconds": 1e999}', "x" * 9999])
def test_a_damaged_lease_expires_like_any_other(tmp_path: Path, clock: Clock, content: str) -> None:
    (tmp_path / LEASE).write_text(content)
    other = on("b", tmp_path, clock)
    with pytest.raises(BusyError, match="is being written by another process; only one"):
        other.take(patient=False)
    clock.passed += EXPIRY_S
    assert is_free(other)


def test_a_lease_that_is_a_link_is_refused(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / LEASE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"\.lease"):
        on("b", tmp_path, clock).take(patient=False)
    assert not (tmp_path / "elsewhere").exists()


def test_a_deleted_lease_is_made_again_and_a_process_whose_folder_was_given_away_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from aerun.base.lock import FolderLock\n"
        "with FolderLock(Path(sys.argv[1])): print('locked', flush=True); time.sleep(100)"
    )
    environment = {**os.environ, lease.EXPIRY_VARIABLE: "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, text=True, stdout=-1, stderr=-1
    )
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    first = read_lease(tmp_path / LEASE)
    assert first is not None and first.owner.process == process.pid and first.owner.seconds == 1
    (tmp_path / LEASE).unlink()
    while (found := read_lease(tmp_path / LEASE)) is None or found.owner != first.owner:
        pass
    other = {**dataclasses.asdict(first.owner), "host": "b", "process": 7, "token": "x"}
    (tmp_path / "new").write_text(json.dumps(other))
    (tmp_path / "new").replace(tmp_path / LEASE)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == LOST_CODE, errors
    assert f"aerun: {tmp_path}: was given to process 7 on b, because this process gave no sign of life" in errors
    found = read_lease(tmp_path / LEASE)
    assert found is not None and found.owner.host == "b"


def test_a_folder_lock_has_a_lease_while_it_is_held_and_leaves_nothing(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", LEASE}
        with pytest.raises(BusyError, match=f"is being written by process {os.getpid()} on "):
            FolderLock(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_its_owner_removes_is_not_shared_with_the_next(tmp_path: Path) -> None:
    """Whoever opened the file before it was removed would lock what no longer has a name."""
    from aerun.base import lock

    first = FolderLock(tmp_path)
    first.__enter__()
    opened = lock.open_to_write

    def remove_first(path: Path, mode: str) -> object:
        file = opened(path, mode)
        first.__exit__()
        lock.open_to_write = opened
        return file

    lock.open_to_write = remove_first  # type: ignore[assignment]
    with FolderLock(tmp_path):
        assert (tmp_path / ".lock").exists()
