"""How ranks are started, and how their outcome is reported."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from aerun.base.device import choose_rank_device, ranks_per_node
from aerun.base.signals import Stopped
from aerun.errors import ConfigError, DivergedError, KilledError
from aerun.ranks import agent
from aerun.runs.launch import command, first_host
from aerun.runs.outcome import RankError, read_outcomes, rebuild_error, write_outcome

ROOT = Path(__file__).resolve().parent.parent.parent
SLURM = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "4", "SLURM_JOB_NODELIST": "gpu[007-009,12],spare"}
RUN = Path("/runs/a b")


def option(words: list[str], name: str) -> str:
    [found] = [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
    return found


def test_on_one_machine_an_agent_starts_all_ranks() -> None:
    words = command(3, RUN, {"place": "/tmp/x"}, {})
    agent = [sys.executable, "-m", "aerun.ranks.agent", "--nproc-per-node=3", "--standalone"]
    assert words[:-1] == [*agent, "-m", "aerun.ranks.worker", str(RUN)]
    assert json.loads(words[-1]) == {"place": "/tmp/x"}
    assert words == command(3, RUN, {"place": "/tmp/x"}, {"SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "1"})


def test_on_several_nodes_of_slurm_agents_meet_on_the_first() -> None:
    words = command(8, RUN, {}, SLURM)
    assert words[0] == "srun" and words.index("srun") < words.index(sys.executable)
    assert option(words, "nodes") == option(words, "ntasks") == option(words, "nnodes") == "4"
    assert option(words, "ntasks-per-node") == "1" and option(words, "nproc-per-node") == "2"
    assert option(words, "rdzv-backend") == "c10d" and "--standalone" not in words
    host, _, port = option(words, "rdzv-endpoint").partition(":")
    assert host == "gpu007" and 20000 <= int(port) < 40000
    assert words[-4:] == ["-m", "aerun.ranks.worker", str(RUN), "{}"]
    assert words == command(8, RUN, {}, SLURM)


def test_concurrent_runs_use_different_ports() -> None:
    ports = {option(command(8, Path(f"/runs/{i}"), {}, SLURM), "rdzv-endpoint") for i in range(5)}
    assert len(ports) == 5


def test_a_step_of_one_node_stays_on_it() -> None:
    assert "srun" not in command(8, RUN, {}, {**SLURM, "SLURM_STEP_NUM_NODES": "1"})


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [
        ("vm", "vm"),
        ("a,b", "a"),
        ("gpu[003-005,9]", "gpu003"),
        ("gpu[7,9-11],login", "gpu7"),
        ("rack[1-2]n[04-06].site,x", "rack1n04.site"),
        ("gpu-a-[12-13]", "gpu-a-12"),
    ],
)
def test_the_first_host_of_a_list(nodelist: str, host: str) -> None:
    assert first_host(nodelist) == host


def test_ranks_are_shared_out_evenly() -> None:
    assert ranks_per_node(8, SLURM) == 2 and ranks_per_node(8, {}) == 8 and ranks_per_node(1, SLURM) == 1
    with pytest.raises(ConfigError, match=r"trainer.processes=6: must be a multiple of the Slurm job's 4 nodes"):
        ranks_per_node(6, SLURM)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (DivergedError("step 3: loss is nan"), DivergedError, "step 3: loss is nan"),
        (ValueError("boom"), RankError, "rank 1: ValueError: boom"),
        (Stopped(15), Stopped, "SIGTERM"),
    ],
)
def test_an_error_crosses_processes(tmp_path: Path, error: BaseException, kind: type, text: str) -> None:
    write_outcome(tmp_path, "rank 1", raised(error))
    write_outcome(tmp_path, "rank 0", raised(RuntimeError("connection closed")))
    found = rebuild_error(read_outcomes(tmp_path)[0])
    assert type(found) is kind and str(found) == text
    assert "in raised" in str(found.__cause__)
    if isinstance(found, Stopped):
        assert found.number == 15


@pytest.mark.parametrize(
    ("codes", "recorded"),
    [
        ({0: -signal.SIGTERM, 1: 1}, []),  # rank 1 reports its own error, and torch ended rank 0 after it
        (
            {0: -signal.SIGTERM, 1: -signal.SIGKILL},
            ["rank 1 was killed by SIGKILL; often the machine is out of memory"],
        ),
        ({0: -signal.SIGTERM}, ["rank 0 was killed by SIGTERM"]),
    ],
)
def test_a_rank_that_torch_ended_is_not_a_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: dict[int, int], recorded: list[str]
) -> None:
    def fail(words: list[str]) -> None:
        raise ChildFailedError("worker", {rank: ProcessFailure(rank, 1, code, "") for rank, code in codes.items()})

    monkeypatch.setattr(agent.run, "main", fail)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["agent", json.dumps({"place": str(tmp_path)})])
    with pytest.raises(SystemExit):
        agent.main()
    assert [outcome["text"] for outcome in read_outcomes(tmp_path)] == recorded


def test_a_killed_rank_is_the_cause_of_what_it_broke(tmp_path: Path) -> None:
    write_outcome(tmp_path, "rank 0", raised(RuntimeError("connection closed")))
    write_outcome(tmp_path, "agent of rank 1", KilledError("rank 1 was killed by SIGKILL"))
    assert str(rebuild_error(read_outcomes(tmp_path)[0])) == "rank 1 was killed by SIGKILL"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ("trainer.processes=0", "trainer.processes=0: must be a whole number, at least 1"),
        ("trainer.processes=2 trainer.device=cuda:1", "trainer.device=cuda:1: trainer.processes=2"),
        ("trainer.processes=9 trainer.batch_size=8", "trainer.processes=9: is more than trainer.batch_size=8"),
    ],
)
def test_what_cannot_be_is_refused(compose: Any, overrides: str, says: str) -> None:
    from aerun.config.parse import parse

    with pytest.raises(ConfigError, match=says):
        parse(compose(overrides.split()))


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_rank_device("auto", 2, {}).type == choose_rank_device("cuda", 8, SLURM).type == "cuda"
    assert choose_rank_device("cpu", 9, {}).type == "cpu"
    with pytest.raises(
        ConfigError, match=r"trainer.processes=3: each process needs its own CUDA device, .* this machine has 2"
    ):
        choose_rank_device("cuda", 3, {})


@pytest.mark.parametrize("words", [["seed=1"], ["-m", "seed=1,2"]])
def test_torchrun_is_answered_with_what_to_type(tmp_path: Path, words: list[str]) -> None:
    script = str(ROOT / "scripts" / "train.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*torchrun, script, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if line.startswith("aerun:")]
    name = Path(sys.executable).name
    python = name if shutil.which(name) == sys.executable else sys.executable
    typed = shlex.join([python, script, "trainer.processes=2", *words])
    assert said == [f"aerun: a run starts its own processes; do not use torchrun, type: {typed}"]
    assert done.returncode != 0 and "exitcode: 2" in done.stderr.replace("exitcode  : 2", "exitcode: 2")
    assert list(tmp_path.iterdir()) == []


def test_torchrun_is_answered_before_torch_is_imported(train: Callable[..., Any]) -> None:
    done = train("seed=1", LOCAL_RANK="0", RANK="0", WORLD_SIZE="2", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 2
    assert not any(line.split("|")[-1].strip() in ("torch", "numpy") for line in done.stderr.splitlines())
