"""sweep.json: all jobs of a sweep's folder. Each job's state is in its own folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerun.base.files import write_text
from aerun.errors import DataError
from aerun.runs.folder import SUMMARY, read_status
from aerun.sweep.job import Job

INDEX_FILE = "sweep.json"
ENDED = ("finished", "pruned")
FAILED = ("failed", "diverged", "killed")
# The default options of sweeps whose sweep.json does not record them.
UNRECORDED_DEFAULTS = {"model": "fc"}


@dataclass
class JobIndex:
    """All jobs that were started under the sweep's name, in the order of their first start."""

    name: str
    command: list[str]
    jobs: dict[str, dict[str, Any]]
    defaults: dict[str, str] = field(default_factory=dict)  # group -> option where none is typed

    def add(self, jobs: Iterable[Job]) -> None:
        """Add jobs; known ones keep their position."""
        for job in jobs:
            self.jobs[job.name] = {"overrides": job.overrides, "values": job.values, "hash": job.identity}

    def folder_names(self) -> dict[str, str]:
        """The folder name of each identity."""
        return {entry["hash"]: name for name, entry in self.jobs.items()}

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
        write_text(folder / INDEX_FILE, json.dumps(self.__dict__, indent=1) + "\n")


def read_job_index(folder: Path) -> JobIndex | None:
    """Read sweep.json; None if there is none. DataError if it is damaged."""
    try:
        content = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        jobs = {
            name: {key: job[key] for key in ("overrides", "values", "hash")} for name, job in content["jobs"].items()
        }
        defaults = dict(content.get("defaults", UNRECORDED_DEFAULTS))
        return JobIndex(str(content["name"]), list(content["command"]), jobs, defaults)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{folder / INDEX_FILE}: is damaged ({type(error).__name__}: {error}); "
            "delete it, and the same command finds its jobs again"
        ) from error


def job_state(folder: Path) -> str:
    """The state in the job's status.json; ``waiting`` if it has none."""
    status = read_status(folder)
    if status is None:
        return "waiting"
    if status["state"] == "finished" and not (folder / SUMMARY).exists():
        return "stopped"  # somebody deleted the result
    return str(status["state"])
