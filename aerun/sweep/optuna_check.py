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
from aerun.sweep.optuna_study import METRIC_KEY, optuna, run_metric

METRIC_ATTRIBUTE = "metric"  # of the study
State = optuna.trial.TrialState


def check_study(
    study: optuna.Study,
    metric: str,
    direction: str,
    distributions: Mapping[str, Any],
    jobs_of: Callable[[optuna.trial.FrozenTrial], Sequence[Job]],
    index: JobIndex,
    folder: Path,
) -> None:
    """ConfigError unless all trials have the values that this search would give them; records its metric.

    ``jobs_of``: the jobs of a trial as this search composes them; none if they are invalid. ``index``: with the
    recorded runs of the folder.
    """
    trials = study.get_trials(deepcopy=False)
    measured = [trial for trial in trials if trial.state == State.COMPLETE or trial.intermediate_values]
    known = study.user_attrs.get(METRIC_ATTRIBUTE, metric)
    change: str | None = None
    if trials and study.direction.name.lower() != direction:
        change = "hydra.sweeper.direction"
    elif measured and known != metric:
        change = METRIC_KEY
    else:
        started = [trial for trial in trials if trial in measured or trial.state == State.RUNNING]
        changes = (_find_change(trial, metric, distributions, jobs_of, index) for trial in started)
        change = next((text for text in changes if text is not None), None)
    if change is not None:
        raise ConfigError(
            f"sweep.name={folder.name}: {os.path.relpath(folder)} contains another search, which differs in {change}; "
            "choose another sweep.name"
        )
    if METRIC_ATTRIBUTE not in study.user_attrs or known != metric:
        study.set_user_attr(METRIC_ATTRIBUTE, metric)


def _find_change(
    trial: optuna.trial.FrozenTrial,
    metric: str,
    distributions: Mapping[str, Any],
    jobs_of: Callable[[optuna.trial.FrozenTrial], Sequence[Job]],
    index: JobIndex,
) -> str | None:
    """In which keys the runs of a trial are others than those of this search; None if they are the same."""
    is_measured = trial.state == State.COMPLETE or bool(trial.intermediate_values)
    changed = sorted(trial.params.keys() ^ distributions.keys()) or _changed_distributions(trial, distributions)
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
        value = statistics.fmean(run_metric(job.folder, metric) for job in jobs)
        if value != trial.value:
            return f"its results: trial {trial.number} had {metric} {trial.value:g}, and its runs now have {value:g}"
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
