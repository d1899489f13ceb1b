"""Launching a sweep's jobs, and telling what became of them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType

from aerun.base.signals import Stopped
from aerun.errors import AerunError, DataError, StorageError
from aerun.runs.folder import STATUS, read_status, read_summary, record_status
from aerun.sweep.index import ENDED, FAILED, state
from aerun.sweep.job import STOP, Job
from aerun.sweep.launcher import Launcher
from aerun.sweep.settings import Sweep

SHOWN = 10  # results at the end of a sweep


class SweepError(AerunError):
    """Jobs have failed, or have not ended; the others are done."""


@dataclass
class Drive:
    """One launching of the jobs of a sweep's folder."""

    folder: Path
    sweep: Sweep
    launcher: Launcher
    words: list[str]  # the command, for going on with it
    failures: int = 0
    stopped: int | None = None  # the signal that asked for it
    _total: int = 0
    _ended: int = 0
    _unwritten: dict[str, str] = field(default_factory=dict)  # causes of failures, by job, that no folder holds

    def run(self, jobs: Sequence[Job], before: int) -> None:
        """Run the jobs; so many of the sweep had ended before."""
        self.count(before, before + len(jobs))
        for _ in self.outcomes(iter(jobs)):
            pass

    def count(self, before: int, total: int) -> None:
        """So many jobs of so many have ended already: what the lines to come count from."""
        self._total, self._ended = max(before, total), before

    def outcomes(self, jobs: Iterator[Job], at_once: int | None = None) -> Iterator[tuple[Job, str]]:
        """Run jobs as they come; each with its state as it ends."""
        (self.folder / STOP).unlink(missing_ok=True)
        with self._signals():
            try:
                yield from self._outcomes(jobs, at_once)
            except Stopped as stopped:
                if not self.launcher.detached:
                    raise
                self.stopped = stopped.number

    def _outcomes(self, jobs: Iterator[Job], at_once: int | None) -> Iterator[tuple[Job, str]]:
        for job, death in self.launcher.run(self._beginning(jobs), self.folder, at_once):
            if death is not None and state(job.folder) not in ENDED:
                self._record(job, death)
            became = self._state(job)
            self._tell(job, became)
            self.failures += became in FAILED
            if became in FAILED and self._enough():
                self.launcher.withdraw()
            yield job, became

    def _record(self, job: Job, death: str) -> None:
        """Note what the job could not note itself; here, if its folder cannot be written."""
        try:
            job.folder.mkdir(exist_ok=True)
            record_status(job.folder, "killed", death)
        except (OSError, StorageError):
            self._unwritten[job.name] = death

    def _state(self, job: Job) -> str:
        return "failed" if job.name in self._unwritten else state(job.folder)

    def _beginning(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """The jobs, until the sweep is stopped or too many have failed."""
        for job in jobs:
            if (self.folder / STOP).exists() or self._enough():
                return
            if state(job.folder) in FAILED:
                with contextlib.suppress(OSError):
                    (job.folder / STATUS).unlink()  # how the new attempt ends is what counts
            yield job

    def _enough(self) -> bool:
        """Whether too many have failed."""
        allowed = self.sweep.allowed_failures
        return allowed is not None and self.failures >= allowed

    def _tell(self, job: Job, became: str) -> None:
        """A line for the job that has ended."""
        if became == "waiting":  # it was taken, and not begun, as the sweep was being stopped
            return
        self._ended += 1
        width = len(str(self._total)) if self._total else 1
        count = f"[{self._ended:{width}}/{self._total}]" if self._total else f"[{self._ended}]"
        result = self._unwritten.get(job.name) or _result(job.folder)
        parts = [count, f"{became:<9}", job.label, result, _duration(job.folder)]
        print("  ".join(part for part in parts if part), flush=True)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM asks the running jobs to save and stop, a second ends them on the spot."""

        def note(number: int, frame: FrameType | None) -> None:
            if self.stopped is not None or self.launcher.detached:
                raise Stopped(number)
            self.stopped = number
            (self.folder / STOP).touch()
            print("\naerun: stopping; what runs is saved first (once more: at once)", file=sys.stderr, flush=True)

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            stop = self.folder / STOP
            if self.stopped is None and stop.exists():
                self.stopped = int(stop.read_text() or signal.SIGINT)  # a launcher may have written which it was

    def report(self, jobs: Iterable[Job], skipped: Sequence[tuple[str, str]] = ()) -> None:
        """Say what became of all jobs, and how to go on. SweepError unless all ended well, Stopped after a signal."""
        jobs = list(jobs)
        states = {job.name: self._state(job) for job in jobs}
        failed = [(job, states[job.name]) for job in jobs if states[job.name] in FAILED]
        counts = Counter(states.values())
        shown = os.path.relpath(self.folder)
        text = ", ".join(f"{count} {became}" for became, count in counts.most_common())
        print(f"\n{shown}: {number_of(jobs)}: {text}" + (f"; {len(skipped)} left out" if skipped else ""))
        if Counter(states.values())["finished"] > 1:
            self._results()
        if failed:
            print("\nfailed:")
            table([(became, job.label, self._unwritten.get(job.name) or _cause(job.folder)) for job, became in failed])
        silent = [(job, why) for job in jobs if states[job.name] in ENDED for why in _unanswered(job.folder)]
        if silent:
            print("\nprotocols without an answer:")
            table([(job.label, why) for job, why in silent])
        if self.stopped is not None and self.launcher.detached:
            print(f"\n{self.launcher.farewell()}")
        unfinished = [name for name, became in states.items() if became not in (*ENDED, *FAILED)]
        if unfinished or failed:
            print(f"\ngo on       {self.command()}")
        if self.stopped is not None:
            raise Stopped(self.stopped)
        if failed:
            raise SweepError(f"{len(failed)} of {len(jobs)} jobs failed; their status.json has the traceback")
        if unfinished:
            raise SweepError(f"{len(unfinished)} of {len(jobs)} jobs have not ended, such as {unfinished[0]}")
        if silent:
            raise SweepError(f"{len(silent)} protocols gave no answer, see above; all else of the runs is there")

    def _results(self) -> None:
        """The best finished runs of the whole sweep, averaged over seeds."""
        from aerun.compare import Question, collect, compare
        from aerun.compare.table_output import format_lines

        comparison = compare(collect([self.folder]), Question())
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        rows, baselines, notes = format_lines(comparison, width)
        shown = rows[: SHOWN + 2]
        if len(comparison.groups) > SHOWN:
            shown.append(f"and {len(comparison.groups) - SHOWN} more: {self._compare()}")
        for block in (shown, baselines[:SHOWN], notes[:SHOWN]):
            if block:
                print("\n" + "\n".join(block))

    def _compare(self) -> str:
        """What to type for all of the results."""
        script = Path(self.words[0])
        words = ["python", str(script.with_name("compare.py"))] if script.suffix == ".py" else ["aerun-compare"]
        return shlex.join([*words, os.path.relpath(self.folder)])

    def command(self) -> str:
        """What to type to go on with this sweep."""
        script, *words = [word for word in self.words if not word.startswith("sweep.name=")]
        if not os.access(script, os.X_OK):  # it was given to Python
            name = Path(sys.executable).name
            words.insert(0, script)
            script = name if shutil.which(name) == sys.executable else sys.executable
        return shlex.join([script, *words, f"sweep.name={self.folder.name}"])


def number_of(jobs: Sequence[Job]) -> str:
    """``1 job``, ``24 jobs``."""
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)}"


def _result(folder: Path) -> str:
    """The test error of a finished run, or why there is none."""
    with contextlib.suppress(DataError, KeyError, TypeError, ValueError):
        summary = read_summary(folder)
        if summary is not None:
            silent = ", ".join(summary.get("unanswered", {}))
            return f"test MSE {summary['test']['mse']:.6f}" + (f"; no answer from protocol {silent}" if silent else "")
    return _cause(folder)


def _unanswered(folder: Path) -> list[str]:
    """The protocols of a finished run that gave no answer, and why."""
    with contextlib.suppress(DataError):
        summary = read_summary(folder) or {}
        return [f"protocol.{name}: {why}" for name, why in summary.get("unanswered", {}).items()]
    return []


def _cause(folder: Path) -> str:
    status = read_status(folder) or {}
    text = " ".join(str(status.get("error") or "").split())
    return re.sub(r"^(Config|Data|Diverged|Storage|Pruned)Error: ", "", text)  # the sentence says it all


def _duration(folder: Path) -> str:
    """How long the last attempt took, by its own clock."""
    status = read_status(folder) or {}
    with contextlib.suppress(KeyError, TypeError, ValueError):
        seconds = datetime.fromisoformat(status["time"]) - datetime.fromisoformat(status["began"])
        return f"{seconds.total_seconds():.0f} s"
    return ""


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; the last is as wide as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  " + "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))]).rstrip())
