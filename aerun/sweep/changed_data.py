"""Runs of a sweep whose data have changed since: they are not compared with new ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aerun.runs.folder import CONFIG, read_config
from aerun.runs.same_data import changed_data
from aerun.sweep.composer import ComposedPoint
from aerun.sweep.job import Job


def changed_runs(jobs: Iterable[Job], points: Iterable[ComposedPoint]) -> list[tuple[Job, str]]:
    """The jobs that were trained on other data than those of the points, which have been read, and what is wrong."""
    checksums = {_key(point.config): point.checksum for point in points if point.checksum is not None}
    changed = []
    for job in jobs:
        if (job.folder / CONFIG).exists():
            checksum = checksums.get(_key(job.config or read_config(job.folder)))
            text = None if checksum is None else changed_data(job.folder, checksum)
            if text is not None:
                changed.append((job, f"{job.name}: {text}; restore the data, or choose another sweep.name"))
    return changed


def _key(config: Mapping[str, Any]) -> str:
    return json.dumps(config["dataset"], sort_keys=True)
