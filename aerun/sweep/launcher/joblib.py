"""Processes on this machine, by joblib's own executor.

Every slot has an executor of its own with a single worker: a worker that is killed breaks nobody else's, it is known
which job it had, and the device and the number of threads are the slot's. A worker imports torch once and keeps it.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from aerun.config.schema import Count
from aerun.errors import AerunError
from aerun.sweep.job import Job
from aerun.sweep.launcher import Ended, device, raised
from aerun.sweep.remote import WORK, all_ready, call, ready

POLL = 0.2  # seconds; Python handles signals between waits
WATCH = 0.5  # seconds between two looks of a worker for its launcher
# A worker that is killed cannot give back its semaphores; that the system does so instead is no news.
SILENCED = "ignore:resource_tracker:UserWarning"


_calling = threading.Lock()


@dataclass
class Joblib:
    """``n_jobs`` processes of ``threads`` threads each. By default they share out the cores that there are."""

    n_jobs: Count | None
    threads: Count | None
    gpus: list[int] = field(default_factory=list, metadata={"internal": True})

    detached = False
    local = True

    def __post_init__(self) -> None:
        self._executors: dict[int, ProcessPoolExecutor] = {}
        self._running: dict[Future[None], tuple[int, Job]] = {}

    @property
    def slots(self) -> int:
        """As asked for, else one a device, else one a core."""
        return self.n_jobs or len(self.gpus) or _cores()

    def warm(self, jobs: int) -> None:
        """Let the workers import torch; the first, which looks at the points next, no more than that."""
        for slot in range(min(self.slots, jobs)):
            self._submit(slot, all_ready if slot else ready)

    def here(self, target: str, *arguments: Any) -> Any:
        """In the first worker."""
        try:
            return self._submit(0, call, target, *arguments).result()
        except TerminatedWorkerError as error:
            raise AerunError(f"the process that looks at the points was killed: {_killer(error)}") from error

    def run(self, jobs: Iterator[Job], sweep: Path, at_once: int | None = None) -> Iterator[Ended]:
        """As slots become free."""
        free = list(range(min(self.slots, at_once or self.slots)))[::-1]
        running = self._running
        exhausted = False
        while running or not exhausted:
            while free and not exhausted:
                job = next(jobs, None)
                if job is None:
                    exhausted = True
                    break
                slot = free.pop()
                running[self._submit(slot, call, WORK, job, sweep, os.getpid())] = slot, job
            for future in wait(running, POLL, FIRST_COMPLETED).done:
                slot, job = running.pop(future)
                free.append(slot)
                yield job, self._death(slot, future)

    def _submit(self, slot: int, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if slot not in self._executors:
            threads = self.threads or max(1, _cores() // self.slots)
            environment = {"OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
            if self.gpus:
                environment["CUDA_VISIBLE_DEVICES"] = device(self.gpus, slot)
            self._executors[slot] = ProcessPoolExecutor(
                1, env=environment, initializer=_begin_worker, initargs=(os.getpid(),)
            )
        try:
            future: Future[Any] = self._executors[slot].submit(_called, function, *arguments)
        except TerminatedWorkerError:  # it was killed while it had nothing to do
            self._executors.pop(slot).shutdown(wait=False, kill_workers=True)
            return self._submit(slot, function, *arguments)
        return future

    def _death(self, slot: int, future: Future[None]) -> str | None:
        """What killed the slot's worker, if anything did; the slot then gets a new one."""
        error = future.exception()
        if error is None:
            return None
        if not isinstance(error, TerminatedWorkerError):
            return raised(error)
        self._executors.pop(slot).shutdown(wait=False, kill_workers=True)
        return f"its process ended by {_killer(error)}"

    def withdraw(self) -> None:
        """Jobs are taken as they begin."""

    def farewell(self) -> str:
        """Nothing goes on."""
        return ""

    def __enter__(self) -> Self:
        warnings = filter(None, (os.environ.get("PYTHONWARNINGS"), SILENCED))
        os.environ["PYTHONWARNINGS"] = ",".join(warnings)  # of the processes to come
        return self

    def __exit__(self, *_: object) -> None:
        for executor in self._executors.values():
            # A worker with a job is ended on the spot, since someone is in a hurry; one without has nothing to lose,
            # and would take a second to take torch down.
            executor.shutdown(wait=True, kill_workers=True)
        self._executors.clear()


def _killer(error: TerminatedWorkerError) -> str:
    codes = re.findall(r"\w+\(-?\d+\)", str(error))
    return f"{', '.join(codes) or 'itself'}; SIGKILL is often the lack of memory"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin_worker(launcher: int) -> None:
    """Ctrl-C reaches all processes of a terminal; a worker heeds it only while it has a run, which saves itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after, args=(launcher,), daemon=True).start()


def _end_after(launcher: int) -> None:
    """In a worker: end when the launcher has died, which would otherwise go unnoticed; a run is saved first."""
    while os.getppid() == launcher:
        time.sleep(WATCH)
    with _calling:
        os._exit(1)


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a worker: a call that is not to be cut off."""
    with _calling:
        return function(*arguments)
