"""``aerun-tidy``: what it frees, what it never touches, and what is left when it is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from aerun.base.files import format_size, measure_files
from aerun.base.lock import FILES as LOCK_FILES
from aerun.base.lock import FolderLock
from aerun.cli import tidy
from aerun.compare import collect
from aerun.errors import ConfigError
from aerun.sweep.launcher_place import PLACES
from aerun.sweep.sweep_report import print_disk
from aerun.sweep.tidy import DELETABLE, TRASH, Plan, carry_out, check_states, make_plan
from aerun.training.checkpoint import save
from aerun.training.progress import Progress
from tests.runs import write_run, write_sweep

FAILURES = ("stopped", "pruned", "failed", "diverged", "killed")


def write_checkpoints(folder: Path) -> Path:
    (folder / "checkpoints").mkdir(exist_ok=True)
    for name in ("best", "previous", "last"):
        save(folder / "checkpoints" / f"{name}.safetensors", nn.Linear(8, 8), None, Progress())
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two finished runs, one in every state that ends a run otherwise, one that is interrupted, and one waiting."""
    folder = tmp_path / "grid"
    for seed in range(2):
        write_checkpoints(write_run(folder / f"done{seed}", 0.1, seed=seed))
    for state in FAILURES:
        write_checkpoints(write_run(folder / state, state=state))
    write_checkpoints(write_run(folder / "cut", state="running"))
    names = ["done0", "done1", *FAILURES, "cut", "waiting"]
    write_sweep(folder, {name: {"seed": number} for number, name in enumerate(names)})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in LOCK_FILES)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def do(plan: Plan, keep: str | None = None) -> dict[str, str | None]:
    return {step.folder.name: reason for step, reason in carry_out(plan, keep)}


def test_a_plan_changes_nothing(sweep: Path) -> None:
    before = contents(sweep)
    plan = make_plan([sweep], "weights", DELETABLE)
    assert contents(sweep) == before
    assert {step.folder.name for step in plan.delete} == {*FAILURES, "cut"}
    assert {step.folder.name for step in plan.prune} == {"done0", "done1"}
    assert plan.size == sum(path.stat().st_size for path in sweep.glob("*/**/*") if path.is_file())


@pytest.mark.parametrize(("keep", "removed"), [("weights", {"last", "previous"}), ("last", {"previous"})])
def test_finished_runs_lose_checkpoints_and_nothing_else(sweep: Path, keep: str, removed: set[str]) -> None:
    before = contents(sweep)
    plan = make_plan([sweep], keep)
    expected = {f"{run}/checkpoints/{name}.safetensors" for run in ("done0", "done1") for name in removed}
    freed = {str(path.relative_to(sweep)) for step in plan.prune for path in step.files}
    assert freed == expected
    assert sum(step.size for step in plan.prune) == sum(len(before[name]) for name in expected)
    assert do(plan, keep) == {"done0": None, "done1": None}
    assert contents(sweep) == {name: content for name, content in before.items() if name not in expected}
    assert not make_plan([sweep], keep).prune


def test_runs_are_deleted_by_state_and_how_they_ended_stays_recorded(sweep: Path) -> None:
    before, states = contents(sweep), {run.name: run.state for run in collect([sweep])}
    assert do(make_plan([sweep], None, ("failed", "diverged"))) == {"failed": None, "diverged": None}
    gone = {name for name in before if name.startswith(("failed/", "diverged/")) and not name.endswith("status.json")}
    assert len(gone) > 10 and contents(sweep) == {name: content for name, content in before.items() if name not in gone}
    assert {run.name: run.state for run in collect([sweep])} == states
    assert not make_plan([sweep], None, ("failed", "diverged")).delete and not (sweep / TRASH).exists()


def test_runs_outside_sweeps_are_deleted_altogether(tmp_path: Path) -> None:
    write_checkpoints(write_run(tmp_path / "failed", state="failed"))
    write_run(tmp_path / "done", 0.1)
    assert do(make_plan([tmp_path], None, ("failed",))) == {"failed": None}
    assert {path.name for path in tmp_path.iterdir()} == {"done"}


def test_a_run_that_is_locked_or_on_another_host_is_never_touched(sweep: Path) -> None:
    path = sweep / "cut" / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "elsewhere"}))
    before = contents(sweep)
    with FolderLock(sweep / "done0"), FolderLock(sweep / "failed"):
        plan = make_plan([sweep], "weights", DELETABLE)
        steps = {step.folder.name for step in (*plan.prune, *plan.delete)}
        assert steps == {"done1", *FAILURES} - {"failed"}
        do(plan, "weights")
    after = contents(sweep)
    for name in ("done0", "failed", "cut"):
        assert {key for key in before if key.startswith(f"{name}/")} <= after.keys()


def test_a_run_that_starts_after_the_plan_is_not_touched(sweep: Path) -> None:
    plan = make_plan([sweep], "weights", ("failed", "diverged"))
    write_run(sweep / "failed", state="stopped")  # it was continued meanwhile
    (sweep / "done1" / "summary.json").unlink()  # this one is being made longer
    with FolderLock(sweep / "diverged"), FolderLock(sweep / "done0"):
        found = do(plan, "weights")
    assert "has no summary any more" in (found.pop("done1") or "")
    assert (sweep / "done1" / "checkpoints" / "previous.safetensors").exists()
    assert "has changed meanwhile" in (found.pop("failed") or "")
    assert all("is being written by process" in (reason or "") for reason in found.values()) and len(found) == 2
    assert (sweep / "failed" / "checkpoints").is_dir() and (sweep / "diverged" / "checkpoints").is_dir()


def test_nothing_is_deleted_from_a_sweep_that_runs(sweep: Path) -> None:
    plan = make_plan([sweep], None, ("failed",))
    with FolderLock(sweep):
        assert "is being written by process" in (do(plan)["failed"] or "")
    assert (sweep / "failed" / "config.yaml").exists()


def test_checkpoints_stay_where_the_weights_are_damaged(sweep: Path) -> None:
    path = sweep / "done0" / "checkpoints" / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = do(make_plan([sweep], "weights"), "weights")
    assert "best.safetensors: is not an intact checkpoint" in (found["done0"] or "") and found["done1"] is None
    assert (sweep / "done0" / "checkpoints" / "last.safetensors").exists()


def test_a_folder_with_something_of_somebody_is_not_deleted(sweep: Path) -> None:
    (sweep / "failed" / "notes.txt").write_text("mine")
    (sweep / "failed" / "events.out.tfevents.1.host.2.0").write_text("")
    (sweep / "failed" / ".config.yaml.12.34").write_text("")
    plan = make_plan([sweep], None, ("failed",))
    assert not plan.delete and "contains notes.txt, which no run writes" in plan.kept[0][1]


def test_nothing_is_removed_through_a_link(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("failed", "done0"):
        (sweep / name).rename(tmp_path / "elsewhere" / name)
        (sweep / name).symlink_to(tmp_path / "elsewhere" / name)
    (sweep / "done1" / "checkpoints").rename(tmp_path / "elsewhere" / "checkpoints")
    (sweep / "done1" / "checkpoints").symlink_to(tmp_path / "elsewhere" / "checkpoints")
    before = contents(tmp_path / "elsewhere")
    plan = make_plan([sweep], "weights", ("failed",))
    assert not plan.prune and not plan.delete and plan.kept == [(sweep / "failed", "is a link; delete it yourself")]
    do(plan, "weights")
    assert contents(tmp_path / "elsewhere") == before


def test_every_file_of_a_run_is_known(tmp_path: Path, compose: Callable[..., dict[str, Any]]) -> None:
    """A run with all that it may write can be deleted."""
    from aerun.config.parse import parse
    from aerun.runs.reopen import reevaluate
    from aerun.runs.run import run

    words = ["dataset=random", "dataset.images=40", "dataset.shape=[1,8,8]", "model.code_size=3", "trainer.epochs=1"]
    config = compose([*words, "trainer.device=cpu", "callback=ema", "protocol=knn", "tracker=[tensorboard,csv]"])
    run(parse(config), config, tmp_path / "run")
    reevaluate(tmp_path / "run")
    path = tmp_path / "run" / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "failed"}))
    assert do(make_plan([tmp_path / "run"], None, ("failed",))) == {"run": None}
    assert not list(tmp_path.iterdir())


def test_superseded_runs_are_those_that_a_later_one_repeats(tmp_path: Path) -> None:
    """In one folder, with the same configuration and the same data."""
    facts = {"input_shape": [4], "output_shape": [4]}

    def write(name: str, hour: int, checksum: str = "0", state: str = "finished", seed: int = 0, k: int = 0) -> None:
        mse, config = 0.1 if state == "finished" else None, {"protocol": {"knn": {"k": k}}}
        folder = write_run(tmp_path / name, mse, seed=seed, state=state, config=config)
        (folder / "environment.json").write_text(json.dumps({"dataset": {**facts, "checksum": checksum}}))
        path = folder / "status.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"time": f"2026-01-01T{hour}:00:00"}))

    write("first", 10)
    write("second", 11)
    write("failed", 12, state="failed")
    write("seed", 10, seed=1)
    write("data", 10, checksum="1")
    write("protocol", 10, k=3)
    write("elsewhere/other", 9)
    plan = make_plan([tmp_path], None, ("superseded",))
    assert {step.folder.name for step in plan.delete} == {"first", "failed"}


@pytest.mark.parametrize("moment", range(1, 40))
def test_a_kill_at_any_moment_loses_nothing_else(sweep: Path, moment: int) -> None:
    """Before the n-th removal or renaming, for every n. What is left is a plan that ends in the same folder."""
    write_checkpoints(write_run(sweep.parent / "single", state="failed"))
    whole = contents(sweep.parent)
    child = os.fork()
    if child == 0:
        count = 0

        def watch(event: str, _: object) -> None:
            nonlocal count
            count += event in ("os.remove", "os.rename", "os.rmdir", "shutil.rmtree")
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(watch)
            do(make_plan([sweep.parent], "weights", ("failed",)), "weights")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    found = {run.name: run.state for run in collect([sweep.parent])}
    assert {name: state for name, state in found.items() if name != "single"} == {
        **{"done0": "finished", "done1": "finished", "cut": "interrupted", "waiting": "waiting"},
        **{state: state for state in FAILURES},
    }
    spare = {
        f"grid/{run}/checkpoints/{name}.safetensors" for run in ("done0", "done1") for name in ("last", "previous")
    }
    spare |= {name for name in whole if name.startswith(("grid/failed/", "single/"))} - {"grid/failed/status.json"}
    rest = {path.name for path in (sweep / "failed").iterdir()} - {"status.json", *LOCK_FILES}
    assert not rest or "config.yaml" in rest  # otherwise the sweep would refuse to run it again there
    left = contents(sweep.parent)
    assert all(left[name] == content for name, content in whole.items() if name not in spare)
    if (sweep.parent / "single").exists():
        assert all(left[name] == content for name, content in whole.items() if name.startswith("single/"))
    assert set(do(make_plan([sweep.parent], "weights", ("failed",)), "weights").values()) <= {None}
    assert contents(sweep.parent) == {name: content for name, content in whole.items() if name not in spare}
    assert {path.name for path in sweep.parent.iterdir()} == {"grid"}


def test_words_that_are_no_states() -> None:
    with pytest.raises(ConfigError, match=r"--delete finished: no such state\..* Allowed: stopped, .*superseded"):
        check_states(["failed", "finished"])


def test_the_command(sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(sweep.parent)

    def call(*words: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["aerun-tidy", *words])
        return tidy.main(), capsys.readouterr().out.splitlines()

    code, lines = call("grid")
    assert code == 0
    assert lines[0].startswith(
        "8 runs (2 finished, 1 stopped, 1 pruned, 1 failed, 1 diverged, 1 killed, 1 interrupted): "
    )
    assert lines[1].endswith("in 4 files of 2 runs, which then can no longer be continued")
    assert lines[2].startswith("would free ") and lines[2].endswith("--apply does it")
    assert call("grid") == (code, lines)
    code, lines = call("grid", "--delete", "failed", "--delete", "pruned,killed", "--apply")
    assert code == 0 and lines[1].endswith(" of 3 runs:") and lines[-1].startswith("freed ")
    assert {path.name for path in (sweep / "pruned").iterdir()} == {"status.json"}
    with FolderLock(sweep):
        code, lines = call("grid", "--delete", "diverged", "--json", "--apply")
        content = json.loads("".join(lines))
        assert code == 1 and [step["state"] for step in content["delete"]] == ["diverged"]
        assert content["freed_bytes"] == 0 and content["kept"][0]["folder"] == "grid/diverged"
        assert content["states"]["finished"] == 2 and content["archive"] is None and content["applied"]
        code, lines = call("grid", "--delete", "diverged", "--apply")
    assert code == 1 and lines[-2].startswith("kept        grid/diverged: grid: is being written by process")


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1500)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b").write_bytes(b"x" * 30)
    (tmp_path / "in" / "link").symlink_to("/")
    assert measure_files([tmp_path]) == (3, 1530 + len("/"))
    shown = [format_size(size) for size in (0, 999, 1000, 99_949, 99_950, 999_499, 999_500, 8_600_000, 3 * 10**15)]
    assert shown == ["0 bytes", "999 bytes", "1.0 kB", "99.9 kB", "100 kB", "999 kB", "1.0 MB", "8.6 MB", "3000 TB"]


def test_a_sweep_says_what_it_takes_and_what_frees_it(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(sweep.parent)
    (sweep / PLACES).mkdir()
    (sweep / PLACES / "copy").write_bytes(b"x" * 10**6)  # removed when the sweep ends
    states = {run.name: run.state for run in collect([Path("grid")])}

    def said() -> str:
        print_disk(Path("grid"), states, ["aerun-train", "-m"])
        return capsys.readouterr().out

    files = [path for path in sweep.rglob("*") if path.is_file() and path.name != "copy"]
    size = sum(path.stat().st_size for path in files)
    spare = sum(step.size for step in make_plan([sweep], "weights").prune)
    assert said() == (
        f"on disk     {format_size(size)} in {len(files)} files; {format_size(spare)} only serve to continue finished "
        "runs: aerun-tidy grid --apply\n"
    )
    do(make_plan([sweep], "weights"), "weights")
    assert said().endswith(" files\n") and said().startswith(f"on disk     {format_size(size - spare)} in ")


def test_the_same_sweep_runs_deleted_jobs_again_and_no_others(tmp_path: Path) -> None:
    import aerun
    from aerun.errors import AerunError

    words = ["optimizer=sgd", "optimizer.lr=1e-3,1e30", "trainer.epochs=2", "trainer.device=cpu", "model.code_size=3"]
    words += ["dataset=random", "dataset.images=40", "dataset.shape=[1,8,8]"]
    folder = tmp_path / "grid"

    def start() -> dict[str, Path]:
        with pytest.raises(AerunError, match="1 of 2 jobs failed"):
            aerun.run_sweep(*words, out=folder, verbose=False)
        return {run.state: run.folder for run in collect([folder])}

    jobs = start()
    assert jobs.keys() == {"finished", "diverged"}
    do(make_plan([folder], "weights", ("diverged",)), "weights")
    assert {path.name for path in jobs["diverged"].iterdir()} <= {"status.json", *LOCK_FILES}
    before = contents(jobs["finished"])
    assert "checkpoints/last.safetensors" not in before
    assert start() == jobs
    assert contents(jobs["finished"]) == before and (jobs["diverged"] / "config.yaml").exists()
