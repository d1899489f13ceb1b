"""``sweep.dry_run=true``: the jobs, how large they are and how long they may take; nothing is begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aerun.sweep.drive import table
from aerun.sweep.index import FAILED, state
from aerun.sweep.job import Job
from aerun.sweep.launcher import Launcher
from aerun.sweep.remote import ESTIMATE

WORDS = {"waiting": "new", "stopped": "continue", "running": "continue", **dict.fromkeys(FAILED, "retry")}


@dataclass(frozen=True)
class Estimate:
    """Of one job: its parameters, and the seconds that it may take from the start."""

    parameters: int
    seconds: float


def preview(jobs: Sequence[Job], left: Sequence[Job], invalid: Sequence[tuple[str, str]], launcher: Launcher) -> None:
    """Print a line for every job, and the time for all by a few timed steps of each distinct shape."""
    estimates = launcher.here(ESTIMATE, [(job.config, job.choices) for job in jobs]) if jobs else []
    rows = [("", "run", "parameters", "time", "folder")]
    for job, estimate in zip(jobs, estimates, strict=True):
        became = state(job.folder)
        what = WORDS.get(became, became) if job in left else f"skip: {became}"
        rows.append((what, job.label, f"{estimate.parameters:,}", duration(estimate.seconds), job.name))
    rows += [("invalid", label, "", "", error) for label, error in invalid]
    table(rows)
    seconds = sum(estimate.seconds for job, estimate in zip(jobs, estimates, strict=True) if job in left)
    print(
        f"\n{len(left)} of {len(jobs) + len(invalid)} runs to do, {launcher.slots} at a time: about "
        f"{duration(seconds / launcher.slots)} by steps timed on this machine; nothing was started (sweep.dry_run=true)"
    )


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, to two digits."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
