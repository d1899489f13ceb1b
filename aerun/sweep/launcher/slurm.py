"""Run jobs on a Slurm cluster, submitted as one array with submitit.

The result of a job is read from its folder, and squeue says whether Slurm still has the job. That works without
accounting and detects killed jobs. (Slurm's own state is COMPLETED even if the run has failed.)
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from aerun.base.files import make_subfolder, write_text
from aerun.contracts import Count, NonNegativeInt, Positive
from aerun.errors import BusyError, ConfigError
from aerun.sweep.job import Job
from aerun.sweep.job_index import ENDED, FAILED, state_of
from aerun.sweep.launcher.contract import Ended, Queue, take
from aerun.sweep.launcher_place import waiting_lock
from aerun.sweep.remote import call_by_name

MAX_ARRAY_SIZE = 1000  # if the cluster does not say; less than the limit of a default Slurm configuration, 1001
# What sbatch says if the user has as many jobs as allowed, or the cluster has.
FULL = r"Max\w*Submit|job submit limit|temporarily unable to accept job|MaxJobCount"
EARLY_S = 60  # Slurm sends a signal up to so many seconds before it is due
LOG_FOLDER, IDS_FILE = ".slurm", ".slurm/jobs.json"


class Task:
    """Runs on the node. submitit calls ``checkpoint`` when it requeues a job."""

    def __call__(self, job: Job, place: Path) -> None:
        """Run the job. When its time is over, save it first and then pass the signal on to submitit."""
        number = None
        with contextlib.suppress(BusyError):  # another launcher runs it
            number = call_by_name(job.worker, job, place, None, ("SIGUSR2",))
        if number == signal.SIGUSR2:
            os.kill(os.getpid(), number)

    def checkpoint(self, job: Job, place: Path) -> Any:
        """The same task again; the job continues in its folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job, place)


@dataclass
class Slurm:
    """One array of single-node jobs. The keys are those of submitit and sbatch."""

    partition: str | None
    account: str | None
    qos: str | None
    timeout_min: Count
    max_num_timeout: NonNegativeInt
    signal_delay_s: Count
    cpus_per_task: Count
    mem_gb: Positive
    gpus_per_node: Count | None
    array_parallelism: Count
    setup: list[str]
    additional_parameters: dict | None  # type: ignore[type-arg]
    poll_s: Positive
    _cancelled: bool = field(default=False, metadata={"internal": True})
    _ids: dict[str, str] = field(default_factory=dict, metadata={"internal": True})
    _throttle: dict[int, int] = field(default_factory=dict, metadata={"internal": True})  # by array

    gpus: ClassVar[list[int] | None] = None
    detached = True
    local = False

    def __post_init__(self) -> None:
        if self.signal_delay_s + EARLY_S >= 60 * self.timeout_min:
            raise ValueError(
                f"signal_delay_s={self.signal_delay_s}: must be below {60 * self.timeout_min - EARLY_S}, "
                f"{EARLY_S} s less than timeout_min={self.timeout_min}: Slurm signals up to {EARLY_S} s early, and "
                "a job would be requeued as soon as it starts"
            )
        if shutil.which("sbatch") is None:
            raise ConfigError("hydra/launcher=slurm: sbatch not found; start this on a node of the cluster")
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise ConfigError("hydra/launcher=slurm: needs submitit; pip install 'aerun[slurm]'") from error

    @property
    def slots(self) -> int:
        """How many jobs of the array run at the same time."""
        return self.array_parallelism

    def warm(self, jobs: int) -> None:
        """Does nothing."""

    def call(self, target: str, *arguments: Any) -> Any:
        """Call the function in this process."""
        return call_by_name(target, *arguments)

    def run(self, jobs: Queue, sweep: Path, place: Path, at_once: int | None = None) -> Iterator[Ended]:
        """Submit the jobs that are not in the queue yet, and wait for all of them.

        A sweep is several arrays if it is larger than the cluster allows. ``array_parallelism`` holds for all of them
        together: an array is submitted when no job of the earlier ones waits, and it may use what those leave.
        """
        name, most = _array_name(sweep), at_once or _max_array_size()
        if "%" in str(sweep):
            raise ConfigError(
                f"hydra/launcher=slurm: {sweep}: Slurm replaces what follows % in a path; name it otherwise"
            )
        make_subfolder(sweep, LOG_FOLDER)
        waiting: list[Job] = []
        pending: dict[str, tuple[Job, int]] = {}  # with the number of times it was missing in the queue
        exhausted = False
        while True:
            if not exhausted:
                room = most - len(waiting) - (len(pending) if at_once else 0)
                taken, exhausted = take(jobs, room)
                waiting += taken
            with waiting_lock(sweep / LOG_FOLDER):  # or another launcher may submit the same jobs
                self._ids = _read_ids(sweep)
                queued = _queued(name)
                pending |= {job.name: (job, 0) for job in waiting if self._ids.get(job.name) in queued}
                waiting = [job for job in waiting if job.name not in pending]
                room = self.array_parallelism - len(queued)
                if waiting and room > 0 and (at_once or "PENDING" not in queued.values()):
                    submitted = self._submit_most(waiting, sweep, place, name, room)
                    pending |= {job.name: (job, 0) for job in submitted}
                    waiting, queued = waiting[len(submitted) :], _queued(name)
            self._raise_throttle(queued)
            if exhausted and not pending and not waiting:
                return
            for job, missing in list(pending.values()):
                ended, is_gone = state_of(job) in ENDED + FAILED, self._ids[job.name] not in queued
                pending[job.name] = job, missing + 1 if is_gone else 0
                # Checked twice, because a network file system may show the last status late.
                if (ended and is_gone) or missing >= 1:
                    del pending[job.name]
                    expected = ("stopped", "waiting") if self._cancelled else ("stopped",)
                    is_known = ended or state_of(job) in expected
                    yield job, None if is_known else _describe_end(self._ids[job.name])
            if pending or waiting or not exhausted:
                time.sleep(self.poll_s)

    def _submit_most(self, jobs: Sequence[Job], sweep: Path, place: Path, name: str, at_once: int) -> Sequence[Job]:
        """Submit as many of the jobs as the limits of the cluster allow, and return those."""
        count = len(jobs)
        while count:
            try:
                self._submit(jobs[:count], sweep, place, name, at_once)
                return jobs[:count]
            except ConfigError as error:
                if re.search(FULL, str(error)) is None:
                    raise
                if count == 1 and not self._ids:
                    print(f"waiting: {error}", file=sys.stderr, flush=True)
                count //= 2
        return []

    def _raise_throttle(self, queued: Mapping[str, str]) -> None:
        """Let the newest array use what the others have left since it was submitted."""
        arrays = Counter(int(number.partition("_")[0]) for number in queued)
        if len(arrays) == 0:
            return
        newest = max(arrays)
        room = max(1, self.array_parallelism - (len(queued) - arrays[newest]))
        if self._throttle.get(newest, room) != room:
            subprocess.run(["scontrol", "update", f"JobId={newest}", f"ArrayTaskThrottle={room}"], capture_output=True)
            self._throttle[newest] = room

    def cancel_waiting(self) -> None:
        """Cancel the jobs that wait in the queue."""
        self._cancelled = True
        subprocess.run(["scancel", "--state=PENDING", *self._ids.values()], capture_output=True)

    def detached_note(self) -> str:
        """Which jobs continue without the launcher, and how to cancel them."""
        arrays = sorted({number.partition("_")[0] for number in self._ids.values()}, key=int)
        return f"the jobs continue in Slurm: {', '.join(arrays)}\ncancel      scancel {' '.join(arrays)}"

    def _submit(self, jobs: Sequence[Job], sweep: Path, place: Path, name: str, at_once: int) -> None:
        import submitit

        executor = submitit.AutoExecutor(
            sweep / LOG_FOLDER / "%A", cluster="slurm", slurm_max_num_timeout=self.max_num_timeout
        )
        asked = {"partition": self.partition, "account": self.account, "qos": self.qos}
        given = {key: value for key, value in asked.items() if value is not None}
        setup = [f"export OMP_NUM_THREADS={self.cpus_per_task}", *_import_from(Path(__file__).resolve().parents[3])]
        executor.update_parameters(
            name=name,
            timeout_min=self.timeout_min,
            cpus_per_task=self.cpus_per_task,
            mem_gb=self.mem_gb,
            slurm_signal_delay_s=self.signal_delay_s,
            slurm_array_parallelism=at_once,
            slurm_setup=[*setup, *self.setup],
            slurm_additional_parameters={**given, **(self.additional_parameters or {})},
            **({"gpus_per_node": self.gpus_per_node} if self.gpus_per_node else {}),
        )
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what sbatch says, which is in its error
                submitted = executor.map_array(Task(), list(jobs), [place] * len(jobs))
        except Exception as error:
            raise ConfigError(f"hydra.launcher: Slurm rejected the jobs: {' '.join(str(error).split())}") from error
        self._ids |= {job.name: entry.job_id for job, entry in zip(jobs, submitted, strict=True)}
        self._throttle[int(submitted[0].job_id.partition("_")[0])] = at_once
        write_text(sweep / IDS_FILE, json.dumps(self._ids, indent=1) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def check_not_queued(sweep: Path) -> None:
    """ConfigError if jobs of the sweep are in Slurm's queue."""
    if (sweep / IDS_FILE).exists() and shutil.which("squeue") is not None and (queued := _queued(_array_name(sweep))):
        arrays = " ".join(sorted({number.partition("_")[0] for number in queued}))
        raise ConfigError(f"{sweep}: Slurm still has jobs of this sweep; cancel them first: scancel {arrays}")


def _import_from(root: Path) -> list[str]:
    """Lines of shell after which aerun is imported from ``root``, if that is a checkout that is not installed."""
    if "site-packages" in root.parts:
        return []
    return [f'export PYTHONPATH={shlex.quote(str(root))}"${{PYTHONPATH:+:$PYTHONPATH}}"']


def _array_name(sweep: Path) -> str:
    return re.sub(r"[^\w.+-]+", "_", f"aerun-{sweep.name}")  # squeue splits names at commas


def _max_array_size() -> int:
    """The largest number of jobs in an array that the cluster allows."""
    done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.MULTILINE)
    return max(1, min(MAX_ARRAY_SIZE, int(found[1]))) if found else MAX_ARRAY_SIZE


def _queued(name: str) -> dict[str, str]:
    """The jobs of a sweep in the queue: id -> state. squeue is repeated a few times if it fails."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %T", f"--name={name}"]
    for wait in (1, 5, 15, 60, None):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            words = (line.split() for line in done.stdout.splitlines() if line[:1].isdecimal())
            return dict(words)
        if wait is not None:
            time.sleep(wait)
    raise ConfigError(f"hydra/launcher=slurm: squeue failed: {done.stderr.strip()}; the jobs continue")


def _read_ids(sweep: Path) -> dict[str, str]:
    """The Slurm ids of jobs that were submitted earlier, by job name."""
    with contextlib.suppress(OSError, ValueError):
        return {str(name): str(number) for name, number in json.loads((sweep / IDS_FILE).read_text()).items()}
    return {}


def _describe_end(number: str) -> str:
    """Slurm's state of a job that ended without recording its own."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", number], capture_output=True, text=True)
    found = re.findall(r"\b(JobState|Reason|ExitCode)=(\S+)", done.stdout)
    text = ", ".join(f"{key}={value}" for key, value in dict(found).items() if value != "None")
    return (
        f"Slurm job {number} ended without recording an error ({text or 'Slurm no longer knows it'}); see {LOG_FOLDER}"
    )
