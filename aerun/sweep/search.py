"""Search by Optuna: which runs come next is decided from those before, and unpromising ones are stopped early.

The plugin that Hydra's makers released pins an Optuna of 2021, which cannot keep a study in a file with current
database drivers; and it numbers its folders anew in every study that is continued. So this speaks to Optuna itself.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from aerun.errors import ConfigError
from aerun.runfolder import read_metrics, read_summary
from aerun.spec import Count, NonNegativeInt, Seed
from aerun.sweep.index import ENDED, FAILED, Index, state
from aerun.sweep.job import Job, shown
from aerun.sweep.plan import Composed, Composer, jobs_of
from aerun.sweep.points import Axis, crossed
from aerun.sweep.study import JOURNAL, open_study, optuna

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
        self._check_space()
        self.invalid: list[tuple[str, str]] = []
        self._pending: dict[int, list[Job]] = {}  # by trial
        self._begun: set[str] = set()  # jobs of this launching, by name
        self._failed = 0  # trials of this launching

    def _check_space(self) -> None:
        """ConfigError if the study knows a key with other values than those asked for now: Optuna cannot mix them."""
        for trial in self.study.get_trials(deepcopy=False):
            for key, known in trial.distributions.items():
                try:
                    optuna.distributions.check_distribution_compatibility(known, self.distributions.get(key, known))
                except ValueError as error:
                    raise ConfigError(
                        f"{key}: the study in {self.folder} has searched it among other values; go on with those, "
                        "or choose another sweep.name"
                    ) from error

    def _fits(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the trial has a value for every key that is searched now, and for no other."""
        return trial.params.keys() == self.distributions.keys()

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
        trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == optuna.trial.TrialState.RUNNING:
                if self._fits(trial):
                    yield from self._begin(trial.number, self.points(trial))
                else:
                    self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        again = self._to_retry(trials) if self.retry else []
        while self._counted() + self._failed + len(self._pending) < self.settings.trials:
            if again:
                self.study.enqueue_trial(again.pop(0))
            asked = self.study.ask(self.distributions)
            yield from self._begin(asked.number, self.points(asked))

    def _to_retry(self, trials: Sequence[optuna.trial.FrozenTrial]) -> list[dict[str, Any]]:
        """Each failed point once, however often it has failed; its folder is the same, so it goes on there."""
        result: list[dict[str, Any]] = []
        for trial in trials:
            if trial.state == optuna.trial.TrialState.FAIL and self._fits(trial) and trial.params not in result:
                points = [point for point in self.points(trial) if point.error is None]
                if any(state(job.folder) in FAILED for job in self._jobs(points, trial.number)):
                    result.append(trial.params)
        return result

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
        # The same point may have been drawn before: such a job runs once, and whatever comes of it counts for both.
        running = {job.name for others in self._pending.values() for job in others}
        self._pending[number] = jobs
        known = [job for job in jobs if job.name not in running and self._is_known(job)]
        if known:
            self.told(known[0], state(known[0].folder))
        begun = [job for job in jobs if job.name not in running and job not in known]
        for job in begun:
            if state(jobs[0].folder) == "pruned":  # the others of an unpromising trial need not be run
                break
            self._begun.add(job.name)
            yield job

    def _is_known(self, job: Job) -> bool:
        """Whether the job has an outcome that stands: nothing ended is run again, nothing failed twice at a go."""
        became = state(job.folder)
        return became in ENDED or (became in FAILED and (job.name in self._begun or not self.retry))

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
        if became not in ENDED + FAILED:
            return  # stopped: the trial goes on when the sweep does
        for number, jobs in list(self._pending.items()):
            if job.name in [other.name for other in jobs]:
                self._tell(number, jobs)

    def _tell(self, number: int, jobs: list[Job]) -> None:
        if state(jobs[0].folder) == "pruned":
            jobs = self._without_unbegun(jobs)
        states = [state(other.folder) for other in jobs]
        if any(became not in ENDED + FAILED for became in states):
            return
        del self._pending[number]
        if any(became in FAILED for became in states):
            self._failed += 1
            self.study.tell(number, state=optuna.trial.TrialState.FAIL)
        elif "pruned" in states:
            self.study.tell(number, state=optuna.trial.TrialState.PRUNED)
        else:
            self.study.tell(number, statistics.fmean(result(other.folder, self.settings.metric) for other in jobs))

    def _without_unbegun(self, jobs: list[Job]) -> list[Job]:
        """The jobs but those that no one has begun, which the sweep forgets."""
        left = [job for job in jobs if job.name not in self._begun and state(job.folder) == "waiting"]
        for job in left:
            self.index.jobs.pop(job.name, None)
        self.index.write(self.folder)
        return [job for job in jobs if job not in left]

    def best(self) -> str:
        """The best trial so far, in a line."""
        try:
            trial = self.study.best_trial
        except ValueError:
            return "no trial has finished"
        drawn = " ".join(f"{key}={shown(value)}" for key, value in trial.params.items())
        if not self._fits(trial):
            return f"best        {drawn}: {self.settings.metric} {trial.value:.6g}, when other keys were searched"
        [job, *_] = self._jobs(self.points(trial), trial.number)
        return f"best        {job.label}: {self.settings.metric} {trial.value:.6g}, {job.name}"


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
        raise ConfigError(f"hydra.sweeper.metric={metric}: a run has no such number. Known: {', '.join(known)}")
    return float(value)
