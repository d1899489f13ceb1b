"""sweep.json: the jobs of a sweep's folder; their states stand in their own folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerun.base.files import write_text
from aerun.errors import DataError
from aerun.runs.folder import SUMMARY, read_status
from aerun.sweep.job import Job

INDEX = "sweep.json"
ENDED = ("finished", "pruned")
FAILED = ("failed", "diverged", "killed")


@dataclass
class Index:
    """All jobs that were ever asked for under the sweep's name, in that order."""

    name: str
    command: list[str]
    jobs: dict[str, dict[str, Any]]

    def add(self, jobs: Iterable[Job]) -> None:
        """Take up jobs; those that are known stay where they are."""
        for job in jobs:
            self.jobs[job.name] = {"overrides": job.overrides, "values": job.values, "hash": job.identity}

    def names(self) -> dict[str, str]:
        """The folder of each identity."""
        return {entry["hash"]: name for name, entry in self.jobs.items()}

    def as_jobs(self, folder: Path) -> list[Job]:
        """All of them, without their configurations, which stand in their folders."""
        return [
            Job(name, folder / name, {}, {}, entry["overrides"], entry["values"], entry["hash"])
            for name, entry in self.jobs.items()
        ]

    def varied(self) -> list[str]:
        """The keys that have varied so far."""
        return list(dict.fromkeys(key for entry in self.jobs.values() for key in entry["values"]))

    def write(self, folder: Path) -> None:
        """Put it into the sweep's folder, as a whole."""
        write_text(folder / INDEX, json.dumps(self.__dict__, indent=1) + "\n")


def read_index(folder: Path) -> Index | None:
    """The folder's index; None where there is none. DataError for a damaged one."""
    try:
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        jobs = {
            name: {key: job[key] for key in ("overrides", "values", "hash")} for name, job in content["jobs"].items()
        }
        return Index(str(content["name"]), list(content["command"]), jobs)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{folder / INDEX}: is damaged ({type(error).__name__}: {error}); "
            "remove it, and the same command finds its jobs"
        ) from error


def state(folder: Path) -> str:
    """What became of a job so far: ``waiting`` if nothing, else its status."""
    status = read_status(folder)
    if status is None:
        return "waiting"
    if status["state"] == "finished" and not (folder / SUMMARY).exists():
        return "stopped"  # someone has removed the result
    return str(status["state"])
