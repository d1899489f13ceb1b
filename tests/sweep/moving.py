"""Move a sweep from launcher to launcher, to another machine and back, while its processes are killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerun.sweep.launcher_place import PLACES
from tests.sweep.campaign import GRID, OFTEN, Record
from tests.sweep.launching import (
    JOBLIB,
    LIMIT_S,
    SHORT_LEASE,
    SLURM,
    TINY,
    alive,
    as_host,
    await_that,
    begin,
    descendants,
    kill_group,
    launch,
    slurm_is_up,
    states,
    statuses,
    study_trials,
    workers,
)

LONGER = [*OFTEN, "trainer.epochs=16"]  # so that the sweep does not end before the last kill
LONGER_GRID = [*GRID, *LONGER]
TRIALS = 12
SEARCH = [
    *TINY,
    *LONGER,
    "hydra/sweeper=optuna",
    "hydra.sweeper.params=null",
    f"hydra.sweeper.trials={TRIALS}",
    "hydra.sweeper.pruner=none",  # a pruned run depends on the others by then
    "model=choice(fc,conv,conv_fc)",
    "model.kernel_size=choice(3,5)",  # drawn for conv_fc alone
    "sparsity=choice(none,topk)",
    "sparsity.k=choice(4,8)",
    "optimizer.lr=tag(log,interval(1e-4,1e-2))",
]


@dataclass(frozen=True)
class Leg:
    """Where the sweep runs next."""

    name: str
    words: Sequence[str]
    before: Sequence[str] = ()


def legs() -> list[Leg]:
    """joblib, Slurm if there is one, another machine, joblib."""
    slurm = [Leg("Slurm", [*SLURM, "hydra.launcher.array_parallelism=2"])] if slurm_is_up() else []
    return [Leg("joblib", JOBLIB), *slurm, Leg("another machine", JOBLIB, as_host("elsewhere")), Leg("joblib", JOBLIB)]


def grid_campaign(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Move a grid ``count`` kills long and compare it with an undisturbed one; returns what ``Record.compare`` does,
    kills by leg, and launchings."""
    moved = Moved(folder / "moved", "grid", LONGER_GRID, random.Random(seed))
    moved.kill_and_end(count)
    return {**moved.record.compare(_undisturbed(folder / "alone", *LONGER_GRID)), **moved.counts()}


def search_campaign(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """The same for a search; it is compared with a list of the points that it drew, run undisturbed.

    ``trials``: how many trials ended in each state. ``lost``: those of a complete point that have not ended.
    """
    moved = Moved(folder / "moved", "search", SEARCH, random.Random(seed))
    moved.kill_and_end(count)
    jobs = json.loads((moved.record.sweep / "sweep.json").read_text())["jobs"]
    alone = folder / "alone"
    alone.mkdir()
    common = [*TINY, *LONGER]
    lines = [[word for word in job["overrides"] if word not in common] for job in jobs.values()]
    (alone / "points.txt").write_text("".join(" ".join(line) + "\n" for line in lines))
    expected = _undisturbed(alone, *common, "hydra/sweeper=file", "hydra.sweeper.file=points.txt")
    trials = study_trials(moved.record.sweep)
    return {
        **moved.record.compare(expected),
        **moved.counts(),
        "complete": sum(trial.state.name == "COMPLETE" for trial in trials),
        "points": len({json.dumps(trial.params) for trial in trials if trial.state.name == "COMPLETE"}),
        "open": [trial.number for trial in trials if trial.state.name == "RUNNING" and "optimizer.lr" in trial.params],
        "folders": len(states(moved.record.sweep)),
    }


def _undisturbed(folder: Path, *words: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    done = launch(folder, *words, *JOBLIB)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "outputs" / "x"


@dataclass
class Moved:
    """A sweep of ``words`` in ``folder`` that is moved and killed. ``name``: Slurm tells sweeps apart by it."""

    folder: Path
    name: str
    words: Sequence[str]
    draw: random.Random
    kills: dict[str, int] = field(default_factory=dict)
    launchings: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.record = Record(self.folder / "outputs" / self.name)

    def counts(self) -> dict[str, Any]:
        """The kills by leg, and the number of launchings."""
        return {"kills": self.kills, "launchings": self.launchings}

    def kill_and_end(self, count: int) -> None:
        """Kill ``count`` times along the legs; then repeat the last leg until the sweep has ended."""
        route = legs()
        self.kills = dict.fromkeys((leg.name for leg in route), 0)
        before: subprocess.Popen[str] | None = None
        try:
            for number in range(count):
                before = self._join_and_kill(route[number * len(route) // count], before)
            while self._begin(route[-1]).wait(timeout=LIMIT_S) != 0:
                self.record.look()
                assert self.launchings < count + 8, f"it does not come to an end: {states(self.record.sweep)}"
        finally:
            for process in _inside(self.folder):
                os.kill(process, signal.SIGKILL)
            if slurm_is_up():
                subprocess.run(["scancel", "--me", f"--name=aerun-{self.name}"], capture_output=True)

    def _begin(self, leg: Leg) -> subprocess.Popen[str]:
        self.launchings += 1
        words = [*self.words, *leg.words, f"sweep.name={self.name}"]
        return begin(self.folder, *words, output=subprocess.DEVNULL, before=leg.before, **SHORT_LEASE)

    def _join_and_kill(self, leg: Leg, before: subprocess.Popen[str] | None) -> subprocess.Popen[str]:
        """Join the sweep while the launcher of the leg before runs, or has just been killed, and then kill.

        A launcher is killed after its first job has begun, and how long after depends on how long that took: a slow
        machine gives every leg its share, too.
        """
        if before is not None and self.draw.random() < 0.5:
            _kill_all(before)
        clock = time.monotonic()
        joined = self._begin(leg)
        places = self.record.sweep / PLACES
        await_that(
            lambda: joined.poll() is not None or (any(places.glob(f"*-{joined.pid}")) and self._running(leg, joined)),
            seconds=LIMIT_S,
            every=0.2,
        )
        pause = (time.monotonic() - clock) / 4
        if before is not None and before.poll() is None:
            time.sleep(self.draw.uniform(0, pause))
            _kill_all(before)
        time.sleep(self.draw.uniform(0, pause))
        self.record.look()
        self.kills[leg.name] += self._kill_some(leg, joined)
        return joined

    def _running(self, leg: Leg, launcher: subprocess.Popen[str]) -> list[int]:
        """The processes that run a job for this launcher, or for Slurm."""
        found = statuses(self.record.sweep).values()
        running = {status["process"] for status in found if status["state"] == "running"}
        ours = _tasks(self.folder) if leg.name == "Slurm" else descendants(launcher.pid)
        return sorted(running & set(ours))

    def _kill_some(self, leg: Leg, launcher: subprocess.Popen[str]) -> int:
        """Kill a launcher, one of its processes that run jobs, or it with its workers; returns 1 if it lived."""
        running = self._running(leg, launcher)
        victim = self.draw.choice(("launcher", "task", "all"))
        if victim == "task" and running:
            os.kill(self.draw.choice(running), signal.SIGKILL)
            return 1
        if launcher.poll() is not None:
            return 0
        if victim == "all":
            _kill_all(launcher)
        else:
            launcher.kill()
            launcher.wait()
        return 1


def _kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a launcher and its workers at once, as if its machine lost its power. Slurm's tasks run on."""
    those = workers(process.pid)
    kill_group(process)
    for number in alive(those):
        os.kill(number, signal.SIGKILL)


def _inside(folder: Path) -> list[int]:
    """The processes whose working directory is the folder: launchers, workers and tasks of its sweep (Linux)."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.readlink() == folder:
                found.append(int(link.parent.name))
    return found


def _tasks(folder: Path) -> list[int]:
    """The processes inside the folder that Slurm has started (Linux)."""
    found = []
    for number in _inside(folder):
        with contextlib.suppress(OSError):
            if b"SLURM_JOB_ID=" in Path(f"/proc/{number}/environ").read_bytes():
                found.append(number)
    return found
