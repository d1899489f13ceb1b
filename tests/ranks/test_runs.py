"""Complete runs with several processes, started by a job."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.faults.kills import contents, differences, finish, start, wait_for
from tests.faults.sockets import Socket, listening_sockets, reachable

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = [
    "dataset=random",
    "dataset.images=200",
    "trainer.epochs=3",
    "trainer.batch_size=32",
    "trainer.log_every_steps=2",
    "trainer.pictures=1",
    "trainer.device=cpu",
    "trainer.threads=1",
]
TWO = "trainer.processes=2"
Train = Callable[..., subprocess.CompletedProcess[str]]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return found


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that contain this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in command and "aerun.ranks" in command:
            found.append(command)
    return found


# A penalty over the whole minibatch. Rounding flips a selection where values nearly tie: see test_group for those.
WORDS = [*TINY, "model=conv", "sparsity=kl", "noise=gaussian", "scheduler=plateau"]


@pytest.fixture(scope="module")
def two(compose: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in two processes."""
    folder: Path = tmp_path_factory.mktemp("ranks") / "two"
    assert finish(start(compose([*WORDS, TWO]), folder)) == 0
    return folder


def test_two_processes_end_as_one(compose: Any, tmp_path: Path, two: Path) -> None:
    one = tmp_path / "one"
    assert finish(start(compose(WORDS), one)) == 0
    assert len(lines(one)) == 3
    for expected, found in zip(lines(one), lines(two), strict=True):
        assert expected.keys() == found.keys()
        for name in expected.keys() - {"train/images_per_second"}:
            assert math.isclose(found[name], expected[name], rel_tol=1e-4), name
    weights, others = (load_file(folder / "checkpoints" / "last.safetensors") for folder in (one, two))
    for name, value in weights.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    tests = [json.loads((folder / "summary.json").read_text())["test"] for folder in (one, two)]
    assert tests[0] == pytest.approx(tests[1], rel=1e-4)
    files = [{path.name.partition(".out.")[0] for path in folder.rglob("*")} for folder in (one, two)]
    # The test's own process has no log; how many checkpoints there are depends on the clock.
    assert files[1] - files[0] - {"previous.safetensors"} == {"aerun.log"}
    assert len(list(two.glob("events.out.*"))) == 1


def test_a_killed_run_leaves_no_process_and_ends_as_an_undisturbed_one(compose: Any, tmp_path: Path) -> None:
    long = ["trainer.epochs=12", "dataset.images=300", "checkpoint.every_minutes=0.0001", "noise=gaussian"]
    config = compose([*TINY, *long, "sparsity=kl", TWO])
    assert finish(start(config, tmp_path / "whole")) == 0
    run = tmp_path / "run"
    child = start(config, run)
    wait_for(run / "checkpoints" / "last.safetensors", child)
    assert len(processes_of(run)) == 3  # the agent and its two ranks
    os.kill(child, signal.SIGKILL)
    finish(child)
    while processes_of(run):  # a busy machine needs more than an instant
        time.sleep(0.02)
    assert not (run / "summary.json").exists()
    assert finish(start(config, run)) == 0
    assert len(lines(run)) == 12
    assert differences(contents(tmp_path / "whole"), contents(run)) == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists sockets")
def test_no_process_of_a_run_on_one_machine_can_be_reached_from_another(compose: Any, tmp_path: Path) -> None:
    found = set[Socket]()
    child = start(compose([*TINY, TWO, "trainer.epochs=100000"]), tmp_path / "run")
    while not (tmp_path / "run" / "checkpoints" / "last.safetensors").exists():
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        found |= listening_sockets(child)
        time.sleep(0.05)
    found |= listening_sockets(child)
    os.kill(child, signal.SIGTERM)
    finish(child)
    assert status(tmp_path / "run")["state"] == "stopped" and processes_of(tmp_path) == []
    assert found and not reachable(found)


SRUN = """#!{python}
import os, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
nodes = [subprocess.Popen(words, env=dict(os.environ, SLURM_PROCID=str(i))) for i in range(2)]
sys.exit(max(node.wait() for node in nodes))
"""


def test_agents_of_several_nodes_train_one_run(
    compose: Any, tmp_path: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "srun").write_text(SRUN.format(python=sys.executable))
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    assert finish(start(compose([*WORDS, TWO]), tmp_path / "nodes")) == 0
    assert differences(contents(two), contents(tmp_path / "nodes")) == []
    assert not (tmp_path / "nodes" / ".ranks").exists()


PARTS = """
import os
from dataclasses import dataclass
from aerun.noise import NoNoise

@dataclass(frozen=True)
class Faulty(NoNoise):
    rank: int
    how: str
    is_identity = False
    def __call__(self, images, generator):
        if os.environ.get("RANK") == str(self.rank) and images.any():  # not in the trial with zeros
            if self.how == "raise":
                raise ValueError("boom")
            os.kill(os.getpid(), 9)
        return images
"""


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raise", "RankError: rank 1: ValueError: boom"),
        pytest.param(
            "kill",
            "KilledError: rank 1 was killed by SIGKILL; often the machine is out of memory",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_failing_rank_is_reported_with_its_traceback(train: Train, tmp_path: Path, how: str, says: str) -> None:
    (tmp_path / "faulty.py").write_text(PARTS)
    (tmp_path / "mine" / "noise").mkdir(parents=True)
    (tmp_path / "mine" / "noise" / "faulty.yaml").write_text(f"_target_: faulty.Faulty\nrank: 1\nhow: {how}\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    words = ["--config-dir=mine", "noise=faulty", "trusted_packages=[faulty]", "hydra.run.dir=run", TWO]
    done = train(*words, *TINY, PYTHONPATH=path)
    assert done.returncode == 1
    found = status(tmp_path / "run")
    assert found["state"] == "failed" and found["error"] == says
    assert says.removeprefix("KilledError: ") in done.stderr
    if how == "raise":
        assert 'faulty.py", line 14, in __call__' in found["traceback"] and "faulty.py" in done.stderr
    assert processes_of(tmp_path) == []


@pytest.mark.slow
def test_a_diverging_run_is_reported_as_by_one_process(train: Train, tmp_path: Path) -> None:
    words = [*TINY, "optimizer=sgd", "optimizer.lr=1e20"]
    one, two = train(*words, "hydra.run.dir=one"), train(*words, TWO, "hydra.run.dir=two")
    assert one.returncode == two.returncode == 1
    assert two.stderr == one.stderr
    states = [status(tmp_path / name) for name in ("one", "two")]
    assert [state["state"] for state in states] == ["diverged"] * 2
    assert states[0]["error"] == states[1]["error"]


@pytest.mark.slow
def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    """Every process of the terminal gets it; the run is saved, and says how to go on."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *TINY, TWO, "trainer.epochs=100000"]
    process = subprocess.Popen(
        [*command, "hydra.run.dir=run"],
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "run" / "checkpoints" / "last.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "stopped by SIGINT" in errors and "resume=run" in errors
    assert "Traceback" not in errors
    assert status(tmp_path / "run")["state"] == "stopped" and processes_of(tmp_path) == []
