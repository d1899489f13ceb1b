"""Search by Optuna: which runs come next is decided from those before, and unpromising ones are stopped early.

The plugin that Hydra's makers released pins an Optuna of 2021, which cannot keep a study in a file with current
database drivers; and it numbers its folders anew in every study that is continued. So this speaks to Optuna itself.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from aerun.config.schema import Count, NonNegativeInt, Seed
from aerun.contracts import Metric
from aerun.errors import ConfigError
from aerun.metrics.declared import NONE, find_metric
from aerun.runs.folder import read_metrics, read_status, read_summary
from aerun.sweep.index import ENDED, FAILED, Index, state
from aerun.sweep.job import Job
from aerun.sweep.plan import Composed, Composer, jobs_of
from aerun.sweep.points import Axis, crossed
from aerun.sweep.study import JOURNAL, METRIC, open_study, optuna

DRAWS = 100  # for a sound point of the space


@dataclass(frozen=True, kw_only=True)
class Optuna:
    """A study of ``trials`` runs, kept in the sweep's folder as study.log.

    ``metric`` is of the best epoch in metrics.jsonl (``validation/mse``, which does not contain penalties), or of the
    summary (``best_loss``). A trial is pruned after an epoch in which ``pruner`` finds it worse than the others were
    by then, but not before ``warmup_epochs``, nor before ``startup_trials`` have ended. The keys in ``crossed`` are
    not searched: a trial is a run for each of their values, and its result their mean; the first may be pruned.
    """

    trials: Count
    metric: str
    direction: Literal["minimize", "maximize"]
    sampler: Literal["tpe", "random", "gp"]
    pruner: Literal["median", "hyperband", "none"]
    startup_trials: NonNegativeInt
    warmup_epochs: NonNegativeInt
    seed: Seed
    crossed: list[str]

    def __post_init__(self) -> None:
        if self.pruner != "none" and not self.metric.startswith(("validation/", "train/")):
            raise ValueError(
                f"metric={self.metric}: is not known while a run trains; use hydra.sweeper.pruner=none or validation/…"
            )


class Search:
    """A study's trials as jobs, and their outcomes as its results."""

    def __init__(
        self, settings: Optuna, axes: Sequence[Axis], composer: Composer, index: Index, folder: Path, retry: bool
    ) -> None:
        self.settings, self.composer, self.index, self.folder, self.retry = settings, composer, index, folder, retry
        self.searched = [axis for axis in axes if axis.is_swept and axis.key not in settings.crossed]
        if not self.searched:
            raise ConfigError("hydra/sweeper=optuna: nothing to search; give a key several values or an interval(…)")
        others = [axis for axis in axes if axis not in self.searched]
        self.others = crossed(others)
        self.swept = [axis.key for axis in (*self.searched, *others) if axis.is_swept]
        self.distributions = {axis.key: _distribution(axis) for axis in self.searched}
        pruner = (settings.pruner, settings.startup_trials, settings.warmup_epochs)
        self.study = open_study(folder, settings.sampler, settings.seed, settings.direction, pruner)
        self.invalid: list[tuple[str, str]] = []
        self._pending: dict[int, list[Job]] = {}  # by trial
        self._awaited: set[str] = set()  # jobs that have begun and not ended
        self._tried: set[str] = set()  # jobs that this launching has run
        self._failed = 0  # trials, in this launching

    @property
    def runs(self) -> int:
        """How many runs all trials are together."""
        return self.settings.trials * len(self.others)

    def points(self, trial: optuna.trial.FrozenTrial | optuna.Trial) -> list[Composed]:
        """The trial's runs, composed."""
        drawn = [
            axis.at(trial.params[axis.key]) if axis.interval else f"{axis.key}={trial.params[axis.key]}"
            for axis in self.searched
        ]
        return [self.composer([*other, *drawn]) for other in self.others]

    def first_point(self) -> Composed:
        """A run of the search space, for what all runs have in common: a sound one, if draws find any."""
        generator = random.Random(self.settings.seed)
        draws = ([axis.draw(generator) for axis in self.searched] for _ in range(DRAWS))
        points = [self.composer([*self.others[0], *next(draws)])]
        while points[-1].error is not None and (drawn := next(draws, None)) is not None:
            points.append(self.composer([*self.others[0], *drawn]))
        return points[-1] if points[-1].error is None else points[0]

    def __iter__(self) -> Iterator[Job]:
        """Jobs for as long as the study asks for more: first what an earlier launching left unfinished."""
        failed = {}
        for trial in self.study.get_trials(deepcopy=False):
            if trial.params.keys() != self.distributions.keys():
                continue  # of another space, or of a launching that died as it drew
            if trial.state == optuna.trial.TrialState.RUNNING:
                yield from self._begin(trial.number, self.points(trial))
            elif trial.state == optuna.trial.TrialState.FAIL:
                failed[repr(sorted(trial.params.items()))] = trial
        for trial in failed.values():
            if any(state(job.folder) in FAILED for job in self._jobs(self.points(trial), trial.number)):
                if self.retry:  # in the same folder, where it goes on
                    self.study.enqueue_trial(trial.params, skip_if_exists=False)
                else:
                    self._failed += 1
        while self._counted() + self._failed + len(self._pending) < self.settings.trials:
            asked = self._ask()
            yield from self._begin(asked.number, self.points(asked))

    def _ask(self) -> optuna.Trial:
        """A trial with its draws. ConfigError if the study is of another space."""
        try:
            return self.study.ask(self.distributions)
        except ValueError as error:
            raise ConfigError(
                f"{self.folder}: has a study of other values ({' '.join(str(error).split())}); "
                "choose another sweep.name"
            ) from error

    def _counted(self) -> int:
        """How many trials have a result."""
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        return len(self.study.get_trials(deepcopy=False, states=states))

    def _begin(self, number: int, points: list[Composed]) -> Iterator[Job]:
        errors = [point for point in points if point.error is not None]
        if errors:
            self.invalid.append((" ".join(errors[0].overrides), errors[0].error or ""))
            self.study.tell(number, state=optuna.trial.TrialState.FAIL)
            if len(self.invalid) > 10 * self.settings.trials:
                raise ConfigError(f"hydra/sweeper=optuna: most of the space cannot work: {errors[0].error}")
            return
        jobs = self._jobs(points, number)
        self.index.add(jobs)
        self.index.write(self.folder)
        self._pending[number] = list(jobs)
        # A job may have ended before: in a launching that died before the study heard, or in another trial.
        left = [job for job in jobs if state(job.folder) not in ENDED and job.name not in self._tried | self._awaited]
        if not self._awaited & {job.name for job in jobs} and not left:
            self._settle(number)
        self._awaited |= {job.name for job in left}
        for job in left:
            if job is not jobs[0] and state(jobs[0].folder) == "pruned":
                self._drop(number, job)
            else:
                yield job

    def _drop(self, number: int, job: Job) -> None:
        """Run no further seed of a trial that was pruned."""
        self._awaited.discard(job.name)
        self._pending[number].remove(job)
        if state(job.folder) == "waiting":
            del self.index.jobs[job.name]
            self.index.write(self.folder)
        if not self._awaited & {other.name for other in self._pending[number]}:
            self._settle(number)

    def _jobs(self, points: list[Composed], number: int) -> list[Job]:
        settings = self.settings
        trial = {
            "journal": str(self.folder / JOURNAL),
            "number": number,
            "metric": settings.metric,
            "pruner": [settings.pruner, settings.startup_trials, settings.warmup_epochs],
        }
        jobs = jobs_of(points, self.composer, self.swept, self.index, self.folder)
        watched = settings.pruner != "none"
        return [replace(job, trial=trial) if watched and i == 0 else job for i, job in enumerate(jobs)]

    def told(self, job: Job, became: str) -> None:
        """Take an outcome. A trial's result is known when all its jobs have ended."""
        if became not in (*ENDED, *FAILED):
            return  # stopped: its trials go on when the sweep does
        self._awaited.discard(job.name)
        self._tried.add(job.name)
        for number, jobs in list(self._pending.items()):
            if job.name in [other.name for other in jobs] and not self._awaited & {other.name for other in jobs}:
                self._settle(number)

    def _settle(self, number: int) -> None:
        """Tell the study what became of a trial. ConfigError for a metric that its runs do not have."""
        jobs = self._pending.pop(number)
        states = [state(job.folder) for job in jobs]
        if any(became in FAILED for became in states):
            self._failed += 1
            self.study.tell(number, state=optuna.trial.TrialState.FAIL)
            for job in jobs:
                error = (read_status(job.folder) or {}).get("error") or ""
                if error.startswith(f"ConfigError: {METRIC}="):
                    raise ConfigError(error.removeprefix("ConfigError: "))
        elif "pruned" in states:
            self.study.tell(number, state=optuna.trial.TrialState.PRUNED)
        else:
            self.study.tell(number, statistics.fmean(result(job.folder, self.settings.metric) for job in jobs))

    def best(self) -> str:
        """The best trial so far, in a line."""
        try:
            trial = self.study.best_trial
        except ValueError:
            return "no trial has finished"
        if trial.params.keys() != self.distributions.keys():
            return f"best        {trial.params}: {self.settings.metric} {trial.value:.6g}"
        [job, *_] = self._jobs(self.points(trial), trial.number)
        return f"best        {job.label}: {self.settings.metric} {trial.value:.6g}, {job.name}"


def direction_warning(settings: Optuna, declared: Mapping[str, Metric] = NONE) -> str | None:
    """A line for a search in the direction that is worse by the metric's declaration; None for all other searches."""
    metric = find_metric(settings.metric, declared)
    if metric is None:
        return None
    better, direction = ("higher", "maximize") if metric.higher_is_better else ("lower", "minimize")
    if settings.direction == direction:
        return None
    return (
        f"hydra.sweeper.direction={settings.direction}: {better} is better for {settings.metric}; "
        f"use hydra.sweeper.direction={direction}"
    )


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    if axis.interval is None:
        return optuna.distributions.CategoricalDistribution([word.partition("=")[2] for word in axis.overrides])
    low, high = axis.interval
    if axis.whole:
        return optuna.distributions.IntDistribution(int(low), int(high), log=axis.logarithmic)
    return optuna.distributions.FloatDistribution(low, high, log=axis.logarithmic)


def result(folder: Path, metric: str) -> float:
    """A finished run's metric: of its best epoch in metrics.jsonl, or from the summary. ConfigError if unknown."""
    summary = read_summary(folder) or {}
    lines = {line["epoch"]: line for line in read_metrics(folder)}
    values = lines.get(summary.get("best_epoch", -1), {})
    group, _, name = metric.partition("/")
    value = values.get(metric, summary.get(metric, summary.get(group, {}).get(name) if name else None))
    if not isinstance(value, int | float):
        known = [key for key, value in {**values, **summary}.items() if isinstance(value, float)]
        raise ConfigError(f"{METRIC}={metric}: a run has no such number. Known: {', '.join(known)}")
    return float(value)
