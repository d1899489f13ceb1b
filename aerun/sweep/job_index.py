"""sweep.json: all jobs of a sweep's folder. Each job's state is in its own folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerun.base.files import write_text
from aerun.config.identity import differing_keys
from aerun.errors import DataError
from aerun.runs.folder import CONFIG, SUMMARY, SWEEP, read_config, read_status, read_summary, read_sweep
from aerun.runs.same_run import (
    chosen_protocols,
    describe_differences,
    list_keys,
    missing_protocols,
    recorded_identities,
)
from aerun.sweep.job import Job

INDEX_FILE = SWEEP
ENDED = ("finished", "pruned")
FAILED = ("failed", "diverged", "killed")
UNEVALUATED = "unevaluated"  # a finished run without the numbers of a protocol that was added
# The default options of sweeps whose sweep.json does not record them.
UNRECORDED_DEFAULTS = {"model": "fc"}


@dataclass(frozen=True)
class RecordedRun:
    """A run folder, its configuration, and the digests by which the run is found."""

    folder: Path
    config: dict[str, Any]
    identities: list[str]


@dataclass
class JobIndex:
    """All jobs that were started under the sweep's name, in the order of their first start."""

    name: str
    command: list[str]
    jobs: dict[str, dict[str, Any]]
    defaults: dict[str, str] = field(default_factory=dict)  # group -> option where none is typed
    recorded: dict[str, RecordedRun] = field(default_factory=dict)  # runs in the sweep's folder, by name

    def add(self, jobs: Iterable[Job]) -> None:
        """Add jobs; known ones keep their position."""
        for job in jobs:
            self.jobs[job.name] = {"overrides": job.overrides, "values": job.values, "hash": job.identity}

    def find_recorded(self, folder: Path, counted: Collection[str] = ()) -> None:
        """Read the configurations of all runs in the sweep's folder. ``counted``: as for ``identity``.

        They are right even if sweep.json is missing, or has digests of another version.
        """
        for path in sorted(folder.glob(f"*/{CONFIG}")):
            with contextlib.suppress(DataError):
                config = read_config(path.parent)
                digests = recorded_identities(path.parent, config, counted)
                self.recorded[path.parent.name] = RecordedRun(path.parent, config, digests)

    def folder_names(self) -> dict[str, str]:
        """The folder name of each identity."""
        names = {entry["hash"]: name for name, entry in self.jobs.items()}
        for name, run in self.recorded.items():
            for digest in run.identities:
                names.setdefault(digest, name)
        return names

    def explain_new(self, jobs: Iterable[Job], swept: Iterable[str]) -> str | None:
        """Why the first new job is none of the recorded runs: the keys in which it differs from the most similar one.

        None without new jobs or recorded runs, or if only ``swept`` keys differ.
        """
        job = next((job for job in jobs if job.name not in self.recorded), None)
        if job is None or not self.recorded:
            return None
        nearest, _ = self.nearest(job, list(self.recorded))
        keys = differing_keys(self.recorded[nearest].config, job.config)
        if all(f"{key}.".startswith(tuple(f"{name}." for name in swept)) for key in keys):
            return None
        return f"{job.label}: is a new run, because it differs from {nearest} in {list_keys(keys)}\n"

    def finished(self) -> list[str]:
        """The names of the recorded runs that have finished."""
        return [name for name in self.recorded if job_state(self.recorded[name].folder) == "finished"]

    def nearest(self, job: Job, names: Sequence[str]) -> tuple[str, list[str]]:
        """The one of these recorded runs that is most similar to the job, and in what it differs."""
        found = {name: describe_differences(self.recorded[name].config, job.config) for name in names}
        name = min(found, key=lambda name: len(found[name]))
        return name, found[name]

    def as_jobs(self, folder: Path) -> list[Job]:
        """All jobs, without their configurations, which are in the run folders."""
        return [
            Job(name, folder / name, {}, {}, entry["overrides"], entry["values"], entry["hash"])
            for name, entry in self.jobs.items()
        ]

    def varied_keys(self) -> list[str]:
        """The keys that have varied so far."""
        return list(dict.fromkeys(key for entry in self.jobs.values() for key in entry["values"]))

    def write(self, folder: Path) -> None:
        """Replace sweep.json in the sweep's folder."""
        content = {"name": self.name, "command": self.command, "jobs": self.jobs, "defaults": self.defaults}
        write_text(folder / INDEX_FILE, json.dumps(content, indent=1) + "\n")


def read_job_index(folder: Path) -> JobIndex | None:
    """Read sweep.json; None if there is none. DataError if it is damaged."""
    try:
        content = read_sweep(folder)
    except DataError as error:
        raise DataError(f"{error}; delete it, and the same command finds its jobs again") from error
    if content is None:
        return None
    jobs = {name: {key: job[key] for key in ("overrides", "values", "hash")} for name, job in content["jobs"].items()}
    defaults = dict(content.get("defaults", UNRECORDED_DEFAULTS))
    return JobIndex(content["name"], content["command"], jobs, defaults)


def state_of(job: Job) -> str:
    """The state of the job's folder; ``unevaluated`` if its run has finished without all of the job's protocols."""
    state = job_state(job.folder)
    if state == "finished" and chosen_protocols(job.config):
        with contextlib.suppress(DataError):
            if missing_protocols(read_config(job.folder), read_summary(job.folder) or {}, job.config):
                return UNEVALUATED
    return state


def job_state(folder: Path) -> str:
    """The state in the job's status.json; ``waiting`` if it has none."""
    status = read_status(folder)
    if status is None:
        return "waiting"
    if status["state"] == "finished" and not (folder / SUMMARY).exists():
        return "stopped"  # somebody deleted the result
    return str(status["state"])
