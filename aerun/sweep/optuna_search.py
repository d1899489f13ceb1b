"""Search with Optuna: earlier results decide which runs come next, and unpromising runs are stopped early.

Hydra's own Optuna plugin is not used: it requires Optuna 2 (2021), which cannot store a study in a file with current
database drivers, and it numbers the folders of a continued study from 0 again.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from aerun.config.parse import parse
from aerun.contracts import Count, NonNegativeInt, Seed
from aerun.errors import ConfigError
from aerun.metrics.declared import NONE, Metrics, declared_by, find_metric
from aerun.runs.folder import read_status
from aerun.sweep.composer import ComposedPoint, Composer
from aerun.sweep.job import Job
from aerun.sweep.job_index import ENDED, FAILED, UNEVALUATED, JobIndex, job_state, read_job_index, state_of
from aerun.sweep.job_plan import plan_jobs
from aerun.sweep.launcher_place import waiting_lock
from aerun.sweep.optuna_check import check_study
from aerun.sweep.optuna_study import JOURNAL, METRIC_KEY, distribution_of, open_study, optuna, run_metric
from aerun.sweep.points import Axis, all_combinations, each_value

MAX_DRAWS = 100  # in search of a valid point
SEEDS_APART = 100_003  # of launchers that search together
ABANDONED_S = 10.0  # a running trial of another launcher is looked at when it has been known for so long
INVALID = "invalid"  # attribute of a trial: why its point is invalid
State = optuna.trial.TrialState


@dataclass(frozen=True, kw_only=True)
class OptunaSettings:
    """A study of ``trials`` trials, stored in the sweep's folder as study.log.

    ``metric``: of the best epoch in metrics.jsonl (``validation/mse``, which does not include penalties), or in the
    summary (``best_loss``). ``pruner``: stops a trial that is worse than earlier ones at the same epoch, but never
    within its first ``warmup_epochs``, nor before ``startup_trials`` trials have ended. Keys in ``crossed`` are not
    searched: a trial has one run for each of their values, its result is their mean, and only the first can be pruned.
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
                f"metric={self.metric}: is not known during training; use hydra.sweeper.pruner=none or validation/…"
            )


class OptunaSearch:
    """Turns the trials of a study into jobs, and the results of the jobs into those of the trials."""

    def __init__(
        self,
        settings: OptunaSettings,
        axes: Sequence[Axis],
        composer: Composer,
        index: JobIndex,
        folder: Path,
        retry: bool,
        launchers: int = 0,
    ) -> None:
        """``launchers``: how many others take part in the search at present."""
        self.settings, self.composer, self.index, self.folder, self.retry = settings, composer, index, folder, retry
        self.searched = [axis for axis in axes if axis.is_swept and axis.key not in settings.crossed]
        if not self.searched:
            raise ConfigError(
                "hydra/sweeper=optuna: nothing to search; give at least one key several values or an interval(…)"
            )
        others = [axis for axis in axes if axis not in self.searched]
        self.others = all_combinations(others)
        self.swept = [axis.key for axis in (*self.searched, *others) if axis.is_swept]
        composer.learn_keys(each_value(axes))
        self.distributions = {axis.key: distribution_of(axis) for axis in self.searched}
        pruner = (settings.pruner, settings.startup_trials, settings.warmup_epochs)
        seed = settings.seed + launchers * SEEDS_APART  # so that no two draw the same points
        self.study = open_study(folder, settings.sampler, seed, settings.direction, pruner)
        self.invalid: list[tuple[str, str]] = []
        self._pending: dict[int, list[Job]] = {}  # by trial
        self._running: set[str] = set()  # jobs that were handed out and have not ended
        self._tried: set[str] = set()  # jobs that this launch has run
        self._failed = 0  # trials of earlier launches whose failed runs are not retried
        self._first_new = len(self.study.get_trials(deepcopy=False))
        self._seen: dict[int, float] = {}  # running trials of others, since when they are known
        index.find_recorded(folder, self.swept)
        check_study(
            self.study, settings.metric, settings.direction, self.distributions, self._known_jobs, index, folder
        )

    @property
    def runs(self) -> int:
        """The number of runs of all trials."""
        return self.settings.trials * len(self.others)

    def points(self, trial: optuna.trial.FrozenTrial | optuna.Trial) -> list[ComposedPoint]:
        """The composed points of a trial."""
        drawn = [
            axis.at(trial.params[axis.key]) if axis.interval else f"{axis.key}={trial.params[axis.key]}"
            for axis in self.searched
        ]
        return [self.composer([*other, *drawn]) for other in self.others]

    def first_point(self) -> ComposedPoint:
        """A point of the search space, to check what all runs have in common; a valid one if draws find any."""
        generator = random.Random(self.settings.seed)
        draws = ([axis.draw(generator) for axis in self.searched] for _ in range(MAX_DRAWS))
        points = [self.composer([*self.others[0], *next(draws)])]
        while points[-1].error is not None and (drawn := next(draws, None)) is not None:
            points.append(self.composer([*self.others[0], *drawn]))
        return points[-1] if points[-1].error is None else points[0]

    def declared_metrics(self, point: ComposedPoint) -> Metrics:
        """The metrics that the parts and callbacks of a valid point declare."""
        settings = parse(point.config, point.choices)
        return declared_by([*settings.parts().values(), *settings.callback.values()])

    def __iter__(self) -> Iterator[Job | None]:
        """The jobs: first those that an earlier launch left unfinished, then those of new trials.

        None while there are none, but other launchers have trials that they may leave unfinished.
        """
        for trial in self._trials(State.RUNNING):
            yield from self._start(trial.number, self.points(trial))
        for trial in self._trials(State.COMPLETE):
            yield from (job for job in self._known_jobs(trial) if state_of(job) == UNEVALUATED)
        failed = {repr(sorted(trial.params.items())): trial for trial in self._trials(State.FAIL)}
        for trial in failed.values():
            if trial.number < self._first_new and any(
                job_state(job.folder) in FAILED for job in self._jobs(self.points(trial), trial.number)
            ):
                if self.retry:  # in the same folder, where it continues
                    self._retry(trial)
                else:
                    self._failed += 1
        while True:
            for trial in self._abandoned():
                yield from self._start(trial.number, self.points(trial))
            new, running = self._draw()
            if new is not None:
                yield from self._start(new.number, self.points(new))
            elif running:
                yield None
            else:
                return

    def _trials(self, *states: optuna.trial.TrialState) -> list[optuna.trial.FrozenTrial]:
        """The trials of this search space; not those of a launch that died while drawing."""
        trials = self.study.get_trials(deepcopy=False, states=states)
        return [trial for trial in trials if trial.params.keys() == self.distributions.keys()]

    def _retry(self, trial: optuna.trial.FrozenTrial) -> None:
        """Draw the point of a failed trial again, unless another launcher does."""
        with waiting_lock(self.folder):
            again = {"fixed_params": trial.params}
            waiting = self.study.get_trials(deepcopy=False, states=[State.WAITING])
            taken = any(other.params == trial.params and other.number > trial.number for other in self._trials(*State))
            if not taken and all(other.system_attrs != again for other in waiting):
                self.study.enqueue_trial(trial.params, skip_if_exists=False)

    def _draw(self) -> tuple[optuna.Trial | None, int]:
        """A new trial, or None if there are enough, and the number of trials that run here or elsewhere."""
        with waiting_lock(self.folder):
            running = len(self._trials(State.RUNNING))
            results = len(self.study.get_trials(deepcopy=False, states=(State.COMPLETE, State.PRUNED)))
            new_failures = sum(
                trial.number >= self._first_new and INVALID not in trial.user_attrs
                for trial in self._trials(State.FAIL)
            )
            if results + self._failed + new_failures + running >= self.settings.trials:
                return None, running
            return self.study.ask(self.distributions), running

    def _abandoned(self) -> list[optuna.trial.FrozenTrial]:
        """Running trials of other launchers that have been known for a while, to run what their launchers do not."""
        others = [trial for trial in self._trials(State.RUNNING) if trial.number not in self._pending]
        now = time.monotonic()
        self._seen = {trial.number: self._seen.get(trial.number, now) for trial in others}
        return [trial for trial in others if now - self._seen[trial.number] >= ABANDONED_S]

    def _start(self, number: int, points: list[ComposedPoint]) -> Iterator[Job]:
        errors = [point for point in points if point.error is not None]
        if errors:
            self.invalid.append((" ".join(errors[0].overrides), errors[0].error or ""))
            self._handle(number).set_user_attr(INVALID, errors[0].error or "")
            self.study.tell(number, state=State.FAIL, skip_if_finished=True)
            if len(self.invalid) > 10 * self.settings.trials:
                raise ConfigError(f"hydra/sweeper=optuna: most of the search space is invalid: {errors[0].error}")
            return
        with self._shared_index():
            jobs = self._jobs(points, number)
            self.index.add(jobs)
        self._pending[number] = list(jobs)
        # A job may have ended before, in another trial or in a launch that died before it reported to the study.
        left = [job for job in jobs if state_of(job) not in ENDED and job.name not in self._tried | self._running]
        if not self._running & {job.name for job in jobs} and not left:
            self._finish_trial(number)
        self._running |= {job.name for job in left}
        for job in left:
            if job is not jobs[0] and job_state(jobs[0].folder) == "pruned":
                self._drop_job(number, job)
            else:
                yield job

    @contextlib.contextmanager
    def _shared_index(self) -> Iterator[None]:
        """A block that changes the index, which other launchers change too."""
        with waiting_lock(self.folder):
            if (stored := read_job_index(self.folder)) is not None:
                self.index.jobs = stored.jobs
            yield
            self.index.write(self.folder)

    def _handle(self, number: int) -> optuna.Trial:
        known = next(trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number)
        return optuna.Trial(self.study, known._trial_id)

    def _drop_job(self, number: int, job: Job) -> None:
        """Leave out a further run of a trial that was pruned."""
        self._running.discard(job.name)
        self._pending[number].remove(job)
        if job_state(job.folder) == "waiting":
            with self._shared_index():
                self.index.jobs.pop(job.name, None)
        if not self._running & {other.name for other in self._pending[number]}:
            self._finish_trial(number)

    def _known_jobs(self, trial: optuna.trial.FrozenTrial) -> list[Job]:
        """The jobs of an earlier trial; none if they are invalid."""
        points = self.points(trial)
        return [] if any(point.error for point in points) else self._jobs(points, trial.number)

    def _jobs(self, points: list[ComposedPoint], number: int) -> list[Job]:
        settings = self.settings
        trial = {
            "journal": str(self.folder / JOURNAL),
            "number": number,
            "metric": settings.metric,
            "pruner": [settings.pruner, settings.startup_trials, settings.warmup_epochs],
        }
        jobs = plan_jobs(points, self.composer, self.swept, self.index, self.folder)
        watched = settings.pruner != "none"
        return [replace(job, trial=trial) if watched and i == 0 else job for i, job in enumerate(jobs)]

    def all_jobs(self) -> list[Job]:
        """The jobs of all launchers."""
        with self._shared_index():
            return self.index.as_jobs(self.folder)

    def record_end(self, job: Job, state: str) -> None:
        """Note that a job has ended. A trial has its result when all its jobs have ended."""
        if state not in (*ENDED, *FAILED):
            return  # stopped: its trials continue with the sweep
        self._running.discard(job.name)
        self._tried.add(job.name)
        for number, jobs in list(self._pending.items()):
            if job.name in [other.name for other in jobs] and not self._running & {other.name for other in jobs}:
                self._finish_trial(number)

    def _finish_trial(self, number: int) -> None:
        """Pass the result of a trial to the study. ConfigError if its runs do not have the metric."""
        jobs = self._pending.pop(number)
        states = [job_state(job.folder) for job in jobs]
        if any(state in FAILED for state in states):
            self.study.tell(number, state=State.FAIL, skip_if_finished=True)
            for job in jobs:
                error = (read_status(job.folder) or {}).get("error") or ""
                if error.startswith(f"ConfigError: {METRIC_KEY}="):
                    raise ConfigError(error.removeprefix("ConfigError: "))
        elif "pruned" in states:
            self.study.tell(number, state=State.PRUNED, skip_if_finished=True)
        else:
            value = statistics.fmean(run_metric(job.folder, self.settings.metric) for job in jobs)
            self.study.tell(number, value, skip_if_finished=True)

    def best(self) -> str:
        """The best trial so far whose runs exist, in one line."""
        trials = self.study.get_trials(deepcopy=False, states=[State.COMPLETE])
        sign = 1 if self.settings.direction == "minimize" else -1
        for trial in sorted(trials, key=lambda trial: sign * (trial.value or 0.0)):
            jobs = self._known_jobs(trial)
            if jobs and all(job_state(job.folder) == "finished" for job in jobs):
                return f"best        {jobs[0].label}: {self.settings.metric} {trial.value:.6g}, {jobs[0].name}"
        return "no trial has finished" if not trials else "best        unknown: the folders of all trials are missing"


def direction_warning(settings: OptunaSettings, declared: Metrics = NONE) -> str | None:
    """A line if the metric's declared direction is the opposite of the search's; None otherwise."""
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
