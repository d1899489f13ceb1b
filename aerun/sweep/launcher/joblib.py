"""Run jobs in processes on this machine, with joblib's executor.

Every slot has its own executor with one worker, for three reasons: a killed worker does not break others, its job is
known, and each slot has its own device and number of threads. A worker imports torch once for all of its jobs.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from aerun.contracts import Count
from aerun.errors import AerunError
from aerun.sweep.job import Job
from aerun.sweep.launcher.contract import Ended, Queue, format_error, take, visible_device
from aerun.sweep.remote import call_by_name, import_all, import_job_worker

POLL_S = 0.2  # Python handles signals between two waits
PARENT_POLL_S = 0.5  # between a worker's checks that its launcher is alive
# A killed worker does not release its semaphores. The system does, and the warning about it is not useful.
IGNORED_WARNINGS = "ignore:resource_tracker:UserWarning"

_calling = threading.Lock()


@dataclass
class Joblib:
    """``n_jobs`` processes of ``threads`` threads each. By default, one process for each core, with equal threads."""

    n_jobs: Count | None
    threads: Count | None
    gpus: list[int] | None = field(default_factory=list, metadata={"internal": True})

    detached = False
    local = True

    def __post_init__(self) -> None:
        self._executors: dict[int, ProcessPoolExecutor] = {}
        self._running: dict[Future[None], tuple[int, Job]] = {}

    @property
    def slots(self) -> int:
        """``n_jobs``; by default one for each device of ``gpus``, or else for each core."""
        return self.n_jobs or len(self.gpus or ()) or _cores()

    def warm(self, jobs: int) -> None:
        """Make the workers import what jobs need. The first imports less, because it checks the points next."""
        for slot in range(min(self.slots, jobs)):
            self._submit(slot, import_all if slot else import_job_worker)

    def call(self, target: str, *arguments: Any) -> Any:
        """Call the function in the first worker."""
        try:
            return self._submit(0, call_by_name, target, *arguments).result()
        except TerminatedWorkerError as error:
            raise AerunError(f"the process that checks the points was killed: {_exit_codes(error)}") from error

    def run(self, jobs: Queue, sweep: Path, place: Path, at_once: int | None = None) -> Iterator[Ended]:
        """Run each job in the next free slot."""
        free = list(range(min(self.slots, at_once or self.slots)))[::-1]
        running = self._running
        exhausted = False
        while running or not exhausted:
            started, exhausted = ([], True) if exhausted else take(jobs, len(free))
            for job in started:
                slot = free.pop()
                running[self._submit(slot, call_by_name, job.worker, job, place, os.getpid())] = slot, job
            if not running and not exhausted:
                time.sleep(POLL_S)
            for future in wait(running, POLL_S, FIRST_COMPLETED).done:
                slot, job = running.pop(future)
                free.append(slot)
                yield job, self._error(slot, future)

    def _submit(self, slot: int, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if slot not in self._executors:
            threads = self.threads or max(1, _cores() // self.slots)
            environment = {"OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
            if self.gpus:
                environment["CUDA_VISIBLE_DEVICES"] = visible_device(self.gpus, slot)
            self._executors[slot] = ProcessPoolExecutor(
                1, env=environment, initializer=_begin_worker, initargs=(os.getpid(),)
            )
        try:
            future: Future[Any] = self._executors[slot].submit(_call, function, *arguments)
        except TerminatedWorkerError:  # it was killed while it was idle
            self._executors.pop(slot).shutdown(wait=False, kill_workers=True)
            return self._submit(slot, function, *arguments)
        return future

    def _error(self, slot: int, future: Future[None]) -> str | None:
        """The error of the call; None if there is none. A killed worker is replaced with the slot's next call."""
        error = future.exception()
        if error is None:
            return None
        if not isinstance(error, TerminatedWorkerError):
            return format_error(error)
        self._executors.pop(slot).shutdown(wait=False, kill_workers=True)
        return f"its process ended by {_exit_codes(error)}"

    def cancel_waiting(self) -> None:
        """Does nothing: a job is taken only when it can start."""

    def detached_note(self) -> str:
        """Empty: no job continues without the launcher."""
        return ""

    def __enter__(self) -> Self:
        warnings = filter(None, (os.environ.get("PYTHONWARNINGS"), IGNORED_WARNINGS))
        os.environ["PYTHONWARNINGS"] = ",".join(warnings)  # for the worker processes
        return self

    def __exit__(self, *_: object) -> None:
        for executor in self._executors.values():
            # Kill workers: one with a job because the user asked for it, and an idle one because a regular exit takes a
            # second with torch loaded.
            executor.shutdown(wait=True, kill_workers=True)
        self._executors.clear()


def _exit_codes(error: TerminatedWorkerError) -> str:
    """The exit codes in joblib's error message."""
    codes = re.findall(r"\w+\(-?\d+\)", str(error))
    return f"{', '.join(codes) or 'itself'}; SIGKILL often means out of memory"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _begin_worker(launcher: int) -> None:
    """Ignore Ctrl-C, which reaches all processes of a terminal: a running job has its own handler, which saves it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after, args=(launcher,), daemon=True).start()


def _exit_after(launcher: int) -> None:
    """In a worker: exit after the launcher has died. A running job is saved first."""
    while os.getppid() == launcher:
        time.sleep(PARENT_POLL_S)
    with _calling:
        os._exit(1)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a worker: call the function; ``_exit_after`` waits for it.

    Later collections of garbage skip what stays, such as imported modules: joblib collects after every call, and that
    takes 0.13 s with torch and matplotlib.
    """
    with _calling:
        result = function(*arguments)
        gc.collect()
        gc.freeze()
        return result
