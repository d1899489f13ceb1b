"""What every launcher offers, and what launchers share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from aerun.errors import ConfigError
from aerun.sweep.job import Job

Queue = Iterator[Job | None]  # None: no job can start at present
Ended = tuple[Job, str | None]  # a job, and the error of a job that could not record it itself


class Launcher(Protocol):
    """Runs jobs. A context manager: on exit it ends the processes that it started.

    ``detached``: jobs continue when the launcher ends. ``local``: jobs see the same devices as functions called by
    ``call``. ``gpus``: devices for the jobs; None for a launcher that assigns devices itself.
    """

    detached: bool
    local: bool
    gpus: list[int] | None

    @property
    def slots(self) -> int:
        """The number of jobs that run at the same time."""
        ...

    def warm(self, jobs: int) -> None:
        """Start to prepare for that many jobs, without waiting."""
        ...

    def call(self, target: str, *arguments: Any) -> Any:
        """Call a function by its dotted name (see ``remote``), and return its result."""
        ...

    def run(self, jobs: Queue, sweep: Path, place: Path, at_once: int | None = None) -> Iterator[Ended]:
        """Run jobs (at most ``at_once`` at a time), taking the next one when there is room; yield each when it ends.

        ``sweep``: a folder for the records of a scheduler. ``place``: what jobs are given, for ``run_job`` the
        launcher's folder in that of the sweep.
        """
        ...

    def cancel_waiting(self) -> None:
        """Do not start jobs that were taken but have not started."""
        ...

    def detached_note(self) -> str:
        """For a detached launcher: which jobs continue, and how to cancel them."""
        ...

    def __enter__(self) -> Launcher: ...

    def __exit__(self, *_: object) -> None: ...


def take(jobs: Queue, most: int) -> tuple[list[Job], bool]:
    """Up to so many jobs that can start now, and whether there will be no more."""
    taken: list[Job] = []
    while len(taken) < most:
        try:
            job = next(jobs)
        except StopIteration:
            return taken, True
        if job is None:
            break
        taken.append(job)
    return taken, False


def format_error(error: BaseException) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def visible_device(gpus: Sequence[int], slot: int) -> str:
    """CUDA_VISIBLE_DEVICES for the jobs of a slot. ``gpus`` are numbered among the visible ones."""
    number = gpus[slot % len(gpus)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if not visible:
        return str(number)
    names = visible.split(",")
    if number >= len(names):
        raise ConfigError(f"sweep.gpus={list(gpus)}: CUDA_VISIBLE_DEVICES={visible} has no device {number}")
    return names[number]
