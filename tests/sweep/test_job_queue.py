"""Jobs that several launchers share: which of them may start here, and whose end counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aerun.base.lock import FolderLock
from aerun.runs.folder import SUMMARY, record_status
from aerun.sweep import job_queue
from aerun.sweep.job import Job
from aerun.sweep.job_index import job_state
from aerun.sweep.job_queue import JobQueue


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(job_queue, "POLL_S", 0.0)
    yield


def job(folder: Path, name: str) -> Job:
    (folder / name).mkdir()
    return Job(name, folder / name, {}, {}, [], {}, name)


def end(one: Job, state: str = "finished") -> None:
    record_status(one.folder, state)
    if state == "finished":
        (one.folder / SUMMARY).write_text("{}")


def queue_of(*jobs: Job, stopping: bool = False) -> tuple[JobQueue, list[str]]:
    """A queue, and the names of the jobs that end in other launchers."""
    ended: list[str] = []
    queue = JobQueue(iter(jobs), lambda: stopping, lambda one: ended.append(one.name))
    for one in jobs:
        queue.note_status(one)
    return queue, ended


def test_a_job_that_another_process_runs_is_passed_over_and_started_when_that_process_leaves_it(tmp_path: Path) -> None:
    first, second = job(tmp_path, "first"), job(tmp_path, "second")
    queue, ended = queue_of(first, second)
    with FolderLock(first.folder):
        assert next(queue) is second
        assert next(queue) is None
    assert next(queue) is first
    end(first)
    end(second)
    assert not queue.put_back(first, None) and not queue.put_back(second, None)
    assert list(queue) == [] and ended == []


@pytest.mark.parametrize("state", ["finished", "pruned", "failed", "diverged", "killed"])
def test_a_job_that_ends_elsewhere_is_not_started(tmp_path: Path, state: str) -> None:
    one = job(tmp_path, "one")
    record_status(one.folder, "failed", "of an earlier launch")
    queue, ended = queue_of(one)
    end(one, state)
    assert list(queue) == [] and ended == ["one"] and job_state(one.folder) == state


def test_a_job_that_failed_before_is_started_without_its_old_status(tmp_path: Path) -> None:
    one = job(tmp_path, "one")
    record_status(one.folder, "failed", "of an earlier launch")
    queue, ended = queue_of(one)
    assert next(queue) is one and job_state(one.folder) == "waiting" and ended == []


def test_the_end_of_a_job_that_was_found_busy_counts_for_its_own_launcher(tmp_path: Path) -> None:
    """Two launchers hand out a job at once. When the process that came second returns, the other may have finished."""
    one = job(tmp_path, "one")
    queue, ended = queue_of(one)
    assert next(queue) is one
    end(one)
    assert queue.put_back(one, "BusyError: one: is being written by process 7 on b")
    assert list(queue) == [] and ended == ["one"]


def test_a_killed_job_whose_folder_is_still_leased_is_recorded_when_it_is_free(tmp_path: Path) -> None:
    one = job(tmp_path, "one")
    queue, ended = queue_of(one)
    assert next(queue) is one
    record_status(one.folder, "running")
    with FolderLock(one.folder):
        assert queue.put_back(one, "Slurm job 5_0 ended") and next(queue) is None
    assert list(queue) == [] and ended == ["one"] and job_state(one.folder) == "killed"


def test_nothing_starts_while_the_sweep_stops(tmp_path: Path) -> None:
    one = job(tmp_path, "one")
    queue, _ = queue_of(one, stopping=True)
    assert list(queue) == []
    assert queue.put_back(one, "BusyError: one: is being written by process 7 on b")  # and not recorded as killed
