"""``sweep.dry_run=true``: print the jobs, their sizes and estimated times, and start nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aerun.sweep.job import Job
from aerun.sweep.job_index import FAILED, job_state
from aerun.sweep.launcher.contract import Launcher
from aerun.sweep.remote import ESTIMATE_RUNS
from aerun.sweep.sweep_report import print_table

ACTIONS = {"waiting": "new", "stopped": "continue", "running": "continue", **dict.fromkeys(FAILED, "retry")}


@dataclass(frozen=True)
class Estimate:
    """The number of parameters of a job, and the estimated seconds for the whole job."""

    parameters: int
    seconds: float


def print_preview(
    jobs: Sequence[Job], remaining: Sequence[Job], invalid: Sequence[tuple[str, str]], launcher: Launcher
) -> None:
    """Print one line for every job, and the total time as estimated from a few steps of each distinct shape."""
    estimates = launcher.call(ESTIMATE_RUNS, [(job.config, job.choices) for job in jobs]) if jobs else []
    rows = [("", "run", "parameters", "time", "folder")]
    for job, estimate in zip(jobs, estimates, strict=True):
        state = job_state(job.folder)
        action = ACTIONS.get(state, state) if job in remaining else f"skip: {state}"
        rows.append((action, job.label, f"{estimate.parameters:,}", format_duration(estimate.seconds), job.name))
    rows += [("invalid", label, "", "", error) for label, error in invalid]
    print_table(rows)
    seconds = sum(estimate.seconds for job, estimate in zip(jobs, estimates, strict=True) if job in remaining)
    print(
        f"\n{len(remaining)} of {len(jobs) + len(invalid)} runs to do, {launcher.slots} at a time: about "
        f"{format_duration(seconds / launcher.slots)} by steps timed on this machine; "
        "nothing was started (sweep.dry_run=true)"
    )


def format_duration(seconds: float) -> str:
    """Seconds, minutes or hours, to two digits."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
