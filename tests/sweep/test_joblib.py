"""Workers of the joblib launcher: their device, their threads, and their independence of each other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aerun.errors import ConfigError
from aerun.sweep.launcher import build_launcher
from aerun.sweep.launcher.joblib import Joblib

NODE = {"_target_": "aerun.sweep.launcher.joblib.Joblib", "n_jobs": 4, "threads": None}


@pytest.fixture
def four() -> Iterator[Joblib]:
    launcher = build_launcher(NODE, [3, 5])
    assert isinstance(launcher, Joblib)
    with launcher:
        yield launcher


def in_slot(launcher: Joblib, slot: int, target: str, *arguments: str) -> str | None:
    from aerun.sweep.remote import call_by_name

    found: str | None = launcher._submit(slot, call_by_name, target, *arguments).result()
    return found


def test_jobs_are_spread_over_devices_and_cores(four: Joblib) -> None:
    devices = [in_slot(four, slot, "os.getenv", "CUDA_VISIBLE_DEVICES") for slot in range(four.slots)]
    assert devices == ["3", "5", "3", "5"]  # two on each
    cores = len(os.sched_getaffinity(0))
    threads = [in_slot(four, slot, "os.getenv", "OMP_NUM_THREADS") for slot in range(four.slots)]
    assert threads == [str(max(1, cores // 4))] * 4
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None  # the launcher's own


def test_by_default_one_job_runs_on_each_device() -> None:
    launcher = build_launcher({**NODE, "n_jobs": None}, [0, 1, 2])
    assert launcher.slots == 3
    assert build_launcher({**NODE, "n_jobs": None}, []).slots == len(os.sched_getaffinity(0))


def test_only_local_launchers_accept_devices() -> None:
    node = {"_target_": "aerun.sweep.launcher.ray.Ray", "address": None, "num_cpus": 1, "num_gpus": 0, "init": {}}
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=r"^sweep.gpus=\[0\]: is for local jobs"):
        build_launcher(node, [0])


def test_a_launcher_of_another_package_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"must be basic, joblib, slurm or ray"):
        build_launcher({"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"}, [])


def test_the_launching_process_never_imports_torch(tmp_path: Path) -> None:
    """It waits for the workers to import torch; importing it again would double that time."""
    words = ["-m", "seed=0,1", "trainer.steps=2", "dataset=random", "dataset.images=200", "sweep.name=lean"]
    code = "import sys; from aerun.cli.train import main; main(); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, *words, "trainer.device=cpu", "hydra/launcher=joblib"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert len(list((tmp_path / "outputs" / "lean").glob("*/summary.json"))) == 2
