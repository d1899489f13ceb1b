"""A run in several processes on two nodes of a real Slurm (scripts/slurm_here.sh start 2)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.kills import contents, differences
from tests.ranks.test_runs import ROOT, TINY
from tests.sweep.launching import LIMIT_S

WORDS = [*TINY, "trainer.epochs=12", "trainer.processes=2", "checkpoint.every_minutes=0.0001", "noise=gaussian"]


def node_count() -> int:
    """The nodes of the Slurm cluster that answers; 0 without one."""
    if shutil.which("sinfo") is None:
        return 0
    return len(subprocess.run(["sinfo", "-h", "-N"], capture_output=True, text=True).stdout.splitlines())


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(node_count() < 2, reason="needs Slurm with two nodes; sudo scripts/slurm_here.sh start 2"),
]


def begin(folder: Path, *before: str) -> subprocess.Popen[str]:
    """Start the run in ``folder``."""
    script = str(ROOT / "scripts" / "train.py")
    return subprocess.Popen(
        [*before, sys.executable, script, *WORDS, f"hydra.run.dir={folder}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ranks(folder: Path) -> dict[str, tuple[int, str]]:
    """The process and the Slurm node of each rank of a run that is alive."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().split(b"\0")
            if b"aerun.ranks.worker" in command and str(folder).encode() in command:
                entries = (path.parent / "environ").read_bytes().decode().split("\0")
                variables = dict(entry.partition("=")[::2] for entry in entries)
                found[variables["RANK"]] = int(path.parent.name), variables["SLURMD_NODENAME"]
    return found


def test_a_run_on_two_nodes_that_is_killed_continues_and_ends_as_on_one(tmp_path: Path) -> None:
    alone, run = tmp_path / "alone", tmp_path / "run"
    out, _ = (process := begin(alone)).communicate(timeout=LIMIT_S)
    assert process.returncode == 0, out
    nodes = ["salloc", "--quiet", "--nodes=2", "--ntasks-per-node=1", "--mem=2G"]
    first = begin(run, *nodes)
    while not (run / "checkpoints" / "last.safetensors").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    there = ranks(run)
    assert set(there) == {"0", "1"} and len({node for _, node in there.values()}) == 2
    os.kill(there["1"][0], signal.SIGKILL)
    out, _ = first.communicate(timeout=LIMIT_S)
    assert first.returncode != 0 and "rank 1 was killed by SIGKILL" in out, out
    assert not (run / "summary.json").exists() and ranks(run) == {}
    out, _ = (second := begin(run, *nodes)).communicate(timeout=LIMIT_S)
    assert second.returncode == 0, out
    assert differences(contents(alone), contents(run)) == []
    assert not (run / ".ranks").exists()
