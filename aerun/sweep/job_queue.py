"""The jobs of a sweep that this launcher may start, while launchers on other machines take their own share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from aerun.base.lease import LEASE, Found, read_lease
from aerun.base.lock import FolderLock
from aerun.errors import BusyError, StorageError
from aerun.runs.folder import STATUS, read_status, record_status
from aerun.sweep.job import Job
from aerun.sweep.job_index import ENDED, FAILED, UNEVALUATED, job_state, state_of

POLL_S = 1.0  # between two looks at the jobs that others run
END: Any = object()

Status = dict[str, Any] | None


class JobQueue:
    """An iterator over jobs, each when it can start here; None if no other can start at present.

    A job belongs to the process that has locked its folder. A job that another process ends is passed to
    ``on_end_elsewhere`` and not started; one whose process dies is started again. The iterator ends when every job has
    ended, or ``is_stopping()``.
    """

    def __init__(
        self, jobs: Iterator[Job | None], is_stopping: Callable[[], bool], on_end_elsewhere: Callable[[Job], None]
    ) -> None:
        self._jobs, self._is_stopping, self._on_end_elsewhere = jobs, is_stopping, on_end_elsewhere
        self._first: dict[str, Status] = {}  # status.json before this launch
        self._here: set[str] = set()  # started here, and not ended
        self._elsewhere: dict[str, Job] = {}
        self._killed: dict[str, tuple[str, Found | None]] = {}  # error of a job here, and the lease that it left
        self._next_look = 0.0

    def note_status(self, job: Job) -> None:
        """Remember the status of a job, so that its end in another launcher is seen."""
        self._first.setdefault(job.name, read_status(job.folder))

    def __iter__(self) -> Iterator[Job | None]:
        return self

    def __next__(self) -> Job | None:
        if self._is_stopping():
            raise StopIteration
        while (job := next(self._jobs, END)) is not END and job is not None:
            if self._start(job):
                return job
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + POLL_S
            for other in list(self._elsewhere.values()):
                if self._start(other):
                    return other
        if job is None or self._here or self._elsewhere:
            return None
        raise StopIteration

    def _start(self, job: Job) -> bool:
        """Whether the job may start here. If not, it has ended elsewhere, or will be looked at again."""
        self.note_status(job)
        self._elsewhere.pop(job.name, None)
        has_ended = False
        if job.folder.exists():
            try:
                with FolderLock(job.folder, patient=False):
                    has_ended = self._has_ended(job)
                    if not has_ended and state_of(job) in FAILED:
                        (job.folder / STATUS).unlink()  # only the new attempt counts
            except (OSError, StorageError):
                pass  # the job says so itself
            except BusyError:
                self._elsewhere[job.name] = job
                if job.name in self._killed and self._killed[job.name][1] != read_lease(job.folder / LEASE):
                    del self._killed[job.name]  # its owner is alive, and so not the process that was killed
                return False
        if has_ended:
            self._on_end_elsewhere(job)
            return False
        self._here.add(job.name)
        return True

    def _has_ended(self, job: Job) -> bool:
        """Whether the job, whose folder is locked, was ended by another process since this launch began."""
        state, killed = state_of(job), self._killed.pop(job.name, None)
        if killed is not None and state not in ENDED:
            trained = job_state(job.folder) == "finished"  # and was to be evaluated
            record_status(job.folder, "finished" if trained else "killed", killed[0])
            return True
        return state in ENDED or (state in (*FAILED, UNEVALUATED) and read_status(job.folder) != self._first[job.name])

    def put_back(self, job: Job, error: str | None) -> bool:
        """Note that a job was given back by its launcher. Whether another process has it, so that it is not at its end.

        ``error``: of a job that was killed. If its folder is still leased, by a machine that this one cannot ask, it is
        recorded when the lease expires.
        """
        self._here.discard(job.name)
        if error is not None and error.startswith(f"{BusyError.__name__}: "):
            self._elsewhere[job.name] = job
            return True
        state = state_of(job)
        if self._is_stopping() or state in ENDED or (error is None and state in FAILED) or not job.folder.exists():
            return False
        try:
            with FolderLock(job.folder, patient=False):
                if error is not None or state not in ("waiting", "running"):
                    return False
        except (OSError, StorageError):
            return False
        except BusyError:
            if error is not None:
                self._killed[job.name] = error, read_lease(job.folder / LEASE)
        self._elsewhere[job.name] = job
        return True
