"""Stopping a run from outside, in separate processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.kills import SMALL, contents, differences, finish, start

ROOT = Path(__file__).resolve().parent.parent.parent
LONG = [override for override in SMALL if "epochs" not in override] + ["trainer.epochs=1000000", "trainer.pictures=0"]


def begin(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start a run in ``folder``/run and wait until it has trained for a moment."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *LONG, "hydra.run.dir=run", *overrides]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (folder / "run" / "checkpoints" / "last.safetensors").exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.1)
    return process


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_ends_a_run_of_a_million_epochs_with_its_exit_code(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    process = begin(tmp_path)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert f"stopped by {name}" in errors and "resume=" in errors and "Traceback" not in errors
    assert '"state": "stopped"' in (tmp_path / "run" / "status.json").read_text()
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    """The first signal arrives where it is only noted, as in a step that takes forever."""
    code = (
        "import os, signal, time\nfrom aerun.base.signals import StopSignals\n"
        "with StopSignals():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    print('noted', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(600)\n    print('too late')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 130 and done.stdout == "noted\n"


def test_a_stopped_run_continues_to_the_very_same_end(compose: Any, tmp_path: Path) -> None:
    config = compose([*SMALL, "noise=gaussian", "sparsity=lifetime"])
    assert finish(start(config, tmp_path / "whole")) == 0
    for delay in (0.3, 0.6, 0.9):
        child = start(config, tmp_path / "stopped")
        time.sleep(delay)
        os.kill(child, signal.SIGTERM)
        finish(child)
    assert finish(start(config, tmp_path / "stopped")) == 0
    assert differences(contents(tmp_path / "whole"), contents(tmp_path / "stopped")) == []


def test_a_second_writer_is_refused_and_the_lock_dies_with_its_owner(tmp_path: Path) -> None:
    process = begin(tmp_path)
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "resume=run"]
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert second.returncode == 1 and process.poll() is None  # it did not wait for the first one
    assert f"is being written by process {process.pid} on" in second.stderr
    process.kill()
    process.wait()
    third = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert third.stdout is not None
    first_lines = third.stdout.readline() + third.stdout.readline()
    assert "continuing" in first_lines
    third.kill()
    third.wait()
