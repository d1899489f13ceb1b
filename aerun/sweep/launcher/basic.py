"""One job after another in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aerun.sweep.job import STOP, Job
from aerun.sweep.launcher import Ended, device, raised
from aerun.sweep.remote import WORK, call


@dataclass
class Basic:
    """The simplest to follow and to debug; a job that is killed takes the sweep with it, until it is repeated."""

    gpus: list[int]
    slots: int = 1
    detached = False
    local = True

    def warm(self, jobs: int) -> None:
        """Nothing to do."""

    def here(self, target: str, *arguments: Any) -> Any:
        """Call it."""
        return call(target, *arguments)

    def run(self, jobs: Iterator[Job], sweep: Path, at_once: int | None = None) -> Iterator[Ended]:
        """In order, each to its end before the next is taken."""
        if self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = device(self.gpus, 0)
        for job in jobs:
            death = None
            try:
                number = call(WORK, job, sweep)
                if number:
                    (sweep / STOP).write_text(str(int(number)))  # the signal was meant for all of it
            except Exception as error:
                death = raised(error)
            yield job, death

    def withdraw(self) -> None:
        """Jobs are taken as they begin."""

    def farewell(self) -> str:
        """Nothing goes on."""
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
