"""Kill a sweep at random moments, repeat it until it is done, and compare it with an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.faults.kills import contents, differences
from tests.sweep.launching import JOBLIB, TINY, alive, begin, kill_group, launch, marks, states, workers

# 24 jobs of a second or two, with checkpoints inside epochs.
SWEEP = [
    *TINY,
    *JOBLIB,
    "trainer.epochs=4",
    "trainer.batch_size=32",
    "checkpoint.every_minutes=0.002",
    "model=fc,conv",
    "seed=0,1,2",
    "noise=none,masking",
    "sparsity=none,l1",
    "sweep.name=x",
]
JOBS = 24
VICTIMS = ("launcher", "worker", "group")


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
    sweep = disturbed / "outputs" / "x"
    kills = dict.fromkeys(VICTIMS, 0)
    finished: dict[str, tuple[int, int]] = {}
    launchings, again, stayed, code = 0, [], 0, 1
    while code != 0:
        launchings += 1
        assert launchings < 2 * count + 5, f"it does not come to an end: {states(sweep)}"
        process = begin(disturbed, *SWEEP, output=subprocess.DEVNULL)
        those: list[int] = []
        try:
            while process.poll() is None and sum(kills.values()) < count:
                time.sleep(draw.uniform(0.2, pause))
                those = workers(process.pid) or those
                _kill(process, draw.choice(VICTIMS), those, draw, kills)
            code = process.wait(timeout=600)
            stayed += not _gone(those)
        finally:
            kill_group(process)
        now = marks(sweep)
        again += sorted(name for name, mark in finished.items() if now.get(name) != mark)
        finished = now
    names = sorted(path.parent.name for path in (alone / "outputs" / "x").glob("*/summary.json"))
    wrong = {name: differences(contents(alone / "outputs" / "x" / name), contents(sweep / name)) for name in names}
    return {
        "jobs": len(names),
        "kills": kills,
        "launchings": launchings,
        "identical": sum(not parts for parts in wrong.values()),
        "failed": {name: parts[:5] for name, parts in wrong.items() if parts},
        "run again": again,
        "stayed behind": stayed,
    }


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
