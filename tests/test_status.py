"""``aerun-status``: states, speed, time left, failures and the best run, from a few small files."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aerun.base.lock import FolderLock
from aerun.cli import status
from aerun.compare.collect import find_places
from aerun.compare.run_states import RunState, StateReader, Training, best_run, count_states, seconds_left, total_speed
from tests.runs import write_run, write_sweep

ROOT = Path(__file__).resolve().parent.parent


def read(*paths: Path, reader: StateReader | None = None) -> list[RunState]:
    return [run for places in find_places(paths) for run in (reader or StateReader()).read(places)]


def set_status(folder: Path, **values: Any) -> None:
    """Change status.json of a run that ``write_run`` wrote."""
    path = folder / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def write_running(folder: Path, epoch: int, epochs: int, speed: float, images: int) -> None:
    """A run on another host after so many epochs."""
    trainer = {"_target_": "aerun.trainer.Joint", "epochs": epochs, "batch_size": 10}
    write_run(folder, state="running", config={"trainer": trainer})
    set_status(folder, host="elsewhere", began=f"{datetime.datetime.now():%Y-%m-%dT%H:%M:%S}")
    lines = [{"epoch": i, "step": i * images // 10, "train/images_per_second": speed} for i in range(1, epoch + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shapes = {"checksum": "0", "input_shape": [4], "output_shape": [4]}
    (folder / "environment.json").write_text(json.dumps({"dataset": {**shapes, "images": {"train": images}}}))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Five finished runs of 100 s, two running ones, three waiting ones, and failures of each kind."""
    folder = tmp_path / "grid"
    names = ["done0", "done1", "done2", "done3", "done4", "going0", "going1", "w0", "w1", "w2", "sick", "dead", "cut"]
    write_sweep(folder, {name: {"seed": number, "model": "fc"} for number, name in enumerate(names)})
    for number in range(5):
        write_run(folder / f"done{number}", 0.5 - 0.1 * number, seed=number)
        set_status(folder / f"done{number}", began="2026-01-01T10:00:00", time="2026-01-01T10:01:40")
    write_running(folder / "going0", 10, 30, 500.0, 1000)  # 20 epochs of 2 s
    write_running(folder / "going1", 20, 30, 250.0, 1000)  # 10 epochs of 4 s
    write_run(folder / "sick", state="diverged", error="DivergedError: epoch 2, step 8: loss is nan\nmore")
    write_run(folder / "dead", state="failed", error="ConfigError: model=unet: out of memory")
    write_run(folder / "cut", state="running")  # here, and no process has its lock
    return folder


def test_states_are_those_of_a_comparison(sweep: Path) -> None:
    from aerun.compare import collect

    runs = read(sweep)
    assert {run.folder.name: run.state for run in runs} == {run.name: run.state for run in collect([sweep])}
    assert count_states(runs) == {
        **{"finished": 5, "running": 2, "waiting": 3, "failed": 1, "diverged": 1, "interrupted": 1}
    }


def test_a_locked_run_is_running(tmp_path: Path) -> None:
    write_run(tmp_path / "run", state="running")
    reader = StateReader()
    with FolderLock(tmp_path / "run"):
        assert [run.state for run in read(tmp_path, reader=reader)] == ["running"]
    assert [run.state for run in read(tmp_path, reader=reader)] == ["interrupted"]


def test_speed_and_time_left_are_those_of_the_logs(sweep: Path) -> None:
    """Two runs of 40 s each, and three that take 100 s: 380 s of work, two at a time."""
    runs = read(sweep)
    assert {run.folder.name: run.training for run in runs if run.training} == {
        "going0": Training(10, 30, 500.0, 40.0),
        "going1": Training(20, 30, 250.0, 40.0),
    }
    assert total_speed(runs) == 750.0 and seconds_left(runs) == pytest.approx(190.0)
    assert seconds_left([run for run in runs if run.state != "running"]) is None
    assert seconds_left([run for run in runs if run.state == "running"]) == pytest.approx(40.0)


def test_a_run_of_steps_and_one_in_stages_say_what_they_know(tmp_path: Path) -> None:
    write_running(tmp_path / "steps", 10, 30, 500.0, 1000)
    config = {"trainer": {"_target_": "aerun.trainer.Joint", "epochs": 30, "steps": 1250, "batch_size": 10}}
    (tmp_path / "steps" / "config.yaml").write_text(json.dumps(config))
    write_running(tmp_path / "stages", 1, 30, 1.0, 1000)
    line = {"epoch": 4, "step": 400, "stage": 2, "stage2/train/images_per_second": 90.0}
    (tmp_path / "stages" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    found = {run.folder.name: run.training for run in read(tmp_path)}
    # 1000 steps of 10 images were made, 250 are left, at 500 images/s.
    assert found == {"steps": Training(10, None, 500.0, 5.0), "stages": Training(4, None, 90.0, None)}


def test_the_best_run_is_that_of_a_comparison(sweep: Path) -> None:
    from aerun.compare import Question, collect, compare

    runs = read(sweep)
    for metric in ("test/mse", "validation/loss", "test/psnr", None):
        best = best_run(runs, metric)
        comparison = compare(collect([sweep]), Question(metrics=(metric,) if metric else (), grouped=False))
        assert best is not None and best.metric == comparison.metric == (metric or "test/mse")
        assert best.value == comparison.ranked()[0].runs[0].numbers[best.metric]
    for number in range(5):
        losses = [{"epoch": 1, "step": 1, "validation/mse": float((number - 2) ** 2)}]
        (sweep / f"done{number}" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in losses))
    best = best_run(runs)
    assert best is not None and (best.metric, best.run.folder.name) == ("validation/mse", "done2")
    assert compare(collect([sweep]), Question()).metric == "validation/mse"
    assert (best_run(runs, "test/mse") or pytest.fail()).run.folder.name == "done4"
    assert best_run(runs, "test/nothing") is None


def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["aerun-status", *map(str, words)])
    code = status.main()
    return code, capsys.readouterr().out


def test_what_is_printed(sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(sweep.parent)
    code, text = show(monkeypatch, capsys, "grid", "--best")
    assert code == 2
    lines = text.splitlines()
    assert lines[0] == (
        "grid: 13 runs: 5 finished, 2 running, 3 waiting, 1 failed, 1 diverged, 1 interrupted; 750 images/s; "
        "about 3 min left"
    )
    assert "  seed=5 model=fc  epoch 10 of 30  500 images/s  about 40 s left" in lines
    assert "  diverged     seed=10 model=fc  DivergedError: epoch 2, step 8: loss is nan" in lines
    assert lines[-2:] == ["best        seed=4 model=fc: test/mse 0.1", "            grid/done4"]
    code, text = show(monkeypatch, capsys, "grid", "--best", "--json")
    content = json.loads(text)
    assert code == 2 and content["states"]["finished"] == 5 and content["seconds_left"] == pytest.approx(190.0)
    assert content["best"]["folder"] == "grid/done4" and content["best"]["metric"] == "test/mse"
    assert [entry["state"] for entry in content["failed"]] == ["diverged", "failed", "interrupted"]
    assert [entry["epoch"] for entry in content["running"]] == [10, 20]


def test_a_sweep_that_nobody_runs_can_be_continued(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(sweep.parent)
    for name in ("going0", "going1"):
        set_status(sweep / name, state="stopped")
    assert "continue    python train.py sweep.name=grid" in show(monkeypatch, capsys, "grid")[1].replace(
        sys.executable, "python"
    )
    with FolderLock(sweep):
        assert "continue" not in show(monkeypatch, capsys, "grid")[1]
    for name in ("w0", "w1", "w2", "cut", "going0", "going1"):
        write_run(sweep / name, 0.1)
    assert "continue" not in show(monkeypatch, capsys, "grid")[1]


def test_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in ((["gone"], "gone: no such folder"), ([str(tmp_path)], "contains no run")):
        monkeypatch.setattr(sys, "argv", ["aerun-status", *words])
        assert status.main() == 1
        shown = capsys.readouterr()
        assert message in shown.err and shown.err.count("\n") == 1 and not shown.out


def test_a_status_that_cannot_be_read_is_a_failure(sweep: Path) -> None:
    (sweep / "done0" / "status.json").write_text("{")
    (sweep / "done1" / "summary.json").unlink()
    found = {run.folder.name: (run.state, run.error or "") for run in read(sweep)}
    assert found["done0"][0] == found["done1"][0] == "damaged"
    assert "status.json: cannot be read" in found["done0"][1] and "summary.json: is missing" in found["done1"][1]


def test_few_files_are_read(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an ended run status.json alone, and nothing when it is looked at again; of running ones four more files."""
    opened: list[str] = []
    open_file = os.open

    def counting(path: Any, *arguments: Any, **named: Any) -> int:
        opened.append(f"{Path(path).parent.name}/{Path(path).name}")
        return open_file(path, *arguments, **named)

    monkeypatch.setattr(os, "open", counting)
    reader = StateReader()
    read(sweep, reader=reader)
    running = [
        f"{name}/{file}"
        for name in ("going0", "going1")
        for file in ("metrics.jsonl", "config.yaml", "environment.json")
    ]
    begun = ["done0", "done1", "done2", "done3", "done4", "going0", "going1", "sick", "dead", "cut"]
    looked_for = ["w0/status.json", "w1/status.json", "w2/status.json", "cut/.lock"]
    assert sorted(opened) == sorted(
        ["grid/sweep.json", *running, *looked_for, *(f"{name}/status.json" for name in begun)]
    )
    opened.clear()
    read(sweep, reader=reader)
    again = [name for name in opened if name.startswith(("done", "sick", "dead", "cut/status"))]
    assert again == []
    set_status(sweep / "sick", state="finished", error=None)
    (sweep / "sick" / "summary.json").write_text((sweep / "done0" / "summary.json").read_text())
    assert {run.folder.name: run.state for run in read(sweep, reader=reader)}["sick"] == "finished"


def test_watching_prints_failures_as_they_come_and_ends_with_the_runs(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_run(tmp_path / name, 0.1)
        set_status(tmp_path / name, state="running", host="elsewhere")
    command = [sys.executable, "-m", "aerun", "status", str(tmp_path), "--watch"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("2 runs: 2 running")
        set_status(tmp_path / "one", state="failed", error="ConfigError: no")
        assert watching.stdout.readline() == "failed       one  ConfigError: no\n"
        assert watching.stdout.readline().startswith("2 runs: 1 running, 1 failed")
        set_status(tmp_path / "two", state="finished")
        last = watching.stdout.read()
    assert "2 runs: 1 finished, 1 failed" in last and watching.returncode == 2
