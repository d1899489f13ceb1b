"""``sweep.dry_run=true``: print the jobs, their sizes and estimated times, and start nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aerun.runs.same_run import list_keys
from aerun.sweep.job import Job
from aerun.sweep.job_index import FAILED, UNEVALUATED, JobIndex, state_of
from aerun.sweep.launcher.contract import Launcher
from aerun.sweep.remote import ESTIMATE_RUNS
from aerun.sweep.sweep_report import print_table

ACTIONS = {
    "waiting": "new",
    **dict.fromkeys(("stopped", "running"), "continue"),
    **dict.fromkeys(FAILED, "retry"),
    **dict.fromkeys(("finished", UNEVALUATED), "evaluate"),  # by protocols that were added, or that failed
}
MAX_EXPLAINED = 20  # new runs


@dataclass(frozen=True)
class Estimate:
    """The number of parameters of a job, and the estimated seconds for the whole job."""

    parameters: int
    seconds: float


def print_preview(
    jobs: Sequence[Job],
    remaining: Sequence[Job],
    invalid: Sequence[tuple[str, str]],
    launcher: Launcher,
    index: JobIndex,
) -> None:
    """Print one line for every job, the total time as estimated from a few steps of each distinct shape, and how new
    runs differ from finished ones."""
    estimates = launcher.call(ESTIMATE_RUNS, [(job.config, job.choices) for job in jobs]) if jobs else []
    rows = [("", "run", "parameters", "time", "folder")]
    to_do = {job.name for job in remaining}
    trained, seconds = [], 0.0
    for job, estimate in zip(jobs, estimates, strict=True):
        state = state_of(job)
        action = ACTIONS.get(state, state) if job.name in to_do else f"skip: {state}"
        trains = action != "evaluate"
        if job.name in to_do and trains:
            trained.append(job)
            seconds += estimate.seconds
        time = format_duration(estimate.seconds) if trains else ""
        rows.append((action, job.label, f"{estimate.parameters:,}", time, job.name))
    rows += [("invalid", label, "", "", error) for label, error in invalid]
    print_table(rows)
    _print_nearest([job for job in trained if job.name not in index.recorded], index)
    evaluated = len(remaining) - len(trained)
    asked = f"{evaluated} to evaluate by protocols; " if evaluated else ""
    print(
        f"\n{asked}{len(trained)} of {len(jobs) + len(invalid)} runs to do, {launcher.slots} at a time: about "
        f"{format_duration(seconds / launcher.slots)} by steps timed on this machine; "
        "nothing was started (sweep.dry_run=true)"
    )


def _print_nearest(new: Sequence[Job], index: JobIndex) -> None:
    """Print, for each new run, in which keys it differs from the finished run of the folder that is most similar."""
    finished = index.finished()
    if not (new and finished):
        return
    print()
    for job in new[:MAX_EXPLAINED]:
        name, differences = index.nearest(job, finished)
        print(f"{job.label}: runs; nearest finished run {name} differs in {list_keys(differences, '; ')}")
    if len(new) > MAX_EXPLAINED:
        print(f"and {len(new) - MAX_EXPLAINED} more")


def format_duration(seconds: float) -> str:
    """Seconds, minutes or hours, to two digits."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
