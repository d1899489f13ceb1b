"""Read all runs in sweep folders, run folders and folders that contain them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aerun.base.archive import is_file, is_folder, names_in
from aerun.base.arguments import whole_number
from aerun.compare.records import DAMAGED, Run, Value, read_run, read_unstarted_job
from aerun.compare.setting_text import format_setting
from aerun.errors import ConfigError, DataError
from aerun.runs.folder import CONFIG, flatten_settings, read_sweep

log = logging.getLogger(__name__)
MAX_DEPTH = 2  # of run folders below a given folder


def collect(paths: Iterable[str | os.PathLike[str]]) -> list[Run]:
    """All runs in sweep folders, run folders and folders that contain them; each once, sorted by path.

    Damaged files are reported in a warning; everything else is still read. ConfigError for a path that does not exist,
    DataError if there are no runs.
    """
    runs = {os.path.realpath(run.folder): run for places in find_places(paths) for run in _read_runs(places)}
    return _with_one_type_a_key([runs[path] for path in sorted(runs, key=_natural_order)])


@dataclass(frozen=True)
class Place:
    """The folder of a run that has begun, or of a job that is to begin. ``values`` and ``overrides``: those of the job,
    if the sweep.json of the folder above lists it."""

    folder: Path
    has_begun: bool
    values: Mapping[str, Value] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()


def find_places(paths: Iterable[str | os.PathLike[str]]) -> list[list[Place]]:
    """The places of all runs, each once: one list for every sweep, and one for every run outside sweeps.

    ConfigError for a path that does not exist, DataError if there are no runs.
    """
    folders = [Path(path).expanduser() for path in paths]
    for folder in folders:
        if not is_folder(folder):
            raise ConfigError(f"{folder}: no such folder")
    seen: set[str] = set()
    found = []
    for places in (places for folder in folders for places in _find_below(folder, MAX_DEPTH)):
        new = {path: place for place in places if (path := os.path.realpath(place.folder)) not in seen}
        seen |= new.keys()
        if new:
            found.append([*new.values()])
    if not found:
        raise DataError(f"{', '.join(map(str, folders))}: contains no run (a folder with {CONFIG})")
    return found


def _with_one_type_a_key(runs: list[Run]) -> list[Run]:
    """The runs, with the settings of a key as text if they have different types, as in parts of one's own."""
    types: dict[str, set[type]] = {}
    for run in runs:
        for key, value in run.settings.items():
            types.setdefault(key, set()).add(type(value))
    mixed = {key for key, found in types.items() if len(found) > 1}
    if not mixed:
        return runs
    return [
        replace(run, settings={key: format_setting(v) if key in mixed else v for key, v in run.settings.items()})
        for run in runs
    ]


def _natural_order(text: str) -> list[tuple[int, str]]:
    """A sort key that puts job_2 before job_10."""
    parts = ((whole_number(part), part) for part in re.split(r"(\d+)", text))
    return [(0, part) if number is None else (number, "") for number, part in parts]


def _find_below(folder: Path, depth: int) -> Iterator[list[Place]]:
    """The folder itself if it is a run; otherwise the jobs of its sweep.json, and the runs in its other subfolders."""
    if _is_run(folder):
        yield [Place(folder, True)]
        return
    jobs = read_jobs(folder)
    yield [Place(folder / name, _is_run(folder / name), *job) for name, job in jobs.items()]
    if depth:
        for inner in sorted(_subfolders(folder)):
            if inner.name not in jobs:
                yield from _find_below(inner, depth - 1)


def _read_runs(places: Sequence[Place]) -> Iterator[Run]:
    """The runs at these places. A job whose configuration is missing has the settings that its sweep's runs share."""
    found = [(place, read_run(place.folder) if place.has_begun else None) for place in places]
    common = _common_settings([run.settings for _, run in found if run is not None and run.settings])
    for place, run in found:
        settings = {**common, **place.values}
        if run is None:
            yield read_unstarted_job(place.folder, settings, place.overrides)
        elif run.state == DAMAGED and not run.settings:
            yield replace(run, settings=settings, overrides=place.overrides)
        else:
            yield run


def _is_run(folder: Path) -> bool:
    """Whether the folder contains a configuration, as far as it may be looked into."""
    try:
        return is_file(folder / CONFIG)
    except OSError:
        return False


def _subfolders(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        inside = (folder / name for name in names_in(folder) if not name.startswith("."))
        yield from (path for path in inside if is_folder(path))
        return
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
