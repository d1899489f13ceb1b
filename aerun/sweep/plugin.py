"""aerun's sweepers, as Hydra sees them: ``hydra/sweeper=grid`` (what -m does), zip, random, file and optuna.

Hydra's own sweeper composes all points too, but hands typed strings to the launcher: ranges and pairs are then
checked one by one in the jobs, folders are numbered, and a repeated sweep begins anew.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from aerun.base.lock import FolderLock
from aerun.config.identity import identity
from aerun.config.schema import construct
from aerun.errors import ConfigError
from aerun.runs.folder import CONFIG, read_config
from aerun.sweep import points
from aerun.sweep.drive import Drive, number_of, table
from aerun.sweep.index import ENDED, FAILED, Index, read_index, state
from aerun.sweep.job import SHARED, Job, shown
from aerun.sweep.launcher import Launcher, build_launcher
from aerun.sweep.plan import Composed, Composer, jobs_of
from aerun.sweep.remote import CHECK
from aerun.sweep.settings import Sweep, parse_sweep, sweep_folder

NAMESPACE = "hydra_plugins.aerun"


class _Sweeper(Sweeper):
    """What all share: the points are checked as a whole, then the jobs that are left to do are launched."""

    kind: ClassVar[type]

    def __init__(self, params: Any = None, **node: Any) -> None:
        self.params = dict(params or {})
        self._node = node

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra has composed for the sweep as a whole."""
        self.points = construct(self.kind, plain(self._node), "hydra.sweeper")  # Hydra wraps errors of __init__
        self.master = config
        self.composer = Composer(hydra_context.config_loader, config)
        self.sweep_settings: Sweep = parse_sweep(plain(config.sweep))
        self.folder = sweep_folder(config.hydra.sweep.dir, self.sweep_settings.name)
        self.launcher: Launcher = build_launcher(  # type: ignore[assignment]
            plain(config.hydra.launcher), self.sweep_settings.gpus
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run everything that is left to do of what was typed."""
        words = [f"{key}={shown(value)}" for key, value in self.params.items()] + arguments
        typed = []
        for axis in points.axes(words, self.composer.parser):
            if not axis.key.lstrip("+").startswith("sweep."):
                typed.append(axis)
            elif axis.is_swept:
                raise ConfigError(f"{axis.key}: is of the sweep as a whole, and takes one value")
        with contextlib.ExitStack() as stack:
            if not self.sweep_settings.dry_run:
                stack.callback(self._remove_if_empty)
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FolderLock(self.folder))
                stack.callback(shutil.rmtree, self.folder / SHARED, ignore_errors=True)
            stack.enter_context(self.launcher)
            self._sweep(typed)

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # nothing was begun

    def _sweep(self, typed: list[points.Axis]) -> None:
        listed = self.points.points(typed, self.composer.parser)
        self.launcher.warm(len(listed))
        composed = [self.composer(point) for point in listed]
        index = read_index(self.folder) or Index(self.folder.name, typed_words(), {})
        swept = self._swept(typed, composed)
        self._check_shapes(composed)
        sound = [point for point in composed if point.error is None]
        invalid = [(self._label(point, swept), point.error) for point in composed if point.error is not None]
        jobs = jobs_of(sound, self.composer, swept, index, self.folder)
        if self.sweep_settings.dry_run:
            from aerun.sweep.preview import preview

            preview(jobs, self._left(jobs), invalid, self.launcher)
            return
        jobs, changed = self._whole(jobs)
        invalid += changed
        self._refuse(invalid, len(composed))
        index.add(jobs)
        index.write(self.folder)
        left = self._left(jobs)
        print(_about(self.folder, jobs, left, len(composed) - len(invalid) - len(jobs), self.launcher.slots))
        drive = Drive(self.folder, self.sweep_settings, self.launcher, typed_words())
        drive.run(left, len(jobs) - len(left))
        drive.report(jobs, invalid)

    def _swept(self, typed: list[points.Axis], composed: list[Composed]) -> list[str]:
        """The keys that vary, in the order typed."""
        return [axis.key for axis in typed if axis.is_swept]

    def _label(self, point: Composed, swept: list[str]) -> str:
        chosen = [word for word in point.overrides if word.partition("=")[0] in swept]
        return " ".join(chosen or point.overrides)

    def _check_shapes(self, composed: list[Composed]) -> None:
        """Find the points whose layers or data do not go together, by building them without their memory."""
        sound = [point for point in composed if point.error is None]
        share = self.folder if not self.sweep_settings.dry_run else None
        for point, finding in zip(
            sound,
            self.launcher.here(CHECK, [(p.config, p.choices) for p in sound], share, self.launcher.local),
            strict=True,
        ):
            point.error = finding.error

    def _whole(self, jobs: list[Job]) -> tuple[list[Job], list[tuple[str, str]]]:
        """The jobs whose folders hold nothing else, and the others: somebody may have made a run longer."""
        changed = []
        for job in jobs:
            if (job.folder / CONFIG).exists() and identity(read_config(job.folder)) != job.identity:
                changed.append((job.label, f"{job.name}: holds a run of other settings by now; move it elsewhere"))
        return [job for job in jobs if job.label not in dict(changed)], changed

    def _refuse(self, invalid: list[tuple[str, str]], total: int) -> None:
        """Show what cannot work. ConfigError unless it is to be left out."""
        if invalid:
            print("cannot work:")
            table(invalid)
            if self.sweep_settings.invalid == "fail":
                raise ConfigError(
                    f"{len(invalid)} of {total} points cannot work, and nothing was started; "
                    "sweep.invalid=skip leaves them out"
                )
            if len(invalid) == total:
                raise ConfigError("no point can work")

    def _left(self, jobs: list[Job]) -> list[Job]:
        """The jobs that have not ended; failed ones only if they are to be tried again."""
        done = ENDED if self.sweep_settings.retry_failed else ENDED + FAILED
        return [job for job in jobs if state(job.folder) not in done]


def plain(node: Any) -> Any:
    """A node of the configuration as plain values."""
    return OmegaConf.to_container(OmegaConf.create(node), resolve=True) if isinstance(node, dict | DictConfig) else node


def typed_words() -> list[str]:
    """The command as it was typed; ``sys.argv`` is what Hydra was told."""
    return [sys.argv[0], *sys.orig_argv[len(sys.orig_argv) - len(sys.argv) + 1 :]]


def _about(folder: Path, jobs: list[Job], left: list[Job], same: int, slots: int) -> str:
    """What is about to happen."""
    done = f"{len(jobs) - len(left)} done before, " if len(left) < len(jobs) else ""
    twice = f", {same} points typed twice" if same else ""
    return f"{os.path.relpath(folder)}: {number_of(jobs)}{twice}; {done}{len(left)} to run, {slots} at a time\n"


class Grid(_Sweeper):
    """Every combination."""

    kind = points.Grid


class Zip(_Sweeper):
    """Values taken together."""

    kind = points.Zip


class Random(_Sweeper):
    """Draws."""

    kind = points.Random


class File(_Sweeper):
    """Runs listed in a file."""

    kind = points.File

    def _swept(self, typed: list[points.Axis], composed: list[Composed]) -> list[str]:
        """The keys that the runs do not all have alike, whether the file gives them or the command line."""
        given = [{word.partition("=")[0]: word for word in point.overrides} for point in composed]
        keys = dict.fromkeys(key for words in given for key in words)
        return [key for key in keys if len({words.get(key) for words in given}) > 1]


class Search(_Sweeper):
    """Runs chosen by Optuna."""

    @property
    def kind(self) -> type:  # type: ignore[override]
        """Its settings; needs Optuna."""
        from aerun.sweep.search import Optuna

        return Optuna

    def _sweep(self, typed: list[points.Axis]) -> None:
        from aerun.sweep.search import Search as Study
        from aerun.sweep.search import direction_warning
        from aerun.sweep.study import plots

        if self.sweep_settings.dry_run:
            raise ConfigError("sweep.dry_run=true: a search does not know its runs before")
        index = read_index(self.folder) or Index(self.folder.name, typed_words(), {})
        search = Study(self.points, typed, self.composer, index, self.folder, self.sweep_settings.retry_failed)
        first = [search.first_point()]
        self._check_shapes(first)
        self._refuse([(self._label(point, search.swept), point.error) for point in first if point.error], len(first))
        if (warning := direction_warning(self.points)) is not None:
            print(f"aerun: {warning}", file=sys.stderr)
        print(f"{os.path.relpath(self.folder)}: {self.points.trials} trials, {self.launcher.slots} at a time\n")
        drive = Drive(self.folder, self.sweep_settings, self.launcher, typed_words())
        drive.count(sum(state(job.folder) in ENDED for job in index.as_jobs(self.folder)), search.runs)
        for job, became in drive.outcomes(iter(search), self.launcher.slots):
            search.told(job, became)
        plots(search.study, self.folder / "study")
        print(f"\n{search.best()}")
        drive.report(index.as_jobs(self.folder), search.invalid)


def register() -> None:
    """Make the sweepers known to Hydra.

    Hydra 1.3 takes plugins only from a package named hydra_plugins, which every Hydra application on the machine
    would then import. So they say that they come from there, and are known to aerun alone.
    """
    plugins = Plugins.instance()  # which looks for the others first
    parent, _, name = NAMESPACE.partition(".")
    with contextlib.suppress(ImportError):
        importlib.import_module(parent)
    setattr(sys.modules.setdefault(parent, ModuleType(parent)), name, sys.modules[__name__])
    sys.modules[NAMESPACE] = sys.modules[__name__]
    for sweeper in (Grid, Zip, Random, File, Search):
        sweeper.__module__ = NAMESPACE
        plugins.register(sweeper)
