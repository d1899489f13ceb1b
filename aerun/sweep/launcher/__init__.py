"""Who computes the jobs of a sweep: one module an engine.

A launcher takes jobs, has ``aerun.sweep.work.work`` called for each somewhere, and says which have ended. What became
of a job stands in its folder; a launcher only adds the cause where the job could not write it, being killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from aerun.config.schema import construct, locate
from aerun.errors import ConfigError
from aerun.sweep.job import Job

Ended = tuple[Job, str | None]  # a job, and what killed it


def raised(error: BaseException) -> str:
    """What a job could not write into its folder itself."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def device(gpus: Sequence[int], slot: int) -> str:
    """What CUDA_VISIBLE_DEVICES is for a slot: its share of the devices that this process itself may see."""
    number = gpus[slot % len(gpus)]
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if not seen:
        return str(number)
    names = seen.split(",")
    if number >= len(names):
        raise ConfigError(f"sweep.gpus={list(gpus)}: CUDA_VISIBLE_DEVICES={seen} has no device {number}")
    return names[number]


class Launcher(Protocol):
    """An engine. A context manager: leaving it ends the processes that it began."""

    detached: bool  # whether jobs go on when the launcher ends
    local: bool  # whether jobs find the devices that ``here`` finds

    @property
    def slots(self) -> int:
        """How many jobs run at once."""
        ...

    def warm(self, jobs: int) -> None:
        """Get ready for so many jobs, without waiting for it."""
        ...

    def here(self, target: str, *arguments: Any) -> Any:
        """Call a function of the working side by its name (see ``remote``), and return what it returns."""
        ...

    def run(self, jobs: Iterator[Job], sweep: Path, at_once: int | None = None) -> Iterator[Ended]:
        """Run the jobs, taking them as there is room for them (at most ``at_once``); each as it ends."""
        ...

    def withdraw(self) -> None:
        """Begin none of the jobs that were taken and have not begun."""
        ...

    def farewell(self) -> str:
        """Of a detached launcher: what goes on, and how to end it."""
        ...

    def __enter__(self) -> Launcher: ...

    def __exit__(self, *_: object) -> None: ...


def build_launcher(node: Mapping[str, Any], gpus: Sequence[int]) -> Launcher:
    """The launcher that ``hydra.launcher`` describes. ConfigError for one that is not known here."""
    target = str(node.get("_target_"))
    if target.startswith("hydra._internal.core_plugins.basic_launcher."):
        from aerun.sweep.launcher.basic import Basic

        return Basic(list(gpus))
    values = {str(key): value for key, value in node.items() if key != "_target_"}
    if not target.startswith("aerun.sweep.launcher."):
        raise ConfigError(
            f"hydra.launcher._target_={target}: is none of basic, joblib, slurm, ray; launchers made for Hydra's own "
            "sweeper go with hydra/sweeper=basic, without resuming"
        )
    launcher: Launcher = construct(locate(target), values, "hydra.launcher")
    if gpus:
        if not hasattr(launcher, "gpus"):
            raise ConfigError(f"sweep.gpus={list(gpus)}: is for local jobs; this launcher assigns devices itself")
        launcher.gpus = list(gpus)
    return launcher
