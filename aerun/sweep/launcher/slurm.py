"""Jobs of a Slurm cluster, submitted by submitit as one array.

What became of a job is read from its folder, and whether Slurm still has it from squeue: that needs no accounting,
and a job that was killed is noticed. (Slurm itself calls a job completed whose run has failed.)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

from aerun.base.files import write_text
from aerun.config.schema import Count, NonNegativeInt, Positive
from aerun.errors import ConfigError
from aerun.sweep.index import ENDED, FAILED, state
from aerun.sweep.job import Job
from aerun.sweep.launcher import Ended
from aerun.sweep.remote import WORK, call

LARGEST_ARRAY = 1000  # of a cluster that nobody has configured
LOGS, NUMBERS = ".slurm", ".slurm/jobs.json"


class Task:
    """What runs on the node. Submitit asks for ``checkpoint`` as it puts a job back into the queue."""

    def __call__(self, job: Job, sweep: Path) -> None:
        """Run the job; when its time is out, save first and only then tell submitit."""
        number = call(WORK, job, sweep, None, ("SIGUSR2",))
        if number == signal.SIGUSR2:
            os.kill(os.getpid(), number)

    def checkpoint(self, job: Job, sweep: Path) -> Any:
        """The same again: the job goes on in its folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job, sweep)


@dataclass
class Slurm:
    """One array of single-node jobs; the keys are submitit's and sbatch's."""

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
    additional_parameters: dict  # type: ignore[type-arg]
    poll_s: Positive
    _withdrawn: bool = field(default=False, metadata={"internal": True})
    _ids: dict[str, str] = field(default_factory=dict, metadata={"internal": True})

    detached = True  # its jobs go on without the launcher
    local = False

    def __post_init__(self) -> None:
        if shutil.which("sbatch") is None:
            raise ConfigError("hydra/launcher=slurm: there is no sbatch here; start this on a node of the cluster")
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise ConfigError("hydra/launcher=slurm: needs submitit; pip install 'aerun[slurm]'") from error

    @property
    def slots(self) -> int:
        """How many of the array may run at once."""
        return self.array_parallelism

    def warm(self, jobs: int) -> None:
        """Nothing to do."""

    def here(self, target: str, *arguments: Any) -> Any:
        """Call it in this process."""
        return call(target, *arguments)

    def run(self, jobs: Iterator[Job], sweep: Path, at_once: int | None = None) -> Iterator[Ended]:
        """Submit what is not queued already, and watch. Jobs of an earlier launching are taken over."""
        name = re.sub(r"[^\w.+-]+", "_", f"aerun-{sweep.name}")  # squeue takes a comma for two names
        (sweep / LOGS).mkdir(exist_ok=True)
        self._ids = _known(sweep)
        pending: dict[str, tuple[Job, int]] = {}  # with how often it was missing
        while True:
            batch = list(islice(jobs, LARGEST_ARRAY if at_once is None else max(0, at_once - len(pending))))
            queued = self._queued(name)
            new = [job for job in batch if self._ids.get(job.name) not in queued]
            if new:
                self._submit(new, sweep, name)
                queued = self._queued(name)
            pending |= {job.name: (job, 0) for job in batch}
            if not pending:
                return
            for job, missing in list(pending.values()):
                ended, gone = state(job.folder) in ENDED + FAILED, self._ids[job.name] not in queued
                pending[job.name] = job, missing + 1 if gone else 0
                # Missing twice: a file system between machines may show the last status late.
                if (ended and gone) or missing >= 1:
                    del pending[job.name]
                    left = ("stopped", "waiting") if self._withdrawn else ("stopped",)
                    yield job, None if ended or state(job.folder) in left else _fate(self._ids[job.name])
            if pending:
                time.sleep(self.poll_s)

    def withdraw(self) -> None:
        """Take the jobs back that wait in the queue."""
        self._withdrawn = True
        subprocess.run(["scancel", "--state=PENDING", *self._ids.values()], capture_output=True)

    def farewell(self) -> str:
        """What goes on without the launcher, and how to end it."""
        arrays = sorted({number.partition("_")[0] for number in self._ids.values()}, key=int)
        return f"the jobs go on in Slurm: {', '.join(arrays)}\nend them    scancel {' '.join(arrays)}"

    def _submit(self, jobs: Sequence[Job], sweep: Path, name: str) -> None:
        import submitit

        executor = submitit.AutoExecutor(
            sweep / LOGS / "%A", cluster="slurm", slurm_max_num_timeout=self.max_num_timeout
        )
        given = {key: getattr(self, key) for key in ("partition", "account", "qos") if getattr(self, key) is not None}
        setup = [f"export OMP_NUM_THREADS={self.cpus_per_task}"]
        root = Path(__file__).resolve().parents[3]
        if "site-packages" not in root.parts:  # a checkout that is not installed
            setup.append(f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}")
        executor.update_parameters(
            name=name,
            timeout_min=self.timeout_min,
            cpus_per_task=self.cpus_per_task,
            mem_gb=self.mem_gb,
            slurm_signal_delay_s=self.signal_delay_s,
            slurm_array_parallelism=self.array_parallelism,
            slurm_setup=[*setup, *self.setup],
            slurm_additional_parameters={**given, **self.additional_parameters},
            **({"gpus_per_node": self.gpus_per_node} if self.gpus_per_node else {}),
        )
        try:
            submitted = executor.map_array(Task(), list(jobs), [sweep] * len(jobs))
        except Exception as error:
            raise ConfigError(f"hydra.launcher: Slurm refuses the jobs: {' '.join(str(error).split())}") from error
        self._ids |= {job.name: entry.job_id for job, entry in zip(jobs, submitted, strict=True)}
        write_text(sweep / NUMBERS, json.dumps(self._ids, indent=1) + "\n")

    def _queued(self, name: str) -> set[str]:
        """The ids of this sweep's jobs that Slurm still has. A controller that does not answer is asked again."""
        command = ["squeue", "--me", "--noheader", "--array", "--format=%i", f"--name={name}"]
        for wait in (1, 5, 15, 60, None):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                return set(done.stdout.split())
            if wait is not None:
                time.sleep(wait)
        raise ConfigError(f"hydra/launcher=slurm: squeue fails: {done.stderr.strip()}; the jobs go on")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _known(sweep: Path) -> dict[str, str]:
    """The Slurm jobs of earlier launchings."""
    with contextlib.suppress(OSError, ValueError):
        return {str(name): str(number) for name, number in json.loads((sweep / NUMBERS).read_text()).items()}
    return {}


def _fate(number: str) -> str:
    """How Slurm says that a job ended which did not say it itself."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", number], capture_output=True, text=True)
    found = re.findall(r"\b(JobState|Reason|ExitCode)=(\S+)", done.stdout)
    text = ", ".join(f"{key}={value}" for key, value in dict(found).items() if value != "None")
    return f"Slurm job {number} ended without a word ({text or 'Slurm no longer knows it'}); see {LOGS}"
