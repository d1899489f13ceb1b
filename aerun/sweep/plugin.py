"""aerun's sweepers as Hydra plugins: ``hydra/sweeper=grid`` (the default of -m), zip, random, file and optuna.

Hydra's own sweeper is not used: it passes the typed overrides to the launcher, so that each job checks its own values
when it starts, folders are only numbered, and a repeated sweep runs everything again.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.plugins import Plugins
from hydra.core.utils import env_override
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from aerun.base.files import missing_folders, remove_empty
from aerun.base.program import typed_command
from aerun.config.compose import environment_of
from aerun.config.identity import differing_keys
from aerun.config.override_syntax import expand_words
from aerun.config.schema import construct
from aerun.errors import ConfigError
from aerun.runs.same_run import list_keys
from aerun.sweep import points
from aerun.sweep.changed_data import changed_runs
from aerun.sweep.composer import ComposedPoint, Composer
from aerun.sweep.hydra_keys import check_hydra_keys, job_environment
from aerun.sweep.job import Job, format_value
from aerun.sweep.job_index import ENDED, FAILED, JobIndex, job_state, read_job_index, state_of
from aerun.sweep.job_plan import plan_jobs
from aerun.sweep.job_runner import JobRunner
from aerun.sweep.launcher import build_launcher
from aerun.sweep.launcher.contract import Launcher
from aerun.sweep.launcher_place import launcher_place, other_launchers, waiting_lock
from aerun.sweep.remote import CHECK_POINTS
from aerun.sweep.sweep_report import failed_protocols, print_headline, print_others, print_table
from aerun.sweep.sweep_settings import SweepSettings, parse_sweep_settings, sweep_folder

if TYPE_CHECKING:
    from aerun.sweep.optuna_search import OptunaSearch

NAMESPACE = "hydra_plugins.aerun"


class PointSweeper(Sweeper):
    """Base class: check all points, then launch the jobs that have not ended."""

    kind: ClassVar[type]

    def __init__(self, params: Any = None, **node: Any) -> None:
        self.params = dict(params or {})
        self._node = node
        self.place: Path | None = None  # of this launcher; None for a dry run

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what Hydra has composed for the whole sweep."""
        # Not in __init__, because Hydra wraps its errors.
        self.master = config
        self.command = typed_command()
        self.composer = Composer(hydra_context.config_loader, config)
        unresolved: Any = OmegaConf.to_container(config.hydra, resolve=False)
        check_hydra_keys(unresolved, hydra_context.callbacks.callbacks)
        with environment_of([*unresolved["overrides"]["hydra"], *unresolved["overrides"]["task"]]):
            node, sweep, launcher = plain(self._node), plain(config.sweep), plain(config.hydra.launcher)
            self.environment = job_environment({"job": plain(config.hydra.job), "launcher": launcher})
        self.points = construct(self.kind, node, "hydra.sweeper")
        self.sweep_settings: SweepSettings = parse_sweep_settings(sweep)
        self.folder = sweep_folder(config.hydra.sweep.dir, self.sweep_settings.name)
        self.launcher: Launcher = build_launcher(launcher, self.sweep_settings.gpus)  # type: ignore[assignment]

    def sweep(self, arguments: list[str]) -> None:
        """Run all jobs of the typed points that have not ended."""
        params = [f"{key}={format_value(value)}" for key, value in self.params.items()]
        words = expand_words(params, several=True) + arguments  # these were expanded where they were typed
        typed = []
        for axis in points.axes(words, self.composer.parser):
            if not axis.key.lstrip("+").startswith("sweep."):
                typed.append(axis)
            elif axis.is_swept:
                raise ConfigError(f"{axis.key}: applies to the whole sweep and takes one value")
        with contextlib.ExitStack() as stack:
            stack.enter_context(env_override(self.environment))
            if not self.sweep_settings.dry_run:
                stack.callback(remove_empty, missing_folders(self.folder))  # if nothing is started
                self.folder.mkdir(parents=True, exist_ok=True)
                self.place = stack.enter_context(launcher_place(self.folder, self.launcher.detached))
            stack.enter_context(self.launcher)
            self._run(typed)

    def _run(self, typed: list[points.Axis]) -> None:
        listed = self.points.points(typed, self.composer.parser)
        self.launcher.warm(len(listed))
        with contextlib.nullcontext() if self.place is None else waiting_lock(self.folder):
            planned = self._plan(typed, listed)
        if planned is not None:
            self._run_jobs(*planned)

    def _plan(
        self, typed: list[points.Axis], listed: list[points.Point]
    ) -> tuple[list[Job], list[Job], list[tuple[str, str]], int] | None:
        """All jobs of the points, those to run, the invalid ones, and the number of points; None after a dry run."""
        index = self._index()
        composed = self._compose(typed, listed)
        swept = self._swept_keys(typed, composed)
        index.find_recorded(self.folder, swept)
        self._check_shapes(composed)
        self._check_any_valid(composed)
        valid = [point for point in composed if point.error is None]
        invalid = [(self._label(point, swept), point.error) for point in composed if point.error is not None]
        jobs = plan_jobs(valid, self.composer, swept, index, self.folder)
        if self.sweep_settings.dry_run:
            from aerun.sweep.dry_run import print_preview

            print_preview(jobs, self._remaining(jobs), invalid, self.launcher, index)
            self._refuse_invalid(len(invalid), len(composed))  # as the sweep itself would
            return None
        if (reason := index.explain_new(jobs, swept)) is not None:
            print(reason)
        jobs, changed = self._without_changed_runs(jobs, index, composed)
        invalid += changed
        self._check_valid(invalid, len(composed))
        index.add(jobs)
        index.write(self.folder)
        return jobs, self._remaining(jobs), invalid, len(composed)

    def _run_jobs(self, jobs: list[Job], remaining: list[Job], invalid: list[tuple[str, str]], total: int) -> None:
        assert self.place is not None
        duplicates = total - len(invalid) - len(jobs)
        states = [state_of(job) for job in remaining]
        print_headline(self.folder, len(jobs), states, duplicates, self.launcher.slots, self.place)
        runner = JobRunner(self.folder, self.sweep_settings, self.launcher, self.command, self.place)
        runner.run(remaining, len(jobs) - len(remaining))
        runner.report(jobs, invalid)

    def _compose(self, typed: list[points.Axis], listed: list[points.Point]) -> list[ComposedPoint]:
        """The points that meet ``sweep.where``. ConfigError if none does."""
        self.composer.learn_keys(self._possible(typed, listed))
        where = self.sweep_settings.where
        self.composer.set_condition(where)
        composed = [self.composer(point) for point in listed]
        excluded = [point for point in composed if point.excluded]
        if excluded:
            lacking = Counter(key for point in excluded for key in point.lacking)
            notes = "".join(f"; {count} of them have no {key}" for key, count in lacking.items())
            text = f"leaves out {len(excluded)} of {len(composed)} points{notes}"
            if len(excluded) == len(composed):
                raise ConfigError(f"sweep.where='{where}': {text}; nothing would run")
            print(f"sweep.where='{where}': {text}\n")
        return [point for point in composed if not point.excluded]

    def _possible(self, typed: list[points.Axis], listed: list[points.Point]) -> list[points.Point]:
        """Points with all options among which the sweep may choose."""
        return listed

    def _index(self) -> JobIndex:
        """The sweep's index, new where there is none. Its points keep the defaults that the sweep began with."""
        index = read_job_index(self.folder) or JobIndex(self.folder.name, self.command, {}, self.composer.defaults)
        self.composer.sweep_defaults = index.defaults
        return index

    def _swept_keys(self, typed: list[points.Axis], composed: list[ComposedPoint]) -> list[str]:
        """The keys that vary, in the order typed."""
        return [axis.key.lstrip("+") for axis in typed if axis.is_swept]

    def _label(self, point: ComposedPoint, swept: list[str]) -> str:
        chosen = [word for word in point.overrides if word.lstrip("+").partition("=")[0] in swept]
        return " ".join(chosen or point.overrides)

    def _check_shapes(self, composed: list[ComposedPoint]) -> None:
        """Set the error of points whose layers do not fit each other or their data."""
        valid = [point for point in composed if point.error is None]
        configurations = [(point.config, point.choices) for point in valid]
        results = self.launcher.call(CHECK_POINTS, configurations, self.place, self.launcher.local)
        for point, result in zip(valid, results, strict=True):
            point.error, point.checksum = result.error, result.checksum

    def _without_changed_runs(
        self, jobs: list[Job], index: JobIndex, composed: list[ComposedPoint]
    ) -> tuple[list[Job], list[tuple[str, str]]]:
        """The jobs, without those whose folder contains a run with other settings or data, and an error for each of
        these.

        A run changes its settings if it is resumed with more epochs.
        """
        changed = []
        for job in jobs:
            run = index.recorded.get(job.name)
            if run is not None and job.identity not in run.identities:
                keys = list_keys(differing_keys(run.config, job.config))
                changed.append(
                    (job.label, f"{job.name}: contains a run with other settings ({keys}); move it elsewhere")
                )
        changed += [(job.label, text) for job, text in changed_runs(jobs, composed)]
        return [job for job in jobs if job.label not in dict(changed)], changed

    def _check_any_valid(self, composed: list[ComposedPoint]) -> None:
        """ConfigError if all points are invalid for the same reason, such as a key that does not exist."""
        errors = {point.error for point in composed}
        if len(errors) == 1 and (error := errors.pop()) is not None:
            raise ConfigError(error)

    def _check_valid(self, invalid: list[tuple[str, str]], total: int) -> None:
        """Print invalid points. ConfigError unless sweep.invalid=skip and some points are valid."""
        if invalid:
            print("invalid:")
            print_table(invalid)
        self._refuse_invalid(len(invalid), total)

    def _refuse_invalid(self, invalid: int, total: int) -> None:
        if invalid and self.sweep_settings.invalid == "fail":
            raise ConfigError(
                f"{invalid} of {total} points are invalid; nothing was started. "
                "Use sweep.invalid=skip to run the others"
            )
        if invalid and invalid == total:
            raise ConfigError("all points are invalid; nothing was started")

    def _remaining(self, jobs: list[Job]) -> list[Job]:
        """The jobs that have not ended, with failed ones, and finished ones with failed protocols, if
        sweep.retry_failed=true."""
        if not self.sweep_settings.retry_failed:
            return [job for job in jobs if state_of(job) not in ENDED + FAILED]
        return [job for job in jobs if state_of(job) not in ENDED or failed_protocols(job.folder, job.config)]


def plain(node: Any) -> Any:
    """Convert a node of the configuration to plain values."""
    return OmegaConf.to_container(OmegaConf.create(node), resolve=True) if isinstance(node, dict | DictConfig) else node


class Grid(PointSweeper):
    """Every combination."""

    kind = points.Grid


class Zip(PointSweeper):
    """Values paired by position."""

    kind = points.Zip


class Random(PointSweeper):
    """Random draws."""

    kind = points.Random

    def _possible(self, typed: list[points.Axis], listed: list[points.Point]) -> list[points.Point]:
        return points.each_value(typed)  # few draws may miss an option


class File(PointSweeper):
    """Runs listed in a file."""

    kind = points.File

    def _swept_keys(self, typed: list[points.Axis], composed: list[ComposedPoint]) -> list[str]:
        """The keys whose values differ between runs, in the file or on the command line."""
        given = [{word.lstrip("+").partition("=")[0]: word for word in point.overrides} for point in composed]
        keys = dict.fromkeys(key for words in given for key in words)
        return [key for key in keys if len({words.get(key) for words in given}) > 1]


class Search(PointSweeper):
    """Runs chosen by Optuna."""

    @property
    def kind(self) -> type:  # type: ignore[override]
        """The class of its settings. ConfigError without Optuna."""
        import aerun.sweep.optuna_study  # noqa: F401
        from aerun.sweep.optuna_settings import OptunaSettings

        return OptunaSettings

    def _run(self, typed: list[points.Axis]) -> None:
        if self.place is None:
            raise ConfigError("sweep.dry_run=true: does not work with a search, which chooses its runs one by one")
        with waiting_lock(self.folder):
            search, index = self._open_search(typed, self.place)
        print(f"{os.path.relpath(self.folder)}: {self.points.trials} trials, {self.launcher.slots} at a time")
        print_others(self.place)
        runner = JobRunner(self.folder, self.sweep_settings, self.launcher, self.command, self.place, search.record_end)
        before = {job.name for job in index.as_jobs(self.folder) if job_state(job.folder) in ENDED}
        runner.set_count(len(before), search.runs)
        for _ in runner.run_as_they_come(iter(search), self.launcher.slots):
            pass
        search.save()
        print(f"\n{search.best()}")
        jobs = search.all_jobs()
        new = [job for job in jobs if job.name not in before | runner.ended_here]
        runner.ended_elsewhere = [job for job in new if job_state(job.folder) in ENDED + FAILED]
        runner.report(jobs, search.invalid)

    def _open_search(self, typed: list[points.Axis], place: Path) -> tuple[OptunaSearch, JobIndex]:
        """The search, after its check; its study and its index are those in the folder, if there are any."""
        from aerun.sweep.optuna_search import OptunaSearch

        index = self._index()
        search = OptunaSearch(
            self.points,
            typed,
            self.composer,
            index,
            self.folder,
            self.sweep_settings.retry_failed,
            self.sweep_settings.where,
            len(other_launchers(place)),
        )
        first = [search.first]
        self._check_shapes(first)
        self._check_valid(
            [(self._label(point, search.swept), point.error) for point in first if point.error], len(first)
        )
        for _, text in changed_runs(index.as_jobs(self.folder), first):
            raise ConfigError(text)
        for note in search.notes():
            print(f"aerun: {note}", file=sys.stderr)
        return search, index


def register() -> None:
    """Register the sweepers with Hydra.

    Hydra 1.3 accepts plugins only from a package named hydra_plugins, which every Hydra application on the machine
    would then import. Therefore only the sweepers' module name says so, in this process.
    """
    plugins = Plugins.instance()  # finds all other plugins first
    parent, _, name = NAMESPACE.partition(".")
    with contextlib.suppress(ImportError):
        importlib.import_module(parent)
    setattr(sys.modules.setdefault(parent, ModuleType(parent)), name, sys.modules[__name__])
    sys.modules[NAMESPACE] = sys.modules[__name__]
    for sweeper in (Grid, Zip, Random, File, Search):
        sweeper.__module__ = NAMESPACE
        plugins.register(sweeper)
