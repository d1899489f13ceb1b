"""The results of a search: its best trial, or the Pareto front of several metrics; and a table of all trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aerun.base.files import format_csv, make_subfolder, write_text
from aerun.sweep.job import Job
from aerun.sweep.optuna_objective import Objective
from aerun.sweep.optuna_study import optuna
from aerun.sweep.sweep_report import aligned

TRIALS_FILE = "trials.csv"
EXCLUDED = "excluded"  # attribute of a trial whose point does not meet sweep.where
Result = tuple[optuna.trial.FrozenTrial, list[Job]]  # a trial and its runs


def pareto_front(objectives: Sequence[Objective], results: Sequence[Result]) -> list[Result]:
    """The results whose trials no other surpasses in one metric without falling behind in another."""
    study = optuna.create_study(directions=[objective.direction for objective in objectives])
    study.add_trials([trial for trial, _ in results])
    return [results[best.number] for best in study.best_trials]  # numbered as they were added


def format_best(objectives: Sequence[Objective], results: Sequence[Result]) -> str:
    """The best result in one line, or the Pareto front of several metrics as a table."""
    front = pareto_front(objectives, results)
    metrics = [objective.metric for objective in objectives]
    if len(metrics) == 1:
        trial, jobs = front[0]
        return f"best        {jobs[0].label}: {metrics[0]} {trial.values[0]:.6g}, {jobs[0].name}"
    arrows = ["↓" if objective.direction == "minimize" else "↑" for objective in objectives]
    rows = {"": (*(f"{metric} {arrow}" for metric, arrow in zip(metrics, arrows, strict=True)), "run", "folder")}
    for trial, jobs in sorted(front, key=lambda result: result[0].values[0]):  # equal draws have the same runs
        rows[jobs[0].name] = (*(f"{value:.6g}" for value in trial.values), jobs[0].label, jobs[0].name)
    head = f"best        the Pareto front of {len(results)} trials:"
    return "\n".join([head, *aligned([*rows.values()])])


def write_trials(
    folder: Path,
    objectives: Sequence[Objective],
    trials: Sequence[optuna.trial.FrozenTrial],
    results: Sequence[Result],
    keys: Sequence[str],
) -> None:
    """Write study/trials.csv: for each trial its state, metrics, values of the searched keys, and runs.

    ``results``: of the finished trials whose runs exist. ``on_front``: whether none of these surpasses it.
    """
    runs = {trial.number: jobs for trial, jobs in results}
    front = {trial.number for trial, _ in pareto_front(objectives, results)} if results else set[int]()
    metrics = [objective.metric for objective in objectives]
    rows: list[list[object]] = [["trial", "state", *metrics, "on_front", *keys, "runs"]]
    for trial in trials:
        is_complete = trial.state == optuna.trial.TrialState.COMPLETE
        values = [repr(value) for value in trial.values] if is_complete else [""] * len(objectives)
        state = EXCLUDED if EXCLUDED in trial.user_attrs else trial.state.name.lower()
        drawn = [trial.params.get(key, "") for key in keys]
        names = " ".join(job.name for job in runs.get(trial.number, ()))
        rows.append([trial.number, state, *values, str(trial.number in front).lower(), *drawn, names])
    make_subfolder(folder.parent, folder.name)
    write_text(folder / TRIALS_FILE, format_csv(rows))
