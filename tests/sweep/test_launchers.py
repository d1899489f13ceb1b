"""One grid on all launchers: basic, joblib, a real single-node Slurm and a real Ray cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.kills import contents, differences
from tests.sweep.launching import (
    BASIC,
    JOBLIB,
    LIMIT_S,
    ODD,
    SEARCHED,
    SLURM,
    TINY,
    as_host,
    await_that,
    begin,
    descendants,
    hosts_can_be_named,
    kill_group,
    launch,
    name_of,
    slurm_is_up,
    states,
    statuses,
)

GRID = ["model=fc,conv", "sparsity=none,l1,odd", "noise=none,gaussian", "seed=0,1", "sweep.name=grid"]
RAY = ["hydra/launcher=ray"]
pytestmark = pytest.mark.slow


needs_slurm = pytest.mark.skipif(
    not slurm_is_up(), reason="needs aerun[slurm] and Slurm; sudo scripts/slurm_here.sh start"
)
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="aerun[ray] is missing")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the grid, run in one process."""
    folder = tmp_path_factory.mktemp("basic")
    done = launch(folder, *ODD, *TINY, *GRID, *BASIC)
    check(folder, done)
    return folder / "outputs" / "grid"


@pytest.fixture
def ray_cluster() -> Iterator[None]:
    """A Ray cluster that is started separately, in another directory."""
    ray = str(Path(sys.executable).with_name("ray"))
    start = [ray, "start", "--head", "--num-cpus=2", "--port=6399", "--include-dashboard=false"]
    subprocess.run(start, cwd="/", check=True, capture_output=True, timeout=LIMIT_S)
    yield
    subprocess.run([ray, "stop"], capture_output=True, timeout=LIMIT_S)


NETWORKS = ("aerun-1", "aerun-2")  # network namespaces, each a host of its own


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


def processes(network: str) -> list[int]:
    """The processes of a network namespace."""
    done = subprocess.run(["ip", "netns", "pids", network], capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def networks_can_be_made() -> bool:
    """Whether this user may make network namespaces (Linux, as root, with iproute2)."""
    if shutil.which("ip") is None or not hosts_can_be_named():
        return False
    made = subprocess.run(["ip", "netns", "add", "aerun-0"], capture_output=True).returncode == 0
    subprocess.run(["ip", "netns", "del", "aerun-0"], capture_output=True)
    return made


@pytest.fixture
def two_ray_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray cluster of two hosts, a and b, each in its own network with one processor; the address of the first."""
    ray = str(Path(sys.executable).with_name("ray"))
    # Ray asks for a token if any cluster on this machine has ever made one, and only a head node finds it by itself.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 2)
    try:
        for network in NETWORKS:
            ip(f"netns add {network}")
            ip(f"-n {network} link set lo up")
        ip(f"link add aerun0 netns {NETWORKS[0]} type veth peer name aerun0 netns {NETWORKS[1]}")
        for number, network in enumerate(NETWORKS, 1):
            ip(f"-n {network} addr add 10.77.0.{number}/24 dev aerun0")
            ip(f"-n {network} link set aerun0 up")
        for number, (network, host) in enumerate(zip(NETWORKS, "ab", strict=True), 1):
            role = (
                ["--head", "--port=6399", "--include-dashboard=false"] if number == 1 else ["--address=10.77.0.1:6399"]
            )
            start = [ray, "start", *role, f"--node-ip-address=10.77.0.{number}", "--num-cpus=1"]
            command = [*as_host(host), "ip", "netns", "exec", network, *start]
            subprocess.run(command, cwd="/", check=True, capture_output=True, timeout=LIMIT_S)
        yield "10.77.0.1:6399"
    finally:
        for network in NETWORKS:
            with contextlib.suppress(subprocess.CalledProcessError):
                for number in processes(network):
                    os.kill(number, signal.SIGKILL)
                ip(f"netns del {network}")


def check(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    """Assert that 22 of the 24 jobs have results, two an error, and that the exit code is 1."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "24 jobs: 22 finished, 2 failed" in done.stdout
    assert done.stdout.partition("\nfailed:\n")[2].count("RuntimeError: cannot bear the odd seed") == 2
    found = statuses(folder / "outputs" / "grid")
    assert sorted(status["state"] for status in found.values()) == ["failed"] * 2 + ["finished"] * 22


def assert_equal(sweep: Path, expected: Path) -> None:
    """Assert that all results are bit-identical."""
    for name, state in states(expected).items():
        if state == "finished":
            assert differences(contents(expected / name), contents(sweep / name)) == [], name


def test_joblib(undisturbed: Path, tmp_path: Path) -> None:
    check(tmp_path, launch(tmp_path, *ODD, *TINY, *GRID, *JOBLIB))
    assert_equal(tmp_path / "outputs" / "grid", undisturbed)


@needs_slurm
def test_slurm(undisturbed: Path, tmp_path: Path) -> None:
    check(tmp_path, launch(tmp_path, *ODD, *TINY, *GRID, *SLURM))
    assert_equal(tmp_path / "outputs" / "grid", undisturbed)
    assert subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout == ""


@needs_ray
def test_a_ray_cluster_of_our_own(undisturbed: Path, tmp_path: Path) -> None:
    check(tmp_path, launch(tmp_path, *ODD, *TINY, *GRID, *RAY))
    assert_equal(tmp_path / "outputs" / "grid", undisturbed)


@needs_ray
def test_a_running_ray_cluster(undisturbed: Path, tmp_path: Path, ray_cluster: None) -> None:
    check(tmp_path, launch(tmp_path, *ODD, *TINY, *GRID, *RAY, "hydra.launcher.address=auto"))
    assert_equal(tmp_path / "outputs" / "grid", undisturbed)
    assert not Path("/outputs").exists()  # of the cluster's own directory


@needs_ray
@pytest.mark.skipif(not networks_can_be_made(), reason="needs network namespaces: Linux, as root, with ip and unshare")
def test_a_ray_node_that_dies_costs_the_sweep_its_job_alone(tmp_path: Path, two_ray_nodes: str) -> None:
    words = [*TINY, "model=fc", "seed=range(6)", "trainer.epochs=60", "sweep.name=x"]
    sweep = tmp_path / "outputs" / "x"
    with_ray = [*words, *RAY, f"hydra.launcher.address={two_ray_nodes}"]
    inside = ["ip", "netns", "exec", NETWORKS[0]]

    def on_b() -> list[str]:
        found = statuses(sweep).items() if sweep.exists() else ()
        return [name for name, status in found if status["host"] == "b" and status["state"] == "running"]

    process = begin(tmp_path, *with_ray, before=inside)
    try:
        [lost] = await_that(on_b, process)
        for number in processes(NETWORKS[1]):
            os.kill(number, signal.SIGKILL)
        out, errors = process.communicate(timeout=LIMIT_S)
    finally:
        kill_group(process)
    assert process.returncode == 1 and "6 jobs: 5 finished, 1 killed" in out, out + errors
    assert states(sweep)[lost] == "killed"
    done = launch(tmp_path, *words, *JOBLIB)
    assert done.returncode == 0 and "6 jobs: 6 finished" in done.stdout, done.stdout + done.stderr
    (tmp_path / "alone").mkdir()
    launch(tmp_path / "alone", *words, *BASIC)
    assert_equal(sweep, tmp_path / "alone" / "outputs" / "x")


@needs_ray
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in Linux's /proc")
def test_a_sweep_stops_with_its_ray_cluster_and_fails_no_job(tmp_path: Path) -> None:
    words = [*TINY, "model=fc", "seed=range(8)", "trainer.epochs=40", "sweep.name=x"]
    sweep = tmp_path / "outputs" / "x"
    process = begin(tmp_path, *words, *RAY, "hydra.launcher.init={num_cpus: 2}")
    try:
        await_that(lambda: "running" in states(sweep).values(), process)
        [raylet] = [number for number in descendants(process.pid) if name_of(number) == "raylet"]
        os.kill(raylet, signal.SIGKILL)
        _, errors = process.communicate(timeout=300)
    finally:
        kill_group(process)
    line = "aerun: hydra/launcher=ray: the Ray cluster has died, and the sweep stops; the same command continues it"
    assert process.returncode == 1 and line in errors.splitlines(), errors
    assert not {"failed", "killed"} & set(states(sweep).values())
    done = launch(tmp_path, *words, *JOBLIB)
    assert done.returncode == 0 and "8 jobs: 8 finished" in done.stdout


@needs_slurm
def test_slurm_jobs_that_are_killed_requeued_and_watched_by_a_second_launch(tmp_path: Path) -> None:
    longer = [*TINY, "trainer.epochs=150", "dataset.train_limit=2000", "seed=0,1,2", "sweep.name=s", *SLURM]
    sweep = tmp_path / "outputs" / "s"

    def running() -> dict[str, int]:
        found = statuses(sweep).items() if sweep.exists() else ()
        return {name: status["process"] for name, status in found if status["state"] == "running"}

    first = begin(tmp_path, *longer)
    killed, process = await_that(lambda: next(iter(running().items()), None), first)
    os.kill(process, signal.SIGKILL)  # undetectable by Slurm's state without accounting
    await_that(lambda: states(sweep).get(killed) == "killed", first)
    first.send_signal(signal.SIGINT)
    out, _ = first.communicate(timeout=300)
    assert first.returncode == 130 and "the jobs continue in Slurm" in out and "scancel" in out
    queued = subprocess.run(["squeue", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=True).stdout
    assert len(queued.split()) == 2

    second = begin(tmp_path, *longer)
    name, process = await_that(lambda: next(iter(running().items()), None), second)
    await_that(lambda: (sweep / name / "checkpoints" / "last.safetensors").exists(), second)
    os.kill(process, signal.SIGUSR2)  # what Slurm sends before the time limit
    out, errors = second.communicate(timeout=300)
    assert second.returncode == 0, out + errors
    assert "3 jobs: 3 finished" in out
    assert "continuing" in (sweep / name / "aerun.log").read_text()
    queue = ["squeue", "-h"]
    await_that(lambda: subprocess.run(queue, capture_output=True, text=True, check=True).stdout == "")


@needs_slurm
def test_slurm_evaluates_a_finished_sweep_and_adds_protocols_to_it_as_joblib_does(tmp_path: Path) -> None:
    words = [*TINY, "model=fc", "seed=0,1,2", "sweep.name=x"]
    added: dict[str, Path] = {}
    for name, launcher in (("joblib", JOBLIB), ("slurm", SLURM)):
        (tmp_path / name).mkdir()
        added[name] = tmp_path / name / "outputs" / "x"
        assert launch(tmp_path / name, *words, *JOBLIB).returncode == 0
        asked = [sys.executable, "-m", "aerun", "evaluate", "outputs/x", "protocol=[knn]", *launcher]
        environment = {**os.environ, "PYTHONPATH": SEARCHED}
        done = subprocess.run(asked, cwd=tmp_path / name, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0 and done.stdout.endswith("\n3 runs: 3 agree\n"), done.stdout + done.stderr
        done = launch(tmp_path / name, *words, "protocol=[knn]", *launcher)
        assert done.returncode == 0 and done.stdout.count("  evaluated ") == 3, done.stdout + done.stderr
        done = launch(tmp_path / name, *words, "protocol=[knn]", "protocol.knn.k=100000", *launcher)
        assert done.returncode == 1 and done.stdout.count("k=100000: is more than the ") == 3, done.stdout + done.stderr
    assert not list(added["slurm"].glob(".evaluation-*"))
    for name in states(added["joblib"]):
        numbers = [json.loads((sweep / name / "evaluation.json").read_text()) for sweep in added.values()]
        assert numbers[0] == numbers[1] and "knn_error" in numbers[0]["further"]["knn"]
        assert differences(*(contents(sweep / name) for sweep in added.values())) == []
