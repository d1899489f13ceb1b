"""Calls from the launching process, which does not import torch, to functions that do, by their dotted names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aerun.config.schema import locate

RUN_JOB = "aerun.sweep.job_worker.run_job"
EVALUATE_RUN = "aerun.sweep.evaluation_worker.evaluate_run"
CHECK_POINTS = "aerun.sweep.point_check.check_points"
ESTIMATE_RUNS = "aerun.sweep.estimate.estimate_runs"


def call_by_name(target: str, *arguments: Any) -> Any:
    """Import a function by its dotted name in this process, and call it."""
    return locate(target)(*arguments)


def import_job_worker() -> None:
    """Import what a job needs. Returns None so that unpickling the result does not import torch in the parent."""
    locate(RUN_JOB)


def import_all() -> None:
    """Import also what a job needs later."""
    import_job_worker()
    for name in ("torch.utils.tensorboard.SummaryWriter", "matplotlib.figure.Figure"):
        locate(name)


@dataclass(frozen=True)
class CheckResult:
    """The result for one configuration: why it is invalid, or its number of parameters; its data's checksum.

    Defined in this module so that unpickling it in the launching process does not import torch.
    """

    error: str | None
    parameters: int | None = None
    checksum: str | None = None
