"""Move a sweep from launcher to launcher, to another machine and back, while its processes are killed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.kills import contents, differences
from tests.sweep.campaign import SWEEP
from tests.sweep.launching import JOBLIB, alive, as_host, begin, kill_group, launch, marks, states, statuses, workers

LEASE = {"AERUN_LEASE_S": "6"}
# The sweep of the other campaign with longer jobs, so that it does not end before the last kill.
LONGER = [*(word for word in SWEEP if "hydra" not in word and "epochs" not in word), "trainer.epochs=8"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.mem_gb=2", "hydra.launcher.poll_s=1"]


@dataclass(frozen=True)
class Leg:
    """Where the sweep runs next."""

    name: str
    words: Sequence[str]
    before: Sequence[str] = ()


def slurm_is_up() -> bool:
    """Whether a Slurm cluster answers (scripts/slurm_here.sh starts one on Debian)."""
    return shutil.which("sinfo") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0


def legs() -> list[Leg]:
    """joblib, Slurm if there is one, another machine, joblib."""
    slurm = [Leg("Slurm", [*LONGER, *SLURM])] if slurm_is_up() else []
    joblib = [*LONGER, *JOBLIB]
    there = Leg("another machine", joblib, as_host("elsewhere"))
    return [Leg("joblib", joblib), *slurm, there, Leg("joblib", joblib)]


def campaign(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Move the sweep ``count`` kills long; each leg joins while the one before still runs, and is then alone.

    Returns what ``tests.sweep.campaign`` does; kills are counted by leg.
    """
    draw, route = random.Random(seed), legs()
    alone, moved = folder / "alone", folder / "moved"
    alone.mkdir(parents=True)
    moved.mkdir()
    clock = time.monotonic()
    done = launch(alone, *LONGER, *JOBLIB)
    assert done.returncode == 0, done.stdout + done.stderr
    pause = (time.monotonic() - clock) / count  # two of them for each kill, half as long on average
    sweep = moved / "outputs" / "x"
    kills, launchings = dict.fromkeys((leg.name for leg in route), 0), 0
    again: list[str] = []
    hosts: set[str] = set()
    finished: dict[str, tuple[int, int]] = {}
    process: subprocess.Popen[str] | None = None
    try:
        for number in range(count):
            leg = route[number * len(route) // count]
            joined = begin(moved, *leg.words, output=subprocess.DEVNULL, before=leg.before, **LEASE)
            launchings += 1
            if process is not None and process.poll() is None:
                time.sleep(draw.uniform(0.2, pause))
                _kill_all(process)  # the launcher of the leg before, with its workers
            process = joined
            time.sleep(draw.uniform(0.2, pause))
            kills[leg.name] += _kill_some(process, moved, draw)
            hosts |= {status["host"] for status in statuses(sweep).values()}
            now = marks(sweep)
            again += sorted(name for name, mark in finished.items() if now.get(name) != mark)
            finished = now
        code = 1
        while code != 0:
            last = begin(moved, *route[-1].words, output=subprocess.DEVNULL, **LEASE)
            launchings += 1
            assert launchings < count + 8, f"it does not come to an end: {states(sweep)}"
            code = last.wait(timeout=1800)
    finally:
        for number in _inside(moved):
            os.kill(number, signal.SIGKILL)
        if slurm_is_up():
            subprocess.run(["scancel", "--me", "--name=aerun-x"], capture_output=True)
    now = marks(sweep)
    again += sorted(name for name, mark in finished.items() if now.get(name) != mark)
    names = sorted(path.parent.name for path in (alone / "outputs" / "x").glob("*/summary.json"))
    wrong = {name: differences(contents(alone / "outputs" / "x" / name), contents(sweep / name)) for name in names}
    return {
        "jobs": len(names),
        "kills": kills,
        "launchings": launchings,
        "identical": sum(not parts for parts in wrong.values()),
        "failed": {name: parts[:5] for name, parts in wrong.items() if parts},
        "run again": again,
        "hosts": sorted(hosts),
    }


def _kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a launcher that has not ended and its workers at once, as if its machine lost its power."""
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


def _kill_some(process: subprocess.Popen[str], folder: Path, draw: random.Random) -> int:
    """Kill a launcher, one of the processes that run jobs, or a launcher with its workers; returns 1 if it lived."""
    found = statuses(folder / "outputs" / "x").values()
    running = {entry["process"] for entry in found if entry["state"] == "running"} & set(_inside(folder))
    victim = draw.choice(("launcher", "task", "all"))
    if victim == "task" and running:
        os.kill(draw.choice(sorted(running)), signal.SIGKILL)
        return 1
    if process.poll() is not None:
        return 0
    if victim == "all":
        _kill_all(process)
    else:
        process.kill()
        process.wait()
    return 1
