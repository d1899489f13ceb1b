"""Evaluate many finished runs again, by a launcher of sweeps."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aerun.base.bounded import read_json
from aerun.base.files import make_folder, storage_error
from aerun.base.typed import TEXT, Check, one_of, record
from aerun.errors import DataError
from aerun.sweep.job import Job
from aerun.sweep.launcher.contract import Launcher
from aerun.sweep.remote import EVALUATE_RUN

AGREES, DIFFERS, FAILED = "agrees", "differs", "failed"  # with its summary
OUTCOME: Check = record({"state": one_of(AGREES, DIFFERS, FAILED), "text": TEXT}, required=["state", "text"])


def evaluate_runs(folders: Sequence[Path], launcher: Launcher, output: Path | None, options: Mapping[str, Any]) -> bool:
    """Evaluate runs, print one line for each, and return whether all agree with their summaries.

    ``options`` are those of ``aerun.runs.reopen.reevaluate``. ``output``: the figures and evaluation.json of each run
    are written to a folder of its name in this one, instead of to its run folder. If the evaluation of a run fails, the
    others continue.
    """
    common = Path(os.path.commonpath([folder.parent for folder in folders]))
    names = [os.path.relpath(folder, common) for folder in folders]
    jobs = [_job(number, name, common, output, options) for number, name in enumerate(names)]
    states = Counter[str]()
    with launcher:
        scratch = _scratch_folder(None if launcher.local else output or common)
        launcher.warm(len(jobs))
        try:
            for job, error in launcher.run(iter(jobs), scratch, scratch):
                state, text = _read_outcome(outcome_path(scratch, job), error)
                states[state] += 1
                width = len(str(len(jobs)))
                print(f"[{states.total():{width}}/{len(jobs)}]  {state:<7}  {job.name}  {text}", flush=True)
        except KeyboardInterrupt:
            if launcher.detached:
                print(f"\n{launcher.detached_note()}\n{scratch} keeps what they report")
            else:
                shutil.rmtree(scratch, ignore_errors=True)
            raise
        shutil.rmtree(scratch, ignore_errors=True)
    counts = ", ".join(f"{states[state]} {state.removesuffix('s' * (states[state] > 1))}" for state in sorted(states))
    print(f"\n{len(jobs)} run{'s' * (len(jobs) != 1)}: {counts}")
    return states[AGREES] == len(jobs)


def outcome_path(scratch: Path, job: Job) -> Path:
    """The file that says what came of the evaluation of one run."""
    return scratch / f"{job.identity}.json"


def _job(number: int, name: str, common: Path, output: Path | None, options: Mapping[str, Any]) -> Job:
    given = {**options, "output": None if output is None else output / name}
    return Job(name, common / name, given, {}, [], {}, str(number), worker=EVALUATE_RUN)


def _scratch_folder(parent: Path | None) -> Path:
    """A new folder for the outcomes, in one that all machines see, if given. StorageError if it cannot be made."""
    if parent is not None:
        make_folder(parent)
    try:
        return Path(tempfile.mkdtemp(prefix=".evaluation-", dir=parent))
    except OSError as error:
        raise storage_error(error, parent or Path(tempfile.gettempdir())) from error


def _read_outcome(path: Path, error: str | None) -> tuple[str, str]:
    """The state of an evaluation and a text about it. ``error``: why its process has not written them."""
    try:
        content = read_json(path)
        OUTCOME("", content)
    except FileNotFoundError:
        return FAILED, error or "its process has reported nothing"
    except (DataError, ValueError) as damage:
        return FAILED, str(damage)
    return content["state"], content["text"]
