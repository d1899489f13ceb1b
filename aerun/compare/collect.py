"""Read all runs in sweep folders, run folders and folders that contain them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aerun.base.arguments import whole_number
from aerun.compare.records import DAMAGED, Run, Value, read_run, read_unstarted_job
from aerun.errors import ConfigError, DataError
from aerun.runs.folder import CONFIG, flatten_settings, read_sweep

log = logging.getLogger(__name__)
MAX_DEPTH = 2  # of run folders below a given folder


def collect(paths: Iterable[str | os.PathLike[str]]) -> list[Run]:
    """All runs in sweep folders, run folders and folders that contain them; each once, sorted by path.

    Damaged files are reported in a warning; everything else is still read. ConfigError for a path that does not exist,
    DataError if there are no runs.
    """
    folders = [Path(path).expanduser() for path in paths]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder")
    runs: dict[str, Run] = {}
    for folder in folders:
        for run in _find_runs(folder, MAX_DEPTH):
            runs.setdefault(os.path.realpath(run.folder), run)
    if not runs:
        raise DataError(f"{', '.join(map(str, folders))}: contains no run (a folder with {CONFIG})")
    return [runs[path] for path in sorted(runs, key=_natural_order)]


def _natural_order(text: str) -> list[tuple[int, str]]:
    """A sort key that puts job_2 before job_10."""
    parts = ((whole_number(part), part) for part in re.split(r"(\d+)", text))
    return [(0, part) if number is None else (number, "") for number, part in parts]


def _find_runs(folder: Path, depth: int) -> Iterator[Run]:
    """The folder itself if it is a run; otherwise the jobs of its sweep.json, and the runs in its other subfolders."""
    if _is_run(folder):
        yield read_run(folder)
        return
    jobs = read_jobs(folder)
    found = [(name, read_run(folder / name) if _is_run(folder / name) else None) for name in jobs]
    common = _common_settings([run.settings for _, run in found if run is not None and run.settings])
    for name, run in found:
        values, overrides = jobs[name]
        if run is None:
            yield read_unstarted_job(folder / name, {**common, **values}, overrides)
        elif run.state == DAMAGED and not run.settings:
            yield replace(run, settings={**common, **values}, overrides=overrides)
        else:
            yield run
    if depth:
        for inner in sorted(_subfolders(folder)):
            if inner.name not in jobs:
                yield from _find_runs(inner, depth - 1)


def _is_run(folder: Path) -> bool:
    """Whether the folder contains a configuration, as far as it may be looked into."""
    try:
        return (folder / CONFIG).is_file()
    except OSError:
        return False


def _subfolders(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            yield from (path for path in map(Path, entries) if not path.name.startswith(".") and path.is_dir())
    except OSError as error:
        log.warning("%s: cannot be read (%s)", folder, error.strerror)


def _common_settings(settings: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """The settings that have the same value in all."""
    first, *others = settings or [{}]
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def read_jobs(folder: Path) -> dict[str, tuple[dict[str, Value], tuple[str, ...]]]:
    """The varied settings and the overrides of each job in sweep.json, by folder name; empty if it cannot be read."""
    try:
        jobs = (read_sweep(folder) or {"jobs": {}})["jobs"]
    except DataError as error:
        log.warning("%s; searching the subfolders instead", error)
        return {}
    return {name: (_values(job["values"]), tuple(job["overrides"])) for name, job in jobs.items()}


def _values(varied: Mapping[str, Any]) -> dict[str, Value]:
    """A job's varied settings in the form of ``flatten_settings``."""
    return flatten_settings({key.lstrip("+"): value for key, value in varied.items()}, {})
