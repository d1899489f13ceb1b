"""Run jobs on a Slurm cluster, submitted as one array with submitit.

The result of a job is read from its folder, and squeue says whether Slurm still has the job. That works without
accounting and detects killed jobs. (Slurm's own state is COMPLETED even if the run has failed.)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self

from aerun.base.files import make_subfolder, write_text
from aerun.contracts import Count, NonNegativeInt, Positive
from aerun.errors import ConfigError
from aerun.sweep.job import Job
from aerun.sweep.job_index import ENDED, FAILED, state_of
from aerun.sweep.launcher.contract import Ended
from aerun.sweep.remote import call_by_name

MAX_ARRAY_SIZE = 1000  # less than the limit of a default Slurm configuration, 1001
LOG_FOLDER, IDS_FILE = ".slurm", ".slurm/jobs.json"


class Task:
    """Runs on the node. submitit calls ``checkpoint`` when it requeues a job."""

    def __call__(self, job: Job, sweep: Path) -> None:
        """Run the job. When its time is over, save it first and then pass the signal on to submitit."""
        number = call_by_name(job.worker, job, sweep, None, ("SIGUSR2",))
        if number == signal.SIGUSR2:
            os.kill(os.getpid(), number)

    def checkpoint(self, job: Job, sweep: Path) -> Any:
        """The same task again; the job continues in its folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job, sweep)


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

    gpus: ClassVar[list[int] | None] = None
    detached = True
    local = False

    def __post_init__(self) -> None:
        if self.signal_delay_s >= 60 * self.timeout_min:
            raise ValueError(
                f"signal_delay_s={self.signal_delay_s}: must be less than timeout_min={self.timeout_min} "
                f"({60 * self.timeout_min} s), or each job is requeued as soon as it starts"
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

    def run(self, jobs: Iterator[Job], sweep: Path, at_once: int | None = None) -> Iterator[Ended]:
        """Submit the jobs that are not in the queue yet, and wait for all of them.

        An array is submitted when no other of the sweep is in the queue, so that ``array_parallelism`` and the limits
        of the cluster hold for the whole sweep.
        """
        name = _array_name(sweep)
        make_subfolder(sweep, LOG_FOLDER)
        self._ids = _read_ids(sweep)
        waiting: list[Job] = []
        pending: dict[str, tuple[Job, int]] = {}  # with the number of times it was missing in the queue
        while True:
            if at_once is not None:
                waiting += islice(jobs, max(0, at_once - len(pending) - len(waiting)))
            elif not waiting and not pending:
                waiting = list(islice(jobs, MAX_ARRAY_SIZE))
            queued = _queued(name)
            pending |= {job.name: (job, 0) for job in waiting if self._ids.get(job.name) in queued}
            waiting = [job for job in waiting if job.name not in pending]
            if waiting and (at_once is not None or not queued):
                self._submit(waiting, sweep, name)
                pending |= {job.name: (job, 0) for job in waiting}
                waiting, queued = [], _queued(name)
            if not pending and not waiting:
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
            if pending or waiting:
                time.sleep(self.poll_s)

    def cancel_waiting(self) -> None:
        """Cancel the jobs that wait in the queue."""
        self._cancelled = True
        subprocess.run(["scancel", "--state=PENDING", *self._ids.values()], capture_output=True)

    def detached_note(self) -> str:
        """Which jobs continue without the launcher, and how to cancel them."""
        arrays = sorted({number.partition("_")[0] for number in self._ids.values()}, key=int)
        return f"the jobs continue in Slurm: {', '.join(arrays)}\ncancel      scancel {' '.join(arrays)}"

    def _submit(self, jobs: Sequence[Job], sweep: Path, name: str) -> None:
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
            slurm_array_parallelism=self.array_parallelism,
            slurm_setup=[*setup, *self.setup],
            slurm_additional_parameters={**given, **(self.additional_parameters or {})},
            **({"gpus_per_node": self.gpus_per_node} if self.gpus_per_node else {}),
        )
        try:
            submitted = executor.map_array(Task(), list(jobs), [sweep] * len(jobs))
        except Exception as error:
            raise ConfigError(f"hydra.launcher: Slurm rejected the jobs: {' '.join(str(error).split())}") from error
        self._ids |= {job.name: entry.job_id for job, entry in zip(jobs, submitted, strict=True)}
        write_text(sweep / IDS_FILE, json.dumps(self._ids, indent=1) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def check_not_queued(sweep: Path) -> None:
    """ConfigError if jobs of the sweep are in Slurm's queue, so that another launcher would run them a second time."""
    if (sweep / IDS_FILE).exists() and shutil.which("squeue") is not None and (queued := _queued(_array_name(sweep))):
        arrays = " ".join(sorted({number.partition("_")[0] for number in queued}))
        raise ConfigError(
            f"{sweep}: Slurm still has jobs of this sweep; use hydra/launcher=slurm, or cancel them first: "
            f"scancel {arrays}"
        )


def _import_from(root: Path) -> list[str]:
    """Lines of shell after which aerun is imported from ``root``, if that is a checkout that is not installed."""
    if "site-packages" in root.parts:
        return []
    return [f'export PYTHONPATH={shlex.quote(str(root))}"${{PYTHONPATH:+:$PYTHONPATH}}"']


def _array_name(sweep: Path) -> str:
    return re.sub(r"[^\w.+-]+", "_", f"aerun-{sweep.name}")  # squeue splits names at commas


def _queued(name: str) -> set[str]:
    """The ids of a sweep's jobs in the queue. squeue is repeated a few times if it fails."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i", f"--name={name}"]
    for wait in (1, 5, 15, 60, None):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return {word for word in done.stdout.split() if word[0].isdecimal()}
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
