"""Tasks of a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aerun.config.schema import NonNegative, Positive
from aerun.errors import ConfigError
from aerun.sweep.job import Job
from aerun.sweep.launcher import Ended, raised
from aerun.sweep.remote import WORK, call

POLL = 0.5  # seconds


@dataclass
class Ray:
    """A task a job, with ``num_cpus`` cores and ``num_gpus`` devices (a part of one, if below 1) each."""

    address: str | None
    num_cpus: Positive
    num_gpus: NonNegative
    init: dict  # type: ignore[type-arg]

    detached = False
    local = False

    def __post_init__(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise ConfigError("hydra/launcher=ray: needs Ray; pip install 'aerun[ray]'") from error

    @property
    def slots(self) -> int:
        """What the cluster has room for."""
        import ray

        resources = ray.cluster_resources()
        room = resources.get("CPU", 1) / self.num_cpus
        if self.num_gpus:
            room = min(room, resources.get("GPU", 0) / self.num_gpus)
        return max(1, int(room))

    def warm(self, jobs: int) -> None:
        """Nothing to do."""

    def here(self, target: str, *arguments: Any) -> Any:
        """Call it in this process."""
        return call(target, *arguments)

    def run(self, jobs: Iterator[Job], sweep: Path, at_once: int | None = None) -> Iterator[Ended]:
        """Hand out jobs as there is room for them."""
        import ray

        options = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "max_retries": 0}
        task = ray.remote(call).options(**options)
        running: dict[Any, Job] = {}
        exhausted = False
        while running or not exhausted:
            while not exhausted and len(running) < (at_once or self.slots):
                job = next(jobs, None)
                if job is None:
                    exhausted = True
                else:
                    running[task.remote(WORK, job, sweep)] = job
            done, _ = ray.wait(list(running), timeout=POLL) if running else ([], [])
            for reference in done:
                yield running.pop(reference), _death(reference)

    def withdraw(self) -> None:
        """Jobs are taken as they begin."""

    def farewell(self) -> str:
        """Nothing goes on."""
        return ""

    def __enter__(self) -> Self:
        import ray

        # Workers find aerun where this process does, installed or not.
        root = str(Path(__file__).resolve().parents[3])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        variables = {"PYTHONPATH": path, "TQDM_DISABLE": "1"}
        variables["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "1"  # a job without a device of Ray's sees none
        environment = {"env_vars": variables}
        given: dict[str, Any] = {"log_to_driver": False, "address": self.address, **self.init}
        if self.address is None:  # without the word, Ray joins whatever cluster is there
            given |= {"address": "local", "include_dashboard": False}
        try:
            ray.init(runtime_env=environment, logging_level=logging.ERROR, **given)
        except Exception as error:
            raise ConfigError(f"hydra/launcher=ray: {' '.join(str(error).split())}") from error
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()


def _death(reference: Any) -> str | None:
    """What killed a task's worker, if anything did."""
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return raised(error.cause)
    except ray.exceptions.RayError as error:
        return f"the Ray worker was killed ({' '.join(str(error).split())[:200]})"
    return None
