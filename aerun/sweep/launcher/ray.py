"""Run jobs as tasks of a Ray cluster."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from aerun.contracts import NonNegative, Positive
from aerun.errors import AerunError, ConfigError
from aerun.sweep.job import Job
from aerun.sweep.launcher.contract import Ended, Queue, format_error, take
from aerun.sweep.remote import call_by_name

POLL_S = 0.5


@dataclass
class Ray:
    """One task for each job, with ``num_cpus`` cores and ``num_gpus`` devices (below 1: a share of a device)."""

    address: str | None
    num_cpus: Positive
    num_gpus: NonNegative
    init: dict | None  # type: ignore[type-arg]

    gpus: ClassVar[list[int] | None] = None
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
        """How many jobs fit into the cluster."""
        import ray

        resources = ray.cluster_resources()
        room = resources.get("CPU", 1) / self.num_cpus
        if self.num_gpus:
            room = min(room, resources.get("GPU", 0) / self.num_gpus)
        return max(1, int(room))

    def warm(self, jobs: int) -> None:
        """Does nothing."""

    def call(self, target: str, *arguments: Any) -> Any:
        """Call the function in this process."""
        return call_by_name(target, *arguments)

    def run(self, jobs: Queue, sweep: Path, place: Path, at_once: int | None = None) -> Iterator[Ended]:
        """Submit jobs when there is room for them."""
        import ray

        options = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "max_retries": 0}
        task = ray.remote(call_by_name).options(**options)
        running: dict[Any, Job] = {}
        exhausted = False
        while running or not exhausted:
            started, exhausted = ([], True) if exhausted else take(jobs, (at_once or self.slots) - len(running))
            running |= {task.remote(job.worker, job, place): job for job in started}
            if not running and not exhausted:
                time.sleep(POLL_S)
            done, _ = ray.wait(list(running), timeout=POLL_S) if running else ([], [])
            for reference in done:
                yield running.pop(reference), _task_error(reference)

    def cancel_waiting(self) -> None:
        """Does nothing: a job is taken only when it can start."""

    def detached_note(self) -> str:
        """Empty: no job continues without the launcher."""
        return ""

    def __enter__(self) -> Self:
        import ray

        # Workers import aerun from the same folder as this process, installed or not.
        root = str(Path(__file__).resolve().parents[3])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        variables = {"PYTHONPATH": path, "TQDM_DISABLE": "1"}
        variables["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "1"  # hides all devices from a job with num_gpus=0
        environment = {"env_vars": variables}
        given: dict[str, Any] = {"log_to_driver": False, "address": self.address, **(self.init or {})}
        if self.address is None:  # otherwise Ray joins any cluster that is running
            given |= {"address": "local", "include_dashboard": False}
        try:
            ray.init(runtime_env=environment, logging_level=logging.ERROR, **given)
        except Exception as error:
            raise ConfigError(f"hydra/launcher=ray: {' '.join(str(error).split())}") from error
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()


def _task_error(reference: Any) -> str | None:
    """The error of a task; None if there is none. AerunError if the cluster is gone, with all tasks that wait."""
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return format_error(error.cause)
    except ray.exceptions.RayError as error:
        is_gone = isinstance(error, ray.exceptions.LocalRayletDiedError)
        if is_gone or not any(node["Alive"] for node in ray.nodes()):
            raise AerunError(
                "hydra/launcher=ray: the Ray cluster has died, and the sweep stops; the same command continues it"
            ) from error
        return f"the Ray worker was killed ({' '.join(str(error).split())[:200]})"
    return None
