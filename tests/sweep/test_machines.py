"""One sweep on several machines: processes with other host names, which do not ask each other's kernels."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.kills import contents, differences
from tests.sweep.launching import (
    JOBLIB,
    LIMIT_S,
    SHORT_LEASE,
    TINY,
    await_that,
    hosts_can_be_named,
    kill_group,
    launch,
    running,
    starting,
    states,
    statuses,
    study_trials,
    workers,
)

GRID = [*TINY, "model=fc,conv", "seed=0,1,2", "noise=none,masking", "sweep.name=x"]
ONE = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
# Long enough to be caught, with checkpoints amid the epochs.
LONG = [*TINY, "model=conv", "trainer.epochs=12", "checkpoint.every_minutes=0.005", "trainer.batch_size=32"]


pytestmark = pytest.mark.skipif(not hosts_can_be_named(), reason="needs unshare --uts, as root")


def starts(sweep: Path) -> dict[str, int]:
    """How often each job was started, by its log."""
    logs = {path.parent.name: path.read_text() for path in sweep.glob("*/aerun.log")}
    return {name: log.count(" parameters; ") for name, log in logs.items()}


def freeze(launcher: subprocess.Popen[str], sweep: Path) -> list[str]:
    """Stop a launcher and its workers in the middle of their jobs, and return the names of these."""
    for process in (launcher.pid, *workers(launcher.pid)):
        os.kill(process, signal.SIGSTOP)
    return [name for name, state in states(sweep).items() if state == "running"]


def kill_frozen(launcher: subprocess.Popen[str]) -> None:
    for process in workers(launcher.pid):
        os.kill(process, signal.SIGKILL)
    kill_group(launcher)


def assert_same(sweep: Path, alone: Path) -> None:
    names = [path.parent.name for path in alone.glob("*/summary.json")]
    assert names and sorted(names) == sorted(path.parent.name for path in sweep.glob("*/summary.json"))
    assert [name for name in names if differences(contents(alone / name), contents(sweep / name))] == []


def run_on_both(folder: Path, *words: str) -> list[str]:
    """What the same command prints on the hosts a and b, which run it at the same time."""
    with starting(folder) as start:
        both = [start(host, *words, *ONE) for host in "ab"]
        ends = [process.communicate(timeout=LIMIT_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    return [out for out, _ in ends]


def assert_shared(sweep: Path, printed: list[str], ended_before: Callable[[str], int]) -> None:
    """Both hosts ran jobs, none twice, and each counts those of the other that ended after it had joined."""
    assert set(starts(sweep).values()) == {1}
    shares = Counter(status["host"] for status in statuses(sweep).values())
    assert set(shares) == {"a", "b"}
    for out, host, other in zip(printed, "ab", "ba", strict=True):
        others = shares[other] - ended_before(out)
        count = f"{shares[host]} job{'s' * (shares[host] != 1)}"
        assert (f"this launcher ran {count}; others ran {others} on {other}\n" in out) == (others > 0)
        assert f"{sum(shares.values())} jobs: " in out


def take_over(folder: Path, *words: str) -> list[str]:
    """Stop host a amid two of three jobs, let b join, kill a; the names of the two, which b has ended."""
    sweep = folder / "outputs" / "x"
    with starting(folder) as start:
        first = start("a", *words, *JOBLIB, **SHORT_LEASE)
        await_that(lambda: len(running(sweep)) == 2, first)
        lost = freeze(first, sweep)
        second = start("b", *words, *ONE, **SHORT_LEASE)
        await_that(lambda: "b" in {status["host"] for status in statuses(sweep).values()}, second)
        kill_frozen(first)
        out, errors = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 0 and "3 jobs: 3 finished" in out, out + errors
    assert lost and all(statuses(sweep)[name]["host"] == "b" for name in lost)
    return lost


def test_two_machines_share_a_sweep_and_run_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    sweep = tmp_path / "outputs" / "x"
    printed = run_on_both(tmp_path, *GRID)

    def ended_before(out: str) -> int:
        before = re.search(r"(\d+) done before", out)  # this launcher joined
        return int(before[1]) if before else 0

    assert_shared(sweep, printed, ended_before)
    shares = Counter(status["host"] for status in statuses(sweep).values())
    for out, other in zip(printed, "ba", strict=True):
        assert "12 jobs: 12 finished" in out and out.count(f"  on {other}\n") == shares[other] - ended_before(out)
    assert {path.name for path in sweep.glob(".*")} == {".lock"}
    assert launch(tmp_path / "alone", *GRID, *JOBLIB).returncode == 0
    assert_same(sweep, tmp_path / "alone" / "outputs" / "x")


def test_the_jobs_of_a_killed_machine_are_taken_over_and_end_as_undisturbed(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    sweep, words = tmp_path / "outputs" / "x", [*LONG, "seed=0,1,2", "sweep.name=x"]
    for name in take_over(tmp_path, *words):
        assert "continuing" in (sweep / name / "aerun.log").read_text()
    assert launch(tmp_path / "alone", *words, *JOBLIB).returncode == 0
    assert_same(sweep, tmp_path / "alone" / "outputs" / "x")


SEARCH = [
    *TINY,
    "hydra/sweeper=optuna",
    "hydra.sweeper.params=null",
    "optimizer.lr=interval(1e-5,1e-2)",
    "sweep.name=x",
]


def test_two_machines_share_a_search(tmp_path: Path) -> None:
    """They draw different points, of which as many are run as the search has trials."""
    optuna = pytest.importorskip("optuna", reason="needs aerun[optuna]")
    sweep = tmp_path / "outputs" / "x"
    printed = run_on_both(tmp_path, *SEARCH, "hydra.sweeper.trials=10", "hydra.sweeper.sampler=random")
    trials = study_trials(sweep)
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    assert len(trials) == len({trial.params["optimizer.lr"] for trial in trials}) == len(starts(sweep)) == 10
    assert all(trial.state in ended for trial in trials)

    def ended_before(out: str) -> int:
        number = re.search(r"^\[ *(\d+)/10\]", out, re.MULTILINE)  # the first that ended after it had joined
        return int(number[1]) - 1 if number else 0

    assert_shared(sweep, printed, ended_before)


def test_the_trials_of_a_killed_launcher_are_taken_over(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="needs aerun[optuna]")
    longer = [*LONG, *SEARCH[len(TINY) :], "hydra.sweeper.pruner=none", "hydra.sweeper.trials=3"]
    take_over(tmp_path, *longer)
    trials = study_trials(tmp_path / "outputs" / "x")
    assert [trial.state for trial in trials] == [optuna.trial.TrialState.COMPLETE] * 3
