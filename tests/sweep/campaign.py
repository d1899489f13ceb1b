"""Kill a sweep at random moments, repeat it until it is done, and compare it with an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.kills import contents, differences
from tests.sweep.launching import (
    JOBLIB,
    LIMIT_S,
    TINY,
    alive,
    begin,
    kill_group,
    launch,
    marks,
    states,
    statuses,
    workers,
)

GRID = [*TINY, "model=fc,conv", "seed=0,1,2", "noise=none,masking", "sparsity=none,l1"]
# With checkpoints inside epochs.
OFTEN = ["trainer.batch_size=32", "checkpoint.every_minutes=0.002", "sweep.name=x"]
SWEEP = [*GRID, *JOBLIB, *OFTEN, "trainer.epochs=4"]  # jobs of a second or two
JOBS = 24
VICTIMS = ("launcher", "worker", "group")


@dataclass
class Record:
    """What is seen of a disturbed sweep: results that were written again after their job had finished, and hosts."""

    sweep: Path
    again: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    _finished: dict[str, tuple[int, int]] = field(default_factory=dict)

    def look(self) -> None:
        """Compare the present results with those of the last look."""
        now = marks(self.sweep)
        self.again += sorted(name for name, mark in self._finished.items() if now.get(name) != mark)
        self._finished = now
        self.hosts |= {status["host"] for status in statuses(self.sweep).values()}

    def compare(self, alone: Path) -> dict[str, Any]:
        """What a campaign returns of the sweep: how many jobs ended as in the undisturbed one, bit for bit, and more.

        Jobs are the same if their configurations are, whatever their folders are called.
        """
        self.look()
        expected, found = job_folders(alone), job_folders(self.sweep)
        wrong = {
            folder.name: differences(contents(folder), contents(found[digest])) if digest in found else ["missing"]
            for digest, folder in expected.items()
        }
        return {
            "jobs": len(expected),
            "identical": sum(not parts for parts in wrong.values()),
            "failed": {name: parts[:5] for name, parts in wrong.items() if parts},
            "run again": self.again,
            "ended on": dict(Counter(status["host"] for status in statuses(self.sweep).values())),
            "hosts": sorted(self.hosts),
        }


def job_folders(sweep: Path) -> dict[str, Path]:
    """The folders of a sweep's finished jobs by the hash of their configuration."""
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    return {job["hash"]: sweep / name for name, job in jobs.items() if (sweep / name / "summary.json").exists()}


def campaign(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Kill the sweep ``count`` times: its launcher, one of its workers, or all of its processes at once.

    Returns how often each was killed, how many launchings it took, how many jobs ended as in the undisturbed sweep
    bit for bit, those that did not, what was run though it had finished, and launchers' workers that stayed behind.
    """
    draw = random.Random(seed)
    alone, disturbed = folder / "alone", folder / "disturbed"
    alone.mkdir(parents=True)
    disturbed.mkdir()
    clock = time.monotonic()
    done = launch(alone, *SWEEP)
    assert done.returncode == 0, done.stdout + done.stderr
    pause = 2.5 * (time.monotonic() - clock) / count  # half of it on average, including the start
    record = Record(disturbed / "outputs" / "x")
    kills = dict.fromkeys(VICTIMS, 0)
    launchings, stayed, code = 0, 0, 1
    while code != 0:
        launchings += 1
        assert launchings < 2 * count + 5, f"it does not come to an end: {states(record.sweep)}"
        process = begin(disturbed, *SWEEP, output=subprocess.DEVNULL)
        those: list[int] = []
        try:
            while process.poll() is None and sum(kills.values()) < count:
                time.sleep(draw.uniform(0.2, pause))
                those = workers(process.pid) or those
                _kill(process, draw.choice(VICTIMS), those, draw, kills)
            code = process.wait(timeout=LIMIT_S)
            stayed += not _gone(those)
        finally:
            kill_group(process)
        record.look()
    found = record.compare(alone / "outputs" / "x")
    return {**found, "kills": kills, "launchings": launchings, "stayed behind": stayed}


def _kill(
    process: subprocess.Popen[str], victim: str, those: list[int], draw: random.Random, kills: dict[str, int]
) -> None:
    """Kill a process of the sweep if it exists; if it is the launcher, wait for its end."""
    if process.poll() is not None or (victim == "worker" and not those):
        return
    try:
        if victim == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(draw.choice(those) if victim == "worker" else process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    kills[victim] += 1
    if victim != "worker":
        process.wait()


def _gone(those: list[int], seconds: float = 15) -> bool:
    """Whether the processes end by themselves within so many seconds."""
    end = time.monotonic() + seconds
    while alive(those) and time.monotonic() < end:
        time.sleep(0.1)
    return not alive(those)
