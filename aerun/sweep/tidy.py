"""Free the disk of what finished, failed and superseded runs leave. Needs no torch.

A run in progress, whose folder is locked or whose process is on another host, is never touched. Everything is planned
first. A plan that is killed while it is carried out has lost nothing else, and the same plan can be made again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from aerun.base.files import leftover_files, make_subfolder, measure_files, remove_empty
from aerun.base.lock import FILES as LOCK_FILES
from aerun.base.lock import NAME as LOCK
from aerun.base.lock import FolderLock, is_held
from aerun.compare.collect import find_places
from aerun.compare.records import FINISHED, RUNNING, STATES, WAITING
from aerun.compare.run_states import file_version, read_state
from aerun.config.identity import identity
from aerun.config.settings import PROTOCOL
from aerun.errors import AerunError, BusyError, ConfigError, DataError, nearest
from aerun.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    FIGURES,
    LOG,
    METRICS,
    OVERRIDES,
    PROBES,
    STATUS,
    SUMMARY,
    SWEEP,
    WEIGHTS,
    read_config,
    read_environment,
    read_status,
    read_summary,
    read_sweep,
)
from aerun.sweep.launcher.slurm import check_not_queued
from aerun.sweep.launcher_place import idle_sweep
from aerun.training.checkpoint_files import BEST, LAST, read_intact, removable

SUPERSEDED = "superseded"  # by a finished run of the same configuration on the same data
DELETABLE = (*(state for state in STATES if state not in (FINISHED, RUNNING, WAITING)), SUPERSEDED)
TRASH = ".aerun-deleted"  # next to runs: what is being deleted
# What aerun writes into a run folder. A folder with anything else is not deleted.
WRITTEN = (
    *(CONFIG, OVERRIDES, ENVIRONMENT, STATUS, METRICS, SUMMARY, PROBES, LOG, *LOCK_FILES, CHECKPOINTS, FIGURES),
    *("doctor.json", "evaluation.json", "scalars.csv", "events.out.tfevents.*", "00000", "projector_config.pbtxt"),
    *(".hydra", ".ranks"),
)


@dataclass(frozen=True)
class Step:
    """One thing to remove: ``files`` of a run, or the whole ``folder`` if there are none.

    ``version``: that of status.json, which must not have changed when the step is carried out.
    """

    folder: Path
    state: str
    files: tuple[Path, ...]
    count: int
    size: int
    version: tuple[int, ...] = ()


@dataclass
class Plan:
    """What can be removed, and which runs cannot, with the reason. ``count`` and ``size``: of all files of all runs."""

    states: Mapping[Path, str]
    count: int = 0
    size: int = 0
    prune: list[Step] = field(default_factory=list)
    delete: list[Step] = field(default_factory=list)
    kept: list[tuple[Path, str]] = field(default_factory=list)


def check_states(names: Iterable[str]) -> tuple[str, ...]:
    """The states whose runs are to be deleted. ConfigError for a word that is not one of DELETABLE."""
    names = tuple(names)
    for name in names:
        if name not in DELETABLE:
            raise ConfigError(
                f"--delete {name}: no such state.{nearest(name, DELETABLE)} Allowed: {', '.join(DELETABLE)}"
            )
    return names


def make_plan(paths: Sequence[Path], keep: str | None, delete: Sequence[str] = ()) -> Plan:
    """What can be freed below the folders ``paths``.

    ``keep``: what finished runs keep of their checkpoints, as ``checkpoint.keep``; None leaves them as they are.
    ``delete``: the states whose runs are deleted. For errors see ``find_places``.
    """
    for path in paths:
        if path.is_file():
            raise ConfigError(f"{path}: is an archive; aerun-tidy takes folders")
    places = [place for group in find_places(paths) for place in group if place.folder.is_dir()]
    versions = {place.folder: file_version(place.folder / STATUS) for place in places}
    states = {place.folder: RUNNING if is_held(place.folder) else read_state(place).state for place in places}
    jobs = {folder for parent in {folder.parent for folder in states} for folder in _list_jobs(parent)}
    superseded = find_superseded(states, jobs) if SUPERSEDED in delete else set()
    plan = Plan(states | dict.fromkeys(superseded, SUPERSEDED))
    for folder, state in plan.states.items():
        count, size = measure_files([folder])
        plan.count, plan.size = plan.count + count, plan.size + size
        files: tuple[Path, ...] = ()
        if state in delete:
            if (reason := _reason_to_keep(folder)) is not None:
                plan.kept.append((folder, reason))
            elif folder not in jobs:
                plan.delete.append(Step(folder, state, (), count, size, versions[folder]))
            elif files := tuple(_all_but_status(folder)):
                plan.delete.append(Step(folder, state, files, *measure_files(files), versions[folder]))
        elif state == FINISHED and keep is not None:
            is_link = folder.is_symlink() or (folder / CHECKPOINTS).is_symlink()
            files = () if is_link else tuple(removable(folder / CHECKPOINTS, keep))
            if files:
                plan.prune.append(Step(folder, state, files, *measure_files(files), versions[folder]))
    for trash in sorted({place / TRASH for place in (*paths, *(folder.parent for folder in plan.states))}):
        if trash.is_dir() and not trash.is_symlink():
            plan.delete.append(Step(trash, "left by a deletion that was killed", (), *measure_files([trash])))
    return plan


def _list_jobs(folder: Path) -> set[Path]:
    """The folders of a sweep's jobs; all folders if its sweep.json is damaged."""
    try:
        sweep = read_sweep(folder)
    except DataError:
        return set(folder.iterdir())
    return set() if sweep is None else {folder / name for name in sweep["jobs"]}


def _all_but_status(folder: Path) -> list[Path]:
    """What is deleted of a sweep's job, in this order: config.yaml last, and never the record of how it ended."""
    paths = [path for path in folder.iterdir() if path.name not in (STATUS, *LOCK_FILES)]
    return sorted(paths, key=lambda path: (path.name == CONFIG, path.name))


def _reason_to_keep(folder: Path) -> str | None:
    """Why a run folder is not deleted: it is a link, or contains something that no run writes. None if it may be."""
    if folder.is_symlink():
        return "is a link; delete it yourself"
    ours = {path.name for path in leftover_files(folder)}
    names = (path.name for path in sorted(folder.iterdir()) if path.name not in ours)
    for name in names:
        if not any(fnmatchcase(name, pattern) for pattern in WRITTEN):
            return f"contains {name}, which no run writes; delete it yourself"
    return None


def find_superseded(states: Mapping[Path, str], jobs: Collection[Path]) -> set[Path]:
    """The runs next to which there is a finished run of the same configuration, with the same protocols, on the same
    data, that ended later.

    The ``jobs`` of sweeps are not among them: a sweep may vary keys that do not change results.
    """
    groups: dict[tuple[Path, str, str, str], list[tuple[str, Path]]] = {}
    for folder, state in states.items():
        if state in (RUNNING, WAITING) or folder in jobs or (folder / WEIGHTS).exists():  # an export is not a run
            continue
        with suppress(DataError):
            data = (read_environment(folder).get("dataset") or {}).get("checksum")
            if data is not None:
                config, ended = read_config(folder), (read_status(folder) or {}).get("time") or ""
                protocols = json.dumps(config.get(PROTOCOL) or {}, sort_keys=True)
                groups.setdefault((folder.parent, identity(config), protocols, data), []).append((ended, folder))
    found: set[Path] = set()
    for runs in groups.values():
        finished = [run for run in runs if states[run[1]] == FINISHED]
        found |= {folder for _, folder in runs} - {max(finished)[1]} if finished else set()
    return found


def carry_out(plan: Plan, keep: str | None) -> Iterator[tuple[Step, str | None]]:
    """Carry out a plan; yield each step when it is done, or with the reason why it could not be."""
    for step in plan.prune:
        yield step, _attempt(partial(_prune, step, keep or "all"))
    by_parent: dict[Path, list[Step]] = {}
    for step in plan.delete:
        by_parent.setdefault(step.folder.parent, []).append(step)
    for parent, steps in by_parent.items():
        yield from _delete(parent, steps)


def _attempt(action: Callable[[], None]) -> str | None:
    """Call ``action``; return its error in one line, None if there is none."""
    try:
        action()
    except (AerunError, OSError) as error:
        return " ".join(str(error).split())
    return None


def _prune(step: Step, keep: str) -> None:
    """Remove checkpoints of a run that is still finished, and whose remaining weights are intact."""
    with FolderLock(step.folder):
        if read_summary(step.folder) is None:
            raise DataError(f"{step.folder}: has no summary any more")
        read_intact(step.folder / CHECKPOINTS / (BEST if keep == "weights" else LAST))
        for path in step.files:
            path.unlink(missing_ok=True)


def _delete(parent: Path, steps: Sequence[Step]) -> Iterator[tuple[Step, str | None]]:
    """Delete runs in one folder; of a sweep, only while it does not run."""
    with ExitStack() as stack:
        try:
            if (parent / SWEEP).exists():
                stack.enter_context(idle_sweep(parent))
                check_not_queued(parent)
        except (AerunError, OSError) as error:
            yield from ((step, " ".join(str(error).split())) for step in steps)
            return
        for step in steps:
            yield step, _attempt(partial(_delete_run, step))
        remove_empty([parent / TRASH])


def _delete_run(step: Step) -> None:
    """Delete a run that is as it was. Of a sweep's job, how it ended stays recorded in status.json, and at every moment
    it can be run again. Any other run is renamed first, so that no half of a run is ever found."""
    folder = step.folder
    if folder.name == TRASH:
        if held := [lock.parent for lock in folder.rglob(LOCK) if is_held(lock.parent)]:
            raise BusyError(f"{held[0]}: is being written")
        shutil.rmtree(folder)
        return
    with FolderLock(folder):
        if file_version(folder / STATUS) != step.version:
            raise BusyError(f"{folder}: has changed meanwhile")
        for path in step.files:
            _remove(path)
        if not step.files:
            place = make_subfolder(folder.parent, TRASH) / folder.name
            if place.is_dir():
                shutil.rmtree(place)
            folder.rename(place)
            shutil.rmtree(place)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
