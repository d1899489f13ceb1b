"""Run the jobs of a sweep by its launcher: start and stop them, and record how they end."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from aerun.base.arguments import whole_number
from aerun.base.files import write_text
from aerun.base.signals import Stopped
from aerun.errors import AerunError, StorageError
from aerun.runs.folder import record_status
from aerun.sweep.job import STOP_FILE, Job
from aerun.sweep.job_index import ENDED, FAILED, UNEVALUATED, job_state, state_of
from aerun.sweep.job_queue import JobQueue
from aerun.sweep.launcher.contract import Launcher
from aerun.sweep.sweep_report import (
    continue_command,
    failed_protocols,
    job_error,
    job_line,
    print_best_runs,
    print_disk,
    print_shares,
    print_states,
    print_table,
)
from aerun.sweep.sweep_settings import SweepSettings


class SweepError(AerunError):
    """Some jobs have failed or have not ended; all others are done."""


@dataclass
class JobRunner:
    """Runs jobs of the sweep in ``folder``. ``words``: the command that was typed."""

    folder: Path
    settings: SweepSettings
    launcher: Launcher
    words: list[str]
    place: Path  # of this launcher
    on_end: Callable[[Job, str], None] | None = None  # called for each job that ends, here or elsewhere, with its state
    failures: int = 0
    stopped: int | None = None  # the signal that requested the stop
    _total: int = 0
    _ended: int = 0
    _trained: set[str] = field(default_factory=set)  # jobs that had finished before, and are only evaluated
    _unwritten: dict[str, str] = field(default_factory=dict)  # errors by job whose folder cannot be written
    ended_here: set[str] = field(default_factory=set)  # jobs of this launcher
    ended_elsewhere: list[Job] = field(default_factory=list)  # jobs of other launchers, meanwhile

    def run(self, jobs: Sequence[Job], ended: int) -> None:
        """Run the jobs, after ``ended`` others of the sweep."""
        self.set_count(ended, ended + len(jobs))
        for _ in self.run_as_they_come(iter(jobs), first=jobs):
            pass

    def set_count(self, ended: int, total: int) -> None:
        """Set how many jobs have ended before and how many there are, for the counts in the printed lines."""
        self._total, self._ended = max(ended, total), ended

    def run_as_they_come(
        self, jobs: Iterator[Job | None], at_once: int | None = None, first: Iterable[Job] = ()
    ) -> Iterator[tuple[Job, str]]:
        """Run jobs, taking the next one when there is room for it; yield each with its state when it ends.

        ``first``: jobs whose end in another launcher counts from now on.
        """
        (self.place / STOP_FILE).unlink(missing_ok=True)
        queue = JobQueue(self._note_trained(jobs), self._is_stopping, self._note_end_elsewhere)
        for job in first:
            queue.note_status(job)
        with self._stop_on_signals():
            try:
                yield from self._run(queue, at_once)
            except Stopped as stopped:
                if not self.launcher.detached:
                    raise
                self.stopped = stopped.number

    def _run(self, queue: JobQueue, at_once: int | None) -> Iterator[tuple[Job, str]]:
        for job, error in self.launcher.run(queue, self.folder, self.place, at_once):
            if queue.put_back(job, error):
                continue
            if error is not None and state_of(job) not in ENDED:
                self._record_killed(job, error)
            state = self._state(job)
            if state in (*ENDED, *FAILED):
                self.ended_here.add(job.name)
            self._note_end(job, state)
            yield job, state

    def _note_end(self, job: Job, state: str) -> None:
        self._print_line(job, state)
        self.failures += state in FAILED
        if self.on_end is not None:
            self.on_end(job, state)
        if state in FAILED and self._too_many_failures():
            self.launcher.cancel_waiting()

    def _note_end_elsewhere(self, job: Job) -> None:
        self.ended_elsewhere.append(job)
        self._note_end(job, self._state(job))

    def _record_killed(self, job: Job, error: str) -> None:
        """Record the error of a job that could not do so itself; in memory, if its folder cannot be written."""
        try:
            job.folder.mkdir(exist_ok=True)
            trained = job_state(job.folder) == "finished"
            record_status(job.folder, "finished" if trained else "killed", error)
        except (OSError, StorageError):
            self._unwritten[job.name] = error

    def _state(self, job: Job) -> str:
        return "failed" if job.name in self._unwritten else state_of(job)

    def _note_trained(self, jobs: Iterator[Job | None]) -> Iterator[Job | None]:
        """The same jobs; those that have finished are only evaluated."""
        for job in jobs:
            if job is not None and state_of(job) == UNEVALUATED:  # and not finished elsewhere meanwhile
                self._trained.add(job.name)
            yield job

    def _is_stopping(self) -> bool:
        return (self.place / STOP_FILE).exists() or self._too_many_failures()

    def _too_many_failures(self) -> bool:
        allowed = self.settings.allowed_failures
        return allowed is not None and self.failures >= allowed

    def _print_line(self, job: Job, state: str) -> None:
        if state in ("waiting", "running"):  # it was handed out, but not started because the sweep is stopping
            return
        self._ended += 1
        width = len(str(self._total)) if self._total else 1
        count = f"[{self._ended:{width}}/{self._total}]" if self._total else f"[{self._ended}]"
        shown = "evaluated" if state == "finished" and job.name in self._trained else state
        print(job_line(job, shown, count, self._unwritten.get(job.name)), flush=True)

    @contextlib.contextmanager
    def _stop_on_signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM makes running jobs save and stop; a second one ends them at once."""

        def request_stop(number: int, frame: FrameType | None) -> None:
            if self.stopped is not None or self.launcher.detached:
                raise Stopped(number)
            self.stopped = number
            write_text(self.place / STOP_FILE, "")
            print("\naerun: stopping; running jobs are saved first (again: stop at once)", file=sys.stderr, flush=True)

        # Only the main thread gets signals, and only there may handlers be set.
        here = threading.current_thread() is threading.main_thread()
        handled = (signal.SIGINT, signal.SIGTERM) if here else ()
        previous = {number: signal.signal(number, request_stop) for number in handled}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            stop = self.place / STOP_FILE
            if self.stopped is None and stop.exists():
                self.stopped = whole_number(stop.read_text()) or signal.SIGINT  # a launcher may have written the signal

    def report(self, jobs: Iterable[Job], skipped: Sequence[tuple[str, str]] = ()) -> None:
        """Print the states of all jobs, the best results and the command that continues the sweep.

        Raises Stopped after a signal, SweepError unless all jobs ended and no protocol failed.
        """
        jobs = list(jobs)
        states = {job.name: self._state(job) for job in jobs}
        failed = [(job, states[job.name]) for job in jobs if states[job.name] in FAILED]
        print_states(self.folder, states, len(skipped))
        if self.ended_elsewhere:
            print_shares(len(self.ended_here), self.ended_elsewhere)
        print_disk(self.folder, states, self.words)
        if Counter(states.values())["finished"] > 1:
            print_best_runs(self.folder, self.words)
        if failed:
            print("\nfailed:")
            print_table(
                [(state, job.label, self._unwritten.get(job.name) or job_error(job.folder)) for job, state in failed]
            )
        protocols = [(job, text) for job in jobs if states[job.name] in ENDED for text in failed_protocols(job.folder)]
        if protocols:
            print("\nfailed protocols:")
            print_table([(job.label, text) for job, text in protocols])
        if self.stopped is not None and self.launcher.detached:
            print(f"\n{self.launcher.detached_note()}")
        unfinished = [name for name, state in states.items() if state not in (*ENDED, *FAILED)]
        if unfinished or failed:
            print(f"\ncontinue    {continue_command(self.folder, self.words)}")
        if self.stopped is not None:
            raise Stopped(self.stopped)
        if failed:
            raise SweepError(f"{len(failed)} of {len(jobs)} jobs failed; their status.json has the traceback")
        if unfinished:
            raise SweepError(f"{len(unfinished)} of {len(jobs)} jobs have not ended, such as {unfinished[0]}")
        if protocols:
            raise SweepError(f"{len(protocols)} protocols failed, see above; all other results are kept")
