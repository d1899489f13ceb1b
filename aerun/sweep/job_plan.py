"""The jobs of a sweep's composed points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from aerun.config.identity import identity
from aerun.config.override_syntax import expand_lists
from aerun.sweep.composer import ComposedPoint, Composer
from aerun.sweep.job import Job, name_jobs
from aerun.sweep.job_index import JobIndex


def plan_jobs(
    composed: Iterable[ComposedPoint], composer: Composer, swept: Sequence[str], index: JobIndex, folder: Path
) -> list[Job]:
    """The jobs of valid points. Points with the same configuration are one job; a known job keeps its folder.

    ``swept`` are the keys that vary in this command. Keys that varied in earlier commands of this sweep count too.
    """
    known = index.folder_names()
    varied = list(dict.fromkeys((*index.varied_keys(), *swept)))
    points = {identity(point.config, swept): point for point in reversed(list(composed))}
    points = dict(reversed(points.items()))
    values = []
    for point in points.values():
        given = composer.values(point.overrides)
        values.append({key: given[key] for key in varied if key in given})
    new = {digest: given for digest, given in zip(points, values, strict=True) if digest not in known}
    new_names = name_jobs(list(new.values()), list(new), known.values())
    named = known | dict(zip(new, new_names, strict=True))
    return [
        Job(
            named[digest],
            folder / named[digest],
            point.config,
            point.choices,
            expand_lists(point.overrides),
            given,
            digest,
        )
        for (digest, point), given in zip(points.items(), values, strict=True)
    ]
