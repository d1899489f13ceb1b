"""Finished runs of a sweep, found by what they were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aerun.base.conf import conf_dir


def composed(commands: Iterable[Sequence[str]]) -> list[dict[str, Any]]:
    """The configuration that the files of conf/ stand for now under the overrides of each command."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from aerun.config.compose import run_config

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return [run_config(hydra.compose("train", overrides=list(words)), words) for words in commands]


def finished(sweep: Path, configs: Iterable[dict[str, Any]]) -> list[tuple[Path, dict[str, Any]] | None]:
    """Of each configuration the run folder and summary in the sweep's folder; None where it has not finished there."""
    from aerun.config.identity import identity
    from aerun.runs.folder import read_summary
    from aerun.sweep.job_index import read_job_index

    index = read_job_index(sweep)
    names = index.folder_names() if index else {}
    found: list[tuple[Path, dict[str, Any]] | None] = []
    for digest in map(identity, configs):
        place = sweep / names[digest] if digest in names else None
        summary = read_summary(place) if place is not None else None
        found.append((place, summary) if place is not None and summary is not None else None)
    return found
