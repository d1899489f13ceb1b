"""Run the jobs one after another in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aerun.base.files import write_text
from aerun.sweep.job import STOP_FILE
from aerun.sweep.launcher.contract import Ended, Queue, format_error, visible_device
from aerun.sweep.remote import call_by_name

POLL_S = 0.5


@dataclass
class Basic:
    """The simplest launcher to follow and to debug. If a job is killed, the sweep ends and must be repeated."""

    gpus: list[int] | None
    slots: int = 1
    detached = False
    local = True

    def warm(self, jobs: int) -> None:
        """Does nothing."""

    def call(self, target: str, *arguments: Any) -> Any:
        """Call the function."""
        return call_by_name(target, *arguments)

    def run(self, jobs: Queue, sweep: Path, place: Path, at_once: int | None = None) -> Iterator[Ended]:
        """Run the jobs in order, each to its end."""
        if self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible_device(self.gpus, 0)
        for job in jobs:
            if job is None:
                time.sleep(POLL_S)
                continue
            error = None
            try:
                number = call_by_name(job.worker, job, place)
                if number:
                    write_text(place / STOP_FILE, str(int(number)))  # so that the whole sweep stops
            except Exception as raised:
                error = format_error(raised)
            yield job, error

    def cancel_waiting(self) -> None:
        """Does nothing: a job is taken only when it can start."""

    def detached_note(self) -> str:
        """Empty: no job continues without the launcher."""
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
