"""How ranks are started, and how their outcome is reported."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aerun.base.device import choose_rank_device, ranks_per_node
from aerun.base.signals import Stopped
from aerun.errors import ConfigError, DivergedError, KilledError
from aerun.ranks import agent
from aerun.runs import launch
from aerun.runs.launch import command
from aerun.runs.outcome import RankError, read_outcomes, rebuild_error, write_outcome

ROOT = Path(__file__).resolve().parent.parent.parent
SLURM = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "4", "SLURM_JOB_NODELIST": "gpu[007-009,12],spare"}
RUN = Path("/runs/a b")


def test_on_one_machine_an_agent_starts_all_ranks() -> None:
    words = command(3, RUN, {"place": "/tmp/x"}, {})
    assert words[:-1] == [sys.executable, "-m", "aerun.ranks.agent", str(RUN)]
    order = json.loads(words[-1])
    assert order == {"place": "/tmp/x", "processes": 3, "local": 3}
    assert words == command(3, RUN, {"place": "/tmp/x"}, {"SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "1"})
    assert list(agent.ranks_of_node(order, {"SLURM_PROCID": "5"})) == [0, 1, 2]  # the number of the job's own task


def test_on_several_nodes_of_slurm_each_has_an_agent_with_its_ranks() -> None:
    words = command(8, RUN, {}, SLURM)
    assert words[0] == "srun" and words[-4:-1] == ["-m", "aerun.ranks.agent", str(RUN)]
    assert {"--nodes=4", "--ntasks=4", "--ntasks-per-node=1"} < set(words)
    order = json.loads(words[-1])
    ranks = [list(agent.ranks_of_node(order, {"SLURM_PROCID": str(node)})) for node in range(4)]
    assert ranks == [[0, 1], [2, 3], [4, 5], [6, 7]]
    numbers = agent.rank_environment(5, order)
    assert (numbers["RANK"], numbers["LOCAL_RANK"], numbers["WORLD_SIZE"]) == ("5", "1", "8")


@pytest.mark.parametrize("machines", ["1", "2"])
def test_only_the_user_can_open_the_folder_where_ranks_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machines: str
) -> None:
    """Who can write there decides to whom a rank connects."""
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", machines)
    before = os.umask(0)
    try:
        with launch._outcome_folder(tmp_path) as place:
            assert place.stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)


def test_nothing_that_a_socket_delivers_is_unpickled() -> None:
    """Neither by aerun nor by what it starts: torch's launcher and its collectives of objects do."""
    words = r"\b(pickle|TCPStore|elastic|torch\.distributed\.(run|launch)|\w+_object(_list)?)\b"
    for path in (ROOT / "aerun").rglob("*.py"):
        if "ranks" in path.parts or "runs" in path.parts:
            assert not re.search(words, path.read_text()), path


def test_a_step_of_one_node_stays_on_it() -> None:
    assert "srun" not in command(8, RUN, {}, {**SLURM, "SLURM_STEP_NUM_NODES": "1"})


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
    ("ends", "code", "recorded"),
    [
        (["pass", "pass"], 0, []),
        (["pass", "exit(3)"], 1, []),  # a rank that fails reports its own error
        (
            ["exit(1)", "os.kill(os.getpid(), 9)"],
            1,
            ["rank 1 was killed by SIGKILL; often the machine is out of memory"],
        ),
        (["os.kill(os.getpid(), 6)", "pass"], 1, ["rank 0 was killed by SIGABRT"]),
    ],
)
def test_an_agent_reports_ranks_that_were_killed(
    tmp_path: Path, ends: list[str], code: int, recorded: list[str]
) -> None:
    ranks = {rank: subprocess.Popen([sys.executable, "-c", f"import os; {end}"]) for rank, end in enumerate(ends)}
    assert agent.wait_for_ranks(ranks, tmp_path) == code
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
    done = subprocess.run([*torchrun, script, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300)
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
