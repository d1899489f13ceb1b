"""Sweep folders, run folders and folders of those -> the records of all runs in them."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aerun.compare.records import DAMAGED, Run, Value, read_job, read_run
from aerun.errors import ConfigError, DataError
from aerun.runs.folder import CONFIG, flat

log = logging.getLogger(__name__)
SWEEP = "sweep.json"


def collect(paths: Iterable[str | os.PathLike[str]]) -> list[Run]:
    """All runs of sweep folders, run folders and folders of those, by path; each once.

    What is damaged is named in a warning and does not stop the rest. Raises ConfigError for a path that is not
    there, DataError where there is no run at all.
    """
    folders = [Path(path).expanduser() for path in paths]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder")
    runs: dict[str, Run] = {}
    for folder in folders:
        for run in _search(folder, 2):
            runs.setdefault(os.path.realpath(run.folder), run)
    if not runs:
        raise DataError(f"{', '.join(map(str, folders))}: holds no run (a folder with {CONFIG})")
    return [runs[path] for path in sorted(runs, key=_natural)]


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts job_2 before job_10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def _search(folder: Path, depth: int) -> Iterator[Run]:
    """The runs in a folder: its own, those that its sweep.json names, those of the folders in it."""
    if (folder / CONFIG).is_file():
        yield read_run(folder)
        return
    jobs = read_jobs(folder)
    seen = [(name, read_run(folder / name) if (folder / name / CONFIG).is_file() else None) for name in jobs]
    common = _common([run.settings for _, run in seen if run is not None and run.settings])
    for name, run in seen:
        values, typed = jobs[name]
        if run is None:
            yield read_job(folder / name, {**common, **values}, typed)
        elif run.state == DAMAGED and not run.settings:
            yield replace(run, settings={**common, **values}, overrides=typed)
        else:
            yield run
    if depth:
        for inner in sorted(_folders(folder)):
            if inner.name not in jobs:
                yield from _search(inner, depth - 1)


def _folders(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            yield from (Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        log.warning("%s: cannot be read (%s)", folder, error.strerror)


def _common(settings: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """The settings that all have alike."""
    first, *others = settings or [{}]
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def read_jobs(folder: Path) -> dict[str, tuple[dict[str, Value], tuple[str, ...]]]:
    """What varied and what was typed for each job of a sweep, by its folder's name; empty where that is not known."""
    path = folder / SWEEP
    try:
        jobs = json.loads(path.read_text(encoding="utf-8"))["jobs"]
        return {str(name): (_values(job["values"]), tuple(map(str, job["overrides"]))) for name, job in jobs.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: cannot be read (%s: %s); the folder is searched", path, type(error).__name__, error)
        return {}


def _values(typed: Mapping[str, Any]) -> dict[str, Value]:
    """A job's overrides as ``flat`` would have them."""
    return flat({key.lstrip("+"): value for key, value in typed.items()}, {})
