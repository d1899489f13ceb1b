"""Move a sweep from launcher to launcher, to another machine and back, while its processes are killed."""

from __future__ import annotations

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
from tests.sweep.launching import alive, as_host, begin, kill_group, launch, marks, states, statuses, workers

LEASE = {"AERUN_LEASE_S": "6"}
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
    local = [word for word in SWEEP if "hydra" not in word]
    joblib = [word for word in SWEEP if "hydra" in word]
    slurm = [Leg("Slurm", [*local, *SLURM])] if slurm_is_up() else []
    return [
        Leg("joblib", SWEEP),
        *slurm,
        Leg("another machine", [*local, *joblib], as_host("elsewhere")),
        Leg("joblib", SWEEP),
    ]


def campaign(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Move the sweep ``count`` kills long; each leg joins while the one before still runs, and is then alone.

    Returns what ``tests.sweep.campaign`` does; kills are counted by leg.
    """
    draw, route = random.Random(seed), legs()
    alone, moved = folder / "alone", folder / "moved"
    alone.mkdir(parents=True)
    moved.mkdir()
    clock = time.monotonic()
    done = launch(alone, *SWEEP)
    assert done.returncode == 0, done.stdout + done.stderr
    pause = 2.5 * (time.monotonic() - clock) / count
    sweep = moved / "outputs" / "x"
    kills, again, launchings = dict.fromkeys((leg.name for leg in route), 0), [], 0
    finished: dict[str, tuple[int, int]] = {}
    process: subprocess.Popen[str] | None = None
    everyone: list[subprocess.Popen[str]] = []
    try:
        for number in range(count):
            leg = route[number * len(route) // count]
            joined = begin(moved, *leg.words, output=subprocess.DEVNULL, before=leg.before, **LEASE)
            everyone.append(joined)
            launchings += 1
            if process is not None and process.poll() is None:
                time.sleep(draw.uniform(0.2, pause))
                _kill_all(process)  # the launcher of the leg before, with its workers
            process = joined
            time.sleep(draw.uniform(0.2, pause))
            kills[leg.name] += _kill_some(process, sweep, leg, draw)
            now = marks(sweep)
            again += sorted(name for name, mark in finished.items() if now.get(name) != mark)
            finished = now
        code = 1
        while code != 0:
            last = begin(moved, *route[-1].words, output=subprocess.DEVNULL, **LEASE)
            everyone.append(last)
            launchings += 1
            assert launchings < count + 8, f"it does not come to an end: {states(sweep)}"
            code = last.wait(timeout=600)
    finally:
        for one in everyone:
            kill_group(one)
        if slurm_is_up():
            subprocess.run(["scancel", "--me", "--name=aerun-x"], capture_output=True)
    now = marks(sweep)
    again += sorted(name for name, mark in finished.items() if now.get(name) != mark)
    names = sorted(path.parent.name for path in (alone / "outputs" / "x").glob("*/summary.json"))
    wrong = {name: differences(contents(alone / "outputs" / "x" / name), contents(sweep / name)) for name in names}
    hosts = sorted({status["host"] for status in statuses(sweep).values()})
    return {
        "jobs": len(names),
        "kills": kills,
        "launchings": launchings,
        "identical": sum(not parts for parts in wrong.values()),
        "failed": {name: parts[:5] for name, parts in wrong.items() if parts},
        "run again": again,
        "hosts": hosts,
    }


def _kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a launcher and its workers at once, as if its machine lost its power."""
    those = workers(process.pid)
    kill_group(process)
    for number in alive(those):
        os.kill(number, signal.SIGKILL)


def _kill_some(process: subprocess.Popen[str], sweep: Path, leg: Leg, draw: random.Random) -> int:
    """Kill a launcher, one of the processes that run its jobs, or all; returns 1 if there was something to kill."""
    status = statuses(sweep) if sweep.exists() else {}
    tasks = [entry["process"] for entry in status.values() if entry["state"] == "running"]
    victim = draw.choice(("launcher", "task", "all"))
    if process.poll() is not None and not tasks:
        return 0
    if victim == "task" and alive(tasks):
        os.kill(draw.choice(alive(tasks)), signal.SIGKILL)
    elif victim == "launcher" and process.poll() is None:
        process.kill()
        process.wait()
    else:
        _kill_all(process)
    return 1
