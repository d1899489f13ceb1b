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
from dataclasses import replace
from pathlib import Path

from aerun.errors import ConfigError
from aerun.runs.folder import read_status
from aerun.sweep.composer import ComposedPoint, Composer
from aerun.sweep.job import Job
from aerun.sweep.job_index import ENDED, FAILED, UNEVALUATED, JobIndex, job_state, read_job_index, state_of
from aerun.sweep.job_plan import plan_jobs
from aerun.sweep.launcher_place import waiting_lock
from aerun.sweep.optuna_check import check_study
from aerun.sweep.optuna_front import EXCLUDED, Result, format_best, write_trials
from aerun.sweep.optuna_objective import METRIC_KEY, objectives
from aerun.sweep.optuna_settings import OptunaSettings
from aerun.sweep.optuna_study import JOURNAL, distribution_of, open_study, optuna, run_metric, save_plots, suggest
from aerun.sweep.points import Axis, Point, all_combinations, each_value

STUDY_FOLDER = "study"  # in the sweep's folder
MAX_DRAWS = 1000  # in search of a point that meets sweep.where
MAX_INVALID_DRAWS = 100  # in search of a valid point
SEEDS_APART = 100_003  # of launchers that search together
ABANDONED_S = 10.0  # a running trial of another launcher is looked at when it has been known for so long
INVALID = "invalid"  # attribute of a trial: why its point is invalid
State = optuna.trial.TrialState


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
        where: str | None = None,
        launchers: int = 0,
    ) -> None:
        """``where``: a condition that all points of the search meet; see ``sweep.where``. ``launchers``: how many
        others take part in the search at present."""
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
        composer.set_condition(where)
        self.where = where
        self.distributions = {axis.key: distribution_of(axis) for axis in self.searched}
        self.first = self._first_point()
        self.objectives = objectives(settings.metrics, settings.directions, self.first.metrics)
        directions = [objective.direction for objective in self.objectives]
        pruner = (settings.pruner if settings.is_pruned else "none", settings.startup_trials, settings.warmup_epochs)
        seed = settings.seed + launchers * SEEDS_APART  # so that no two draw the same points
        self.study = open_study(folder, settings.sampler, seed, directions, pruner)
        self.invalid: list[tuple[str, str]] = []
        self._pending: dict[int, list[Job]] = {}  # by trial
        self._running: set[str] = set()  # jobs that were handed out and have not ended
        self._tried: set[str] = set()  # jobs that this launch has run
        self._failed = 0  # trials of earlier launches whose failed runs are not retried
        self._first_new = len(self.study.get_trials(deepcopy=False))
        self._seen: dict[int, float] = {}  # running trials of others, since when they are known
        index.find_recorded(folder, self.swept)
        check_study(
            self.study,
            self.objectives,
            self.distributions,
            self._differing_keys,
            self._known_jobs,
            index,
            folder,
        )

    @property
    def runs(self) -> int:
        """The number of runs of all trials."""
        return self.settings.trials * len(self.others)

    def notes(self) -> list[str]:
        """What the user should know about the metrics before work begins, in a line each."""
        notes = [objective.note for objective in self.objectives if objective.note is not None]
        if self.settings.pruner != "none" and not self.settings.is_pruned:
            notes.append("hydra.sweeper.pruner: no run is stopped early in a search with several metrics")
        return notes

    def points(self, trial: optuna.trial.FrozenTrial | optuna.Trial) -> list[ComposedPoint]:
        """The composed points of a trial."""
        return [self.composer([*other, *self._drawn(trial)]) for other in self.others]

    def _drawn(self, trial: optuna.trial.FrozenTrial | optuna.Trial) -> Point:
        """The drawn values of a trial. Keys that its options do not have are not drawn."""
        return [
            axis.at(trial.params[axis.key]) if axis.interval else f"{axis.key}={trial.params[axis.key]}"
            for axis in self.searched
            if axis.key in trial.params
        ]

    def _has_key(self, axis: Axis, drawn: Point) -> bool:
        return self.composer.has_key([*self.others[0], *drawn], axis.key)

    def _differing_keys(self, trial: optuna.trial.FrozenTrial) -> list[str]:
        """The searched keys that a trial lacks, although its options have them, or has beyond those of this search."""
        lacking = [axis for axis in self.searched if axis.key not in trial.params]
        lacked = [axis.key for axis in lacking if self._has_key(axis, self._drawn(trial))]
        return sorted([*lacked, *(trial.params.keys() - self.distributions.keys())])

    def ask(self) -> optuna.Trial:
        """A new trial that meets ``sweep.where``. Options are drawn first, then the keys that they have.

        Trials that do not meet it are reported to the study as pruned, to be avoided, and do not count.
        """
        for _ in range(MAX_DRAWS):
            trial = self.study.ask()
            for axis in sorted(self.searched, key=lambda axis: "." in axis.key):
                if self._has_key(axis, self._drawn(trial)):
                    suggest(trial, axis)
            if not any(point.excluded for point in self.points(trial)):
                return trial
            trial.set_user_attr(EXCLUDED, self.where)
            self.study.tell(trial, state=State.PRUNED)
        raise ConfigError(f"sweep.where='{self.where}': {MAX_DRAWS} draws in a row do not meet it")

    def _first_point(self) -> ComposedPoint:
        """A point of the search space, to check what all runs have in common; a valid one if draws find any.

        ConfigError if no draw meets ``sweep.where``.
        """
        generator = random.Random(self.settings.seed)
        found: list[ComposedPoint] = []
        for _ in range(MAX_DRAWS):
            drawn = [axis.draw(generator) for axis in self.searched]
            point = self.composer([*self.others[0], *drawn])
            if not point.excluded:
                found.append(point)
            if not point.excluded and (point.error is None or len(found) == MAX_INVALID_DRAWS):
                break
        if not found:
            raise ConfigError(f"sweep.where='{self.where}': none of {MAX_DRAWS} draws from the search space meets it")
        return found[-1] if found[-1].error is None else found[0]

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
        return [trial for trial in trials if not self._differing_keys(trial)]

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
            results = sum(
                EXCLUDED not in trial.user_attrs
                for trial in self.study.get_trials(deepcopy=False, states=(State.COMPLETE, State.PRUNED))
            )
            new_failures = sum(
                trial.number >= self._first_new and INVALID not in trial.user_attrs
                for trial in self._trials(State.FAIL)
            )
            if results + self._failed + new_failures + running >= self.settings.trials:
                return None, running
            return self.ask(), running

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
            "metric": settings.metrics[0],
            "pruner": [settings.pruner, settings.startup_trials, settings.warmup_epochs],
        }
        jobs = plan_jobs(points, self.composer, self.swept, self.index, self.folder)
        return [replace(job, trial=trial) if settings.is_pruned and i == 0 else job for i, job in enumerate(jobs)]

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
            metrics = self.settings.metrics
            values = [statistics.fmean(run_metric(job.folder, metric) for job in jobs) for metric in metrics]
            self.study.tell(number, values, skip_if_finished=True)

    def best(self) -> str:
        """The best trial so far whose runs exist, in one line, or the Pareto front of several metrics as a table."""
        trials = self.study.get_trials(deepcopy=False, states=[State.COMPLETE])
        results = self._results(trials)
        if results:
            return format_best(self.objectives, results)
        return "no trial has finished" if not trials else "best        unknown: the folders of all trials are missing"

    def save(self) -> None:
        """Write a table of all trials, and Optuna's plots."""
        trials = self.study.get_trials(deepcopy=False)
        complete = [trial for trial in trials if trial.state == State.COMPLETE]
        write_trials(
            self.folder / STUDY_FOLDER, self.objectives, trials, self._results(complete), list(self.distributions)
        )
        save_plots(self.study, self.folder / STUDY_FOLDER, self.settings.metrics)

    def _results(self, trials: Sequence[optuna.trial.FrozenTrial]) -> list[Result]:
        """The trials whose runs exist and have finished, with their runs."""
        results = [(trial, self._known_jobs(trial)) for trial in trials]
        return [(t, jobs) for t, jobs in results if jobs and all(job_state(job.folder) == "finished" for job in jobs)]
