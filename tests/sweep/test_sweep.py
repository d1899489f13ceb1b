"""Sweeps as a person meets them: each in processes of its own."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.kills import contents, differences
from tests.sweep.launching import (
    BARE,
    BASIC,
    JOBLIB,
    ODD,
    ROOT,
    TINY,
    alive,
    await_that,
    begin,
    continue_sweep,
    kill_group,
    launch,
    marks,
    running,
    states,
    statuses,
    workers,
)

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in Linux's /proc")
GRID = [*ODD, *BARE, "model=fc,conv", "seed=0,1,3", "sparsity=none,odd"]
FAILING = {"model=conv seed=1 sparsity=odd": 1, "model=conv seed=3 sparsity=odd": 3}
# Long enough to be caught, with checkpoints amid the epochs.
LONG = [*TINY, "model=conv", "trainer.epochs=12", "checkpoint.every_minutes=0.005", "trainer.batch_size=32"]


def same(first: Path, second: Path) -> bool:
    """Whether the finished jobs of two sweeps are the same ones, bit for bit."""
    folders = [{path.parent.name for path in sweep.glob("*/summary.json")} for sweep in (first, second)]
    assert folders[0] == folders[1] and folders[0]
    return not any(differences(contents(first / name), contents(second / name)) for name in folders[0])


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A grid of 12 jobs, two of which fail as they run; its folder holds a space."""
    folder = tmp_path_factory.mktemp("a sweep")
    return folder, launch(folder, *GRID, *JOBLIB, "sweep.name=grid")


@pytest.fixture
def copied(swept: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of the grid's folder."""
    shutil.copytree(swept[0] / "outputs", tmp_path / "outputs")
    return tmp_path


def test_a_grid_runs_all_jobs_and_reports_the_failed_ones(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = swept
    assert done.returncode == 1
    assert done.stderr.strip() == "aerun: 2 of 12 jobs failed; their status.json has the traceback"
    table = done.stdout.partition("\nfailed:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split(maxsplit=1)[0] for line in table] == ["failed", "failed"]
    for line, (label, seed) in zip(table, FAILING.items(), strict=True):
        assert label in line and line.endswith(f"RuntimeError: cannot bear the odd seed {seed}")
    assert "12 jobs: 10 finished, 2 failed" in done.stdout
    found = statuses(folder / "outputs" / "grid")
    assert sorted(status["state"] for status in found.values()) == ["failed"] * 2 + ["finished"] * 10
    for status in found.values():
        assert status["host"] == platform.node()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", status["time"]) and status["began"] <= status["time"]
        if status["state"] == "failed":
            assert re.fullmatch(r"RuntimeError: cannot bear the odd seed [13]", status["error"])
            assert 'fragile/__init__.py", line' in status["traceback"]
            assert status["traceback"].rstrip().endswith(status["error"])
        else:
            assert status["error"] is status["traceback"] is None
    index = json.loads((folder / "outputs" / "grid" / "sweep.json").read_text())
    assert set(index["jobs"]) == set(found)
    hidden = {path.name for path in (folder / "outputs" / "grid").glob(".*")}
    assert hidden == {".lock"}


@pytest.mark.slow
def test_a_job_does_not_depend_on_its_process_or_on_earlier_jobs(swept: tuple[Path, Any], tmp_path: Path) -> None:
    """Some of the grid's jobs in one process, between runs that change global settings of torch."""
    (tmp_path / "runs").write_text(
        "model=fc seed=3 trainer.threads=2 trainer.deterministic=true\n"
        "model=fc seed=1\n"
        "model=vae loss=bce seed=7 dataset.train_limit=200 dataset.normalize=none\n"
        "model=conv seed=0\n"
        "model=fc seed=0 dataset.normalize=standardise trainer.precision=bfloat16\n"
        "model=fc seed=0\n"
    )
    words = ["hydra/sweeper=file", "hydra.sweeper.file=runs", "sweep.name=listed", "sparsity=none"]
    done = launch(tmp_path, *ODD, *BARE, *BASIC, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = swept[0] / "outputs" / "grid", tmp_path / "outputs" / "listed"

    def by_configuration(sweep: Path) -> dict[str, Path]:  # its identity counts the threads where they vary
        return {path.read_text(): path.parent for path in sweep.glob("*/config.yaml")}

    known, again = by_configuration(first), by_configuration(second)
    shared = known.keys() & again.keys()
    assert len(again) == 6 and len(shared) == 3
    for configuration in shared:
        assert differences(contents(known[configuration]), contents(again[configuration])) == []


def test_the_same_command_runs_only_what_failed_and_added_points_are_added(copied: Path) -> None:
    sweep = copied / "outputs" / "grid"
    before, finished = marks(sweep), states(sweep)
    done = launch(copied, *GRID, *BASIC, "sweep.name=grid", "sweep.retry_failed=false")
    assert done.returncode == 1 and "0 to run" in done.stdout
    assert all(label in done.stdout for label in FAILING)
    assert states(sweep) == finished and marks(sweep) == before
    more = ["noise=none,masking", "model=conv", "sparsity=odd", "seed=0,1,3"]
    done = launch(copied, *GRID, *BASIC, *more, "sweep.name=grid", SOUND="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 jobs; 1 done before, 5 to run" in done.stdout
    assert set(states(sweep).values()) == {"finished"} and len(states(sweep)) == 15
    after = marks(sweep)
    assert before.items() <= after.items()
    retried = [name for name, state in finished.items() if state == "failed"]
    assert all((sweep / name / "summary.json").exists() for name in retried)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("-m sweep.name=../x", ["sweep.name=../x", "a folder name"]),
        ("-m sweep.name=.hidden", ["sweep.name=.hidden", "a folder name"]),
        ("-m sweep.name=a,b", ["sweep.name", "one value"]),
        ("-m sweep.invalid=maybe", ["sweep.invalid=maybe", "fail, skip"]),
        ("-m sweep.max_failures=0", ["sweep.max_failures=0", "at least 1"]),
        ("-m sweep.nmae=x", ["sweep.nmae", "Did you mean 'sweep.name'?"]),
        ("-m sweep=3", ["sweep=3", "a group with the keys"]),
        ("-m hydra/launcher=joblib hydra.launcher.n_job=2", ["hydra.launcher.n_job", "n_jobs"]),
        ("-m hydra/launcher=joblib hydra.launcher.n_jobs=0", ["hydra.launcher.n_jobs=0", "at least 1"]),
        ("-m hydra/launcher=joblib hydra.launcher.threads=x", ["hydra.launcher.threads=x", "a whole number"]),
        ("-m hydra/launcher=nowhere", ["hydra/launcher", "nowhere"]),
        ("-m hydra/sweeper=zip seed=0,1,2 model=fc,conv", ["seed has 3, model has 2"]),
        ("-m hydra/sweeper=zip hydra.sweeper.keys=[x] seed=0,1", ["hydra.sweeper.keys", "x is not swept"]),
        ("-m hydra/sweeper=random hydra.sweeper.run=3 seed=0,1", ["hydra.sweeper.run", "runs"]),
        ("-m hydra/sweeper=random hydra.sweeper.runs=0 seed=0,1", ["hydra.sweeper.runs=0", "at least 1"]),
        ("-m hydra/sweeper=file hydra.sweeper.file=none", ["hydra.sweeper.file=none", "cannot be read"]),
        ("-m optimizer.lr=interval(0.1,1)", ["optimizer.lr", "an interval"]),
        ("-m resume=/somewhere seed=0,1", ["resume: continues one run"]),
        ("sweep.name=x", ["sweep.name=x", "with -m"]),
        ("++sweep.dry_run=true", ["++sweep.dry_run=true", "with -m"]),
    ],
)
def test_a_mistake_is_one_line_and_creates_nothing(train: Any, tmp_path: Path, words: str, says: list[str]) -> None:
    done = train(*words.split())
    [line] = done.stderr.strip().splitlines()
    assert done.returncode == 1 and all(text in line for text in says), done.stderr
    assert list((tmp_path / "outputs").glob("*")) == []


@pytest.mark.slow
def test_invalid_points_are_listed_before_any_job_starts(train: Any, tmp_path: Path) -> None:
    """Invalid values, pairs of options, and layers: with 3x3 feature maps topk has 9 positions."""
    words = [*BARE, "sparsity=topk", "sparsity.k=4,0,96", "model=fc,conv", "optimizer.lr=0.1,-1"]
    done = train("-m", *words, *BASIC)
    rows = [line.strip() for line in done.stdout.splitlines() if "sparsity.k=" in line]
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "aerun: 10 of 12 points are invalid; nothing was started. Use sweep.invalid=skip to run the others"
    )
    assert len(rows) == 10 and list((tmp_path / "outputs").glob("*")) == []
    assert any("sparsity.k=96 model=conv optimizer.lr=0.1" in row and "9 positions" in row for row in rows)
    assert any("sparsity.k=96 model=fc optimizer.lr=0.1" in row and "model.code_size=64" in row for row in rows)
    dry = train("-m", *words, *BASIC, "sweep.dry_run=true")
    assert (
        dry.returncode == 1
        and "10 of 12 points are invalid" in dry.stderr
        and list((tmp_path / "outputs").glob("*")) == []
    )
    assert dry.stdout.count("invalid") == 10 and dry.stdout.count("  new") + dry.stdout.startswith("new") == 2
    done = train("-m", *words, *BASIC, "sweep.invalid=skip", "sweep.name=rest")
    assert done.returncode == 0, done.stderr
    assert "2 finished; 10 invalid points skipped" in done.stdout
    assert sorted(states(tmp_path / "outputs" / "rest").values()) == ["finished", "finished"]


@pytest.mark.slow
def test_a_dry_run_lists_the_jobs_and_changes_nothing(copied: Path) -> None:
    sweep = copied / "outputs" / "grid"
    files = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    words = [*GRID, "noise=none,masking", "seed=0,1", "sweep.name=grid", "sweep.dry_run=true"]
    done = launch(copied, *words, *BASIC)
    assert done.returncode == 0, done.stderr
    table, nearest, _ = done.stdout.split("\n\n")
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[1:]]
    kinds = [row[0] for row in rows]
    assert (kinds.count("skip: finished"), kinds.count("retry"), kinds.count("new")) == (7, 1, 8)
    parameters = {(json.loads(path.read_text()))["parameters"] for path in sweep.glob("*/summary.json")}
    assert {int(row[2].replace(",", "")) for row in rows} == parameters
    assert re.search(r"9 of 16 runs to do, 1 at a time: about \d+ s by steps timed", done.stdout)
    masking = {"model=fc", "seed=0", "sparsity=none", "noise=masking"}
    [line] = [line for line in nearest.splitlines() if masking <= set(line.partition(":")[0].split())]
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    [like] = [name for name, job in jobs.items() if job["values"] == {"model": "fc", "seed": 0, "sparsity": "none"}]
    differs = f"{like} differs in noise._target_: aerun.noise.NoNoise, here aerun.noise.Masking"
    assert line.endswith(f": runs; nearest finished run {differs}") and len(nearest.splitlines()) == 8
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == files


@pytest.mark.slow
@pytest.mark.parametrize(("word", "started"), [("sweep.max_failures=2", 3), ("sweep.fail_fast=true", 1)])
def test_no_job_starts_after_too_many_failures(tmp_path: Path, word: str, started: int) -> None:
    words = [*ODD, *BARE, "model=conv", "sparsity=odd", "seed=1,2,3,4,5", word, "sweep.name=x"]
    done = launch(tmp_path, *words, *BASIC)
    assert done.returncode == 1 and len(states(tmp_path / "outputs" / "x")) == started
    assert f"{5 - started} waiting" in done.stdout and "continue " in done.stdout


@pytest.mark.slow
def test_a_diverged_job_is_reported_as_such(tmp_path: Path) -> None:
    words = [*BARE, "model=fc", "optimizer=sgd", "optimizer.lr=0.01,1e30", "sweep.name=x"]
    done = launch(tmp_path, *words, *BASIC)
    assert done.returncode == 1
    assert sorted(states(tmp_path / "outputs" / "x").values()) == ["diverged", "finished"]
    assert re.search(r"diverged\s+optimizer\.lr=1e\+30\s+epoch 1, step \d+: ", done.stdout)


def begin_training(folder: Path, *words: str, jobs: int = 2) -> subprocess.Popen[str]:
    """Start a sweep named ``x`` and wait until so many of its jobs train."""
    process = begin(folder, *words, "sweep.name=x")
    try:
        await_that(lambda: len(running(folder / "outputs" / "x")) >= jobs, process)
    except BaseException:
        kill_group(process)
        raise
    return process


@linux
def test_ctrl_c_saves_running_jobs_and_the_printed_command_finishes_them_identically(tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches the launcher and its workers."""
    (tmp_path / "alone").mkdir()
    words = [*LONG, "seed=0,1", *JOBLIB]
    process = begin_training(tmp_path, *words)
    sweep, those = tmp_path / "outputs" / "x", workers(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert [line for line in errors.splitlines() if line] == [
        "aerun: stopping; running jobs are saved first (again: stop at once)",
        "aerun: stopped by SIGINT",
    ]
    assert len(those) == 2 and alive(those) == []
    assert list(states(sweep).values()) == ["stopped", "stopped"] and "2 stopped" in out
    done = continue_sweep(tmp_path, out)
    assert done.returncode == 0, done.stderr
    assert "2 jobs: 2 finished" in done.stdout
    assert all("continuing" in (sweep / name / "aerun.log").read_text() for name in statuses(sweep))
    assert launch(tmp_path / "alone", *words, "sweep.name=x").returncode == 0
    assert same(sweep, tmp_path / "alone" / "outputs" / "x")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_to_the_launcher_alone_stops_the_sweep(tmp_path: Path, launcher: str, name: str, code: int) -> None:
    process = begin_training(tmp_path, *LONG, "seed=0,1,2", *(BASIC if launcher == "basic" else JOBLIB), jobs=1)
    process.send_signal(getattr(signal, name))
    out, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    assert f"stopped by {name}" in errors and set(states(tmp_path / "outputs" / "x").values()) == {"stopped"}
    done = continue_sweep(tmp_path, out)
    assert done.returncode == 0 and "3 jobs: 3 finished" in done.stdout


@linux
@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_second_ctrl_c_ends_the_sweep_at_once_and_leaves_no_process(tmp_path: Path, launcher: str) -> None:
    process = begin_training(tmp_path, *LONG, "seed=0,1,2", *(BASIC if launcher == "basic" else JOBLIB), jobs=1)
    those = workers(process.pid)
    for number in those:
        os.kill(number, signal.SIGSTOP)  # a step that never ends
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.3 if those else 0.001)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in errors and "leaked" not in errors
    await_that(lambda: alive(those) == [])


@linux
@pytest.mark.slow
def test_a_killed_worker_fails_only_its_own_job(tmp_path: Path) -> None:
    process = begin_training(tmp_path, *LONG, "seed=0,1,2", *JOBLIB)
    sweep = tmp_path / "outputs" / "x"
    victim = running(sweep)[0]
    [name] = [name for name, status in statuses(sweep).items() if status["process"] == victim]
    os.kill(victim, signal.SIGKILL)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in errors
    found = states(sweep)
    assert found.pop(name) == "killed" and list(found.values()) == ["finished", "finished"]
    assert "SIGKILL" in statuses(sweep)[name]["error"] and "1 killed" in out
    before = marks(sweep)
    done = launch(tmp_path, *LONG, "seed=0,1,2", *JOBLIB, "sweep.name=x")
    assert done.returncode == 0 and "2 done before, 1 to run" in done.stdout
    assert before.items() <= marks(sweep).items()
    assert "continuing" in (sweep / name / "aerun.log").read_text()


@linux
def test_workers_end_with_a_killed_launcher(tmp_path: Path) -> None:
    words = [*LONG, "trainer.epochs=300", "seed=0,1,2", *JOBLIB]
    process = begin_training(tmp_path, *words)
    sweep, those = tmp_path / "outputs" / "x", workers(process.pid)
    process.kill()
    process.wait()
    await_that(lambda: alive(those) == [])
    assert len(those) == 2 and list(states(sweep).values()) == ["stopped", "stopped"]


@linux
@pytest.mark.slow
def test_a_repeated_sweep_waits_for_the_workers_of_a_killed_launcher(tmp_path: Path) -> None:
    words = [*LONG, "seed=0,1", *JOBLIB]
    process = begin_training(tmp_path, *words)
    those = workers(process.pid)
    for number in those:
        os.kill(number, signal.SIGSTOP)  # a long step
    process.kill()
    process.wait()
    again = begin(tmp_path, *words, "sweep.name=x")
    await_that(lambda: len(workers(again.pid)) == 2, again)
    time.sleep(6)
    for number in those:
        os.kill(number, signal.SIGCONT)
    out, errors = again.communicate(timeout=120)
    assert again.returncode == 0 and "2 jobs: 2 finished" in out, out + errors


@pytest.mark.slow
def test_basic_and_joblib_give_identical_results(tmp_path: Path) -> None:
    words = [*GRID, "seed=0,1,2", "noise=none,masking", "sweep.name=x"]
    for name, launcher in (("basic", BASIC), ("joblib", JOBLIB)):
        (tmp_path / name).mkdir()
        done = launch(tmp_path / name, *words, *launcher)
        assert done.returncode == 1 and "24 jobs: 22 finished, 2 failed" in done.stdout
    assert same(tmp_path / "basic" / "outputs" / "x", tmp_path / "joblib" / "outputs" / "x")


def test_a_run_that_was_resumed_with_more_epochs_is_not_taken_for_the_job(tmp_path: Path) -> None:
    words = [*BARE, "seed=0,1", *BASIC, "sweep.name=x"]
    assert launch(tmp_path, *words).returncode == 0
    [job] = (tmp_path / "outputs" / "x").glob("s*0_*")
    longer = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "train.py"), f"resume={job}", "trainer.epochs=3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert longer.returncode == 0, longer.stderr
    again = launch(tmp_path, *words)
    assert again.returncode == 1 and f"{job.name}: contains a run with other settings" in again.stdout
    rest = launch(tmp_path, *words, "sweep.invalid=skip")
    assert rest.returncode == 0 and "1 job; 1 done before, 0 to run" in rest.stdout


def test_a_sweep_begun_under_another_default_model_goes_on_with_it(tmp_path: Path) -> None:
    words = [*BARE, *BASIC, "model=fc", "seed=0,1", "sweep.name=x"]
    assert launch(tmp_path, *words).returncode == 0
    index = tmp_path / "outputs" / "x" / "sweep.json"
    content = json.loads(index.read_text())
    del content["defaults"]  # as such sweeps have none
    index.write_text(json.dumps(content))
    words.remove("model=fc")
    done = launch(tmp_path, *words)
    assert done.returncode == 0 and "2 jobs; 2 done before, 0 to run" in done.stdout, done.stdout + done.stderr
