"""Reading folders of runs: complete, unfinished and damaged ones."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aerun.base.lock import FolderLock
from aerun.compare import Question, Run, collect, compare
from aerun.compare.selection import select_runs
from aerun.errors import ConfigError, DataError
from tests.runs import write_run, write_sweep


def states(runs: list[Run]) -> dict[str, str]:
    return {run.name: run.state for run in runs}


def test_a_run_is_its_settings_and_its_numbers(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.05, model="conv", sparsity="topk", lr=0.003, seed=2)
    [run] = collect([tmp_path / "a"])
    assert run.settings["model"] == "conv" and run.settings["sparsity"] == "topk"
    assert run.settings["sparsity.k"] == 16.0 and run.settings["optimizer.lr"] == 0.003 and run.settings["seed"] == 2.0
    assert run.settings["optimizer.betas"] == "[0.9, 0.999]"
    assert run.numbers["test/mse"] == 0.05 and run.numbers["baselines/pca/mse"] == 0.02
    assert run.numbers["validation/loss"] == 0.1 and run.numbers["epoch"] == 3
    assert run.overrides == ("model=conv", "sparsity=topk", "optimizer.lr=0.003", "seed=2")


def test_sweeps_runs_and_folders_of_either_may_be_mixed_and_overlap(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs" / "alone", 0.1)
    for number in (10, 9):
        write_run(tmp_path / "outputs" / "sweep" / f"job_{number}", 0.1)
    write_run(tmp_path / "elsewhere", 0.1)
    (tmp_path / "outputs" / "sweep" / ".hidden").mkdir()
    found = collect([tmp_path / "outputs", tmp_path / "outputs" / "sweep", tmp_path / "elsewhere"])
    assert [run.name for run in found] == ["elsewhere", "alone", "job_9", "job_10"]


def test_an_unfinished_sweep_lists_its_waiting_jobs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.1, model="fc")
    write_run(tmp_path / "b", model="conv", state="failed", error="ConfigError: no")
    (tmp_path / "c").mkdir()
    jobs = {"a": "fc", "b": "conv", "c": "fc", "d": "conv"}
    write_sweep(tmp_path, {name: {"model": model, "seed": 0} for name, model in jobs.items()})
    runs = collect([tmp_path])
    assert states(runs) == {"a": "finished", "b": "failed", "c": "waiting", "d": "waiting"}
    assert runs[3].settings["model"] == "conv" and runs[3].settings["seed"] == 0.0
    assert runs[3].settings["optimizer.lr"] == 0.001  # as in all jobs that have started
    assert runs[3].overrides == ("model=conv", "seed=0")


def test_a_key_has_values_of_one_type_in_all_runs(tmp_path: Path) -> None:
    """Of aerun's classes by their annotations; of the user's, and of waiting jobs, by the runs that are compared."""

    def trainer(**keys: object) -> dict[str, object]:
        return {"trainer": {"_target_": "aerun.trainer.Joint", "epochs": 3, **keys}}

    write_run(tmp_path / "a", 0.1, config={**trainer(graph="auto", tsne=True), "noise": {"_target_": "own.N", "x": 10}})
    write_run(tmp_path / "b", 0.2, config={**trainer(graph=False), "noise": {"_target_": "own.N", "x": "many"}})
    write_run(tmp_path / "c", 0.3, config={**trainer(graph=False), "noise": {"_target_": "own.N", "x": 9}})
    write_sweep(
        tmp_path,
        {name: {"trainer.graph": graph} for name, graph in zip("abcd", ("auto", False, False, True), strict=True)},
    )
    runs = collect([tmp_path])
    assert [run.settings["trainer.graph"] for run in runs] == ["auto", "false", "false", "true"]
    assert [run.settings.get("noise.x") for run in runs] == ["10", "many", "9", None]
    assert runs[0].settings["trainer.tsne"] is True
    for text, count in (("trainer.graph=false", 2), ("trainer.graph=False", 2), ("noise.x=9", 1), ("noise.x<10", 1)):
        assert len(select_runs(runs, [text])) == count, text
    rows = compare(runs, Question(grouped=False, sort="noise.x")).groups
    assert [row.runs[0].name for row in rows] == ["c", "a", "b", "d"]


def test_a_job_that_failed_before_it_wrote_its_configuration_has_its_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "status.json").write_text(json.dumps({"state": "failed", "error": "ConfigError: lr=-1"}))
    write_sweep(tmp_path, {"a": {"optimizer.lr": -1}})
    [run] = collect([tmp_path])
    assert (run.state, run.error, run.settings) == ("failed", "ConfigError: lr=-1", {"optimizer.lr": -1.0})


@pytest.mark.parametrize("content", ["", "[]", '{"jobs": 3}', '{"jobs": {"a": {}}}'])
def test_a_sweep_with_a_damaged_index_is_searched(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path / "a", 0.1)
    (tmp_path / "sweep.json").write_text(content)
    assert states(collect([tmp_path])) == {"a": "finished"}
    assert f"{tmp_path / 'sweep.json'}: cannot be read" in caplog.text


def test_a_running_run_without_a_lock_is_interrupted(tmp_path: Path) -> None:
    write_run(tmp_path / "a", state="running")
    with FolderLock(tmp_path / "a"):
        assert states(collect([tmp_path])) == {"a": "running"}
    assert states(collect([tmp_path])) == {"a": "interrupted"}
    with FolderLock(tmp_path / "a"):
        pass  # reading did not take the lock


def test_a_run_whose_process_was_killed_is_interrupted(tmp_path: Path) -> None:
    write_run(tmp_path / "a", state="running")
    code = (
        "import sys, time; from pathlib import Path; from aerun.base.lock import FolderLock\n"
        "with FolderLock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        assert states(collect([tmp_path])) == {"a": "running"}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    [run] = collect([tmp_path])
    assert run.state == "interrupted" and run.failed


def test_a_run_that_was_killed_after_its_summary_has_finished(tmp_path: Path) -> None:
    assert states(collect([write_run(tmp_path / "a", 0.1, state="running")])) == {"a": "finished"}


def test_a_run_on_another_machine_keeps_its_recorded_state(tmp_path: Path) -> None:
    write_run(tmp_path / "a", state="running")
    status = json.loads((tmp_path / "a" / "status.json").read_text())
    (tmp_path / "a" / "status.json").write_text(json.dumps(status | {"host": "far away"}))
    assert states(collect([tmp_path])) == {"a": "running"}


@pytest.mark.parametrize(
    ("name", "content", "state"),
    [
        ("config.yaml", "a: [", "damaged"),
        ("config.yaml", "just text", "damaged"),
        ("summary.json", '{"test": {', "damaged"),
        ("summary.json", None, "damaged"),
        ("status.json", "\0\0", "finished"),
        ("overrides.yaml", "]", "finished"),
        ("metrics.jsonl", '{"epoch": 1', "finished"),
    ],
)
def test_damaged_files_are_reported_and_all_runs_are_listed(
    tmp_path: Path, name: str, content: str | None, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path / "good", 0.1)
    write_run(tmp_path / "hurt", 0.2)
    (tmp_path / "hurt" / name).unlink()
    if content is not None:
        (tmp_path / "hurt" / name).write_text(content)
    with caplog.at_level(logging.WARNING):
        runs = collect([tmp_path])
    assert states(runs) == {"good": "finished", "hurt": state}
    if state == "damaged":
        assert runs[1].error is not None and name in runs[1].error
        assert str(tmp_path / "hurt" / name) in caplog.text


def test_a_damaged_job_has_the_settings_in_its_sweeps_index(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.1)
    (tmp_path / "a" / "config.yaml").write_text("[")
    write_sweep(tmp_path, {"a": {"model": "conv"}})
    [run] = collect([tmp_path])
    assert run.state == "damaged" and run.settings == {"model": "conv"} and run.partial


def test_links_to_themselves_and_pipes_hide_no_run(tmp_path: Path) -> None:
    for name in ("a", "b", "z"):
        write_run(tmp_path / name, 0.1, state="running" if name == "b" else "finished")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "config.yaml").symlink_to("config.yaml")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "config.yaml")
    os.mkfifo(tmp_path / "b" / ".lock")
    assert states(collect([tmp_path])) == {"a": "finished", "b": "finished", "z": "finished"}


def test_a_path_without_runs_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no run"):
        collect([tmp_path])
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        collect([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("summary", "reason"),
    [
        ({}, None),
        ({"test": {"mse": 0.05, "output_spread": 0.0099}}, "is 0.0099 times that of the targets"),
        ({"test": {"mse": 0.05, "output_spread": 0.0101}}, None),
        ({"test": {"mse": 0.9, "output_spread": 0.5}}, None),  # undertrained, but not collapsed
        ({"test": {"mse": 0.792}}, "is not better than that of the mean image"),  # 0.99 * 0.8
        ({"test": {"mse": 0.791}}, None),
        ({"test": {"mse": float("nan")}}, "is not better than that of the mean image"),
    ],
)
def test_a_collapsed_run_has_the_reason(tmp_path: Path, summary: dict[str, object], reason: str | None) -> None:
    [run] = collect([write_run(tmp_path, 0.05, summary=summary)])
    assert reason in (run.collapse or "") if reason else run.collapse is None
