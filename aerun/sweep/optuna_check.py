"""Whether the study in a sweep's folder is that of the present search."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aerun.config.identity import differing_keys
from aerun.errors import ConfigError
from aerun.runs.same_run import list_keys
from aerun.sweep.job import Job
from aerun.sweep.job_index import JobIndex, job_state
from aerun.sweep.optuna_objective import DIRECTION_KEY, METRIC_KEY, Objective
from aerun.sweep.optuna_study import optuna, run_metric

METRIC_ATTRIBUTE = "metric"  # of the study
State = optuna.trial.TrialState


def check_study(
    study: optuna.Study,
    objectives: Sequence[Objective],
    distributions: Mapping[str, Any],
    differing: Callable[[optuna.trial.FrozenTrial], list[str]],
    jobs_of: Callable[[optuna.trial.FrozenTrial], Sequence[Job]],
    index: JobIndex,
    folder: Path,
) -> None:
    """ConfigError unless all trials have the values that this search would give them; records its metrics.

    ``differing``: the searched keys that a trial lacks, or has beyond those of this search. ``jobs_of``: the jobs of a
    trial as this search composes them; none if they are invalid. ``index``: with the recorded runs of the folder.
    """
    trials = study.get_trials(deepcopy=False)
    measured = [trial for trial in trials if trial.state == State.COMPLETE or trial.intermediate_values]
    metrics = [objective.metric for objective in objectives]
    attribute = metrics[0] if len(metrics) == 1 else metrics
    known = study.user_attrs.get(METRIC_ATTRIBUTE, attribute)
    change: str | None = None
    if trials and len(study.directions) != len(objectives):
        change = METRIC_KEY
    elif trials and [found.name.lower() for found in study.directions] != [each.direction for each in objectives]:
        change = DIRECTION_KEY if not measured or known == attribute else METRIC_KEY
    elif measured and known != attribute:
        change = METRIC_KEY
    else:
        started = [trial for trial in trials if trial in measured or trial.state == State.RUNNING]
        changes = (_find_change(trial, metrics, distributions, differing, jobs_of, index) for trial in started)
        change = next((text for text in changes if text is not None), None)
    if change is not None:
        raise ConfigError(
            f"sweep.name={folder.name}: {os.path.relpath(folder)} contains another search, which differs in {change}; "
            "choose another sweep.name"
        )
    if METRIC_ATTRIBUTE not in study.user_attrs or known != attribute:
        study.set_user_attr(METRIC_ATTRIBUTE, attribute)


def _find_change(
    trial: optuna.trial.FrozenTrial,
    metrics: Sequence[str],
    distributions: Mapping[str, Any],
    differing: Callable[[optuna.trial.FrozenTrial], list[str]],
    jobs_of: Callable[[optuna.trial.FrozenTrial], Sequence[Job]],
    index: JobIndex,
) -> str | None:
    """In which keys the runs of a trial are others than those of this search; None if they are the same."""
    is_measured = trial.state == State.COMPLETE or bool(trial.intermediate_values)
    changed = differing(trial) or _changed_distributions(trial, distributions)
    if changed:  # without a result it may be of a launch that was killed while drawing
        return list_keys(changed) if is_measured else None
    jobs = jobs_of(trial)
    if not jobs:
        return f"its configuration, under which the values of trial {trial.number} are invalid" if is_measured else None
    for job in jobs if trial.state == State.COMPLETE else jobs[:1]:
        name = job.name if job.name in (*index.jobs, *index.recorded) else _find_drawn(job, distributions, index)
        run = index.recorded.get(name or "")
        if run is not None and job.identity not in run.identities:
            return list_keys(differing_keys(run.config, job.config))
        if name is None and is_measured:
            return f"its configuration: {job.label} is not one of its runs"
    if trial.state == State.COMPLETE and all(job_state(job.folder) == "finished" for job in jobs):
        for metric, recorded in zip(metrics, trial.values, strict=True):
            value = statistics.fmean(run_metric(job.folder, metric) for job in jobs)
            if value != recorded:
                return f"its results: trial {trial.number} had {metric} {recorded:g}, and its runs now have {value:g}"
    return None


def _changed_distributions(trial: optuna.trial.FrozenTrial, distributions: Mapping[str, Any]) -> list[str]:
    """Searched keys whose values Optuna cannot combine with those of the trial."""
    changed = []
    for key, distribution in trial.distributions.items():
        try:
            optuna.distributions.check_distribution_compatibility(distribution, distributions[key])
        except ValueError:
            changed.append(key)
    return changed


def _find_drawn(job: Job, distributions: Mapping[str, Any], index: JobIndex) -> str | None:
    """A run of the sweep with the same drawn values as the job, which it is not."""
    drawn = {key: value for key, value in job.values.items() if key in distributions}
    known = {name: entry["values"] for name, entry in index.jobs.items()}
    return next((name for name, values in known.items() if drawn.items() <= values.items()), None)
