"""One sweep on several machines: processes with other host names, which do not ask each other's kernels."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults.kills import contents, differences
from tests.sweep.launching import (
    JOBLIB,
    TINY,
    as_host,
    await_that,
    begin,
    kill_group,
    launch,
    running,
    states,
    statuses,
    workers,
)

GRID = [*TINY, "model=fc,conv", "seed=0,1,2", "noise=none,masking", "sweep.name=x"]
ONE = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
# Long enough to be caught, with checkpoints amid the epochs.
LONG = [*TINY, "model=conv", "trainer.epochs=12", "checkpoint.every_minutes=0.005", "trainer.batch_size=32"]


def hosts_can_be_named() -> bool:
    """Whether this user may give processes another host name."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*as_host("a"), "true"], capture_output=True).returncode == 0


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


def test_two_machines_share_a_sweep_and_run_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    sweep = tmp_path / "outputs" / "x"
    both = [begin(tmp_path, *GRID, *ONE, before=as_host(host)) for host in ("a", "b")]
    try:
        ends = [process.communicate(timeout=400) for process in both]
    finally:
        for process in both:
            kill_group(process)
    assert [process.returncode for process in both] == [0, 0], ends
    assert set(states(sweep).values()) == {"finished"} and set(starts(sweep).values()) == {1}
    shares = Counter(status["host"] for status in statuses(sweep).values())
    assert set(shares) == {"a", "b"} and sum(shares.values()) == 12
    for (out, _), host, other in zip(ends, "ab", "ba", strict=True):
        before = re.search(r"(\d+) done before", out)  # this launcher joined
        others = shares[other] - (int(before[1]) if before else 0)
        count = f"{shares[host]} job{'s' * (shares[host] != 1)}"
        assert (f"this launcher ran {count}; others ran {others} on {other}\n" in out) == (others > 0)
        assert "12 jobs: 12 finished" in out and out.count(f"  on {other}\n") == others
    assert {path.name for path in sweep.glob(".*")} == {".lock"}
    assert launch(tmp_path / "alone", *GRID, *JOBLIB).returncode == 0
    assert_same(sweep, tmp_path / "alone" / "outputs" / "x")


def test_the_jobs_of_a_killed_machine_are_taken_over_and_end_as_undisturbed(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    sweep, words = tmp_path / "outputs" / "x", [*LONG, "seed=0,1,2", "sweep.name=x"]
    first = begin(tmp_path, *words, *JOBLIB, before=as_host("a"), AERUN_LEASE_S="6")
    second = None
    try:
        await_that(lambda: len(running(sweep)) == 2, first)
        lost = freeze(first, sweep)
        second = begin(tmp_path, *words, *ONE, before=as_host("b"), AERUN_LEASE_S="6")
        await_that(lambda: "b" in {status["host"] for status in statuses(sweep).values()}, second)
        kill_frozen(first)
        out, errors = second.communicate(timeout=400)
    finally:
        for process in filter(None, (first, second)):
            kill_group(process)
    assert second.returncode == 0 and "3 jobs: 3 finished" in out, out + errors
    for name in lost:
        assert statuses(sweep)[name]["host"] == "b" and "continuing" in (sweep / name / "aerun.log").read_text()
    assert lost
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
    words = [*SEARCH, "hydra.sweeper.trials=10", "hydra.sweeper.sampler=random", *ONE]
    sweep = tmp_path / "outputs" / "x"
    both = [begin(tmp_path, *words, before=as_host(host)) for host in ("a", "b")]
    try:
        ends = [process.communicate(timeout=400) for process in both]
    finally:
        for process in both:
            kill_group(process)
    assert [process.returncode for process in both] == [0, 0], ends
    trials = study_of(sweep, optuna).trials
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    assert len(trials) == len({trial.params["optimizer.lr"] for trial in trials}) == 10
    assert all(trial.state in ended for trial in trials)
    assert len(starts(sweep)) == 10 and set(starts(sweep).values()) == {1}
    shares = Counter(status["host"] for status in statuses(sweep).values())
    assert set(shares) == {"a", "b"}
    for (out, _), host, other in zip(ends, "ab", "ba", strict=True):
        number = re.search(r"^\[ *(\d+)/10\]", out, re.MULTILINE)  # after those that had ended before it joined
        others = shares[other] - (int(number[1]) - 1 if number else 0)
        count = f"{shares[host]} job{'s' * (shares[host] != 1)}"
        assert (f"this launcher ran {count}; others ran {others} on {other}\n" in out) == (others > 0)
        assert "10 jobs: " in out


def test_the_trials_of_a_killed_launcher_are_taken_over(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="needs aerun[optuna]")
    longer = [*LONG, *SEARCH[len(TINY) :], "hydra.sweeper.pruner=none", "hydra.sweeper.trials=3"]
    sweep = tmp_path / "outputs" / "x"
    first = begin(tmp_path, *longer, *JOBLIB, before=as_host("a"), AERUN_LEASE_S="6")
    second = None
    try:
        await_that(lambda: len(running(sweep)) == 2, first)
        lost = freeze(first, sweep)
        second = begin(tmp_path, *longer, *ONE, before=as_host("b"), AERUN_LEASE_S="6")
        await_that(lambda: len(states(sweep)) == 3, second)
        kill_frozen(first)
        out, errors = second.communicate(timeout=400)
    finally:
        for process in filter(None, (first, second)):
            kill_group(process)
    assert second.returncode == 0 and "3 jobs: 3 finished" in out, out + errors
    assert lost and all(statuses(sweep)[name]["host"] == "b" for name in lost)
    trials = study_of(sweep, optuna).trials
    assert [trial.state for trial in trials] == [optuna.trial.TrialState.COMPLETE] * 3


def study_of(sweep: Path, optuna: Any) -> Any:
    backend = optuna.storages.journal.JournalFileBackend(str(sweep / "study.log"))
    return optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
