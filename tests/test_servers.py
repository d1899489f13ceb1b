"""MLflow, Weights & Biases and Trackio themselves, where their packages are installed."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from aerun.contracts import TrackedRun
from aerun.runs.send import send_run
from aerun.tracker import MLflow, Trackio, WandB
from aerun.tracker.remote import Remote
from aerun.tracker.rows import Row, RowFile, RowReader
from tests.test_trackers import Compose, go

WAIT = 120.0


def write(folder: Path, steps: int, again_from: int | None = None) -> list[Row]:
    """scalars.csv with two numbers at each step."""
    file = RowFile(folder, again_from)
    for step in range(again_from or 0, steps):
        file.add({"train/loss": 1 / (step + 1), "test_baseline/pca/mse": step + 0.5}, step)
    file.write()
    return RowReader(folder).read()


def test_mlflow_has_the_run_with_its_settings_and_all_numbers(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "sweep.json").write_text("{}")
    folder = go(compose, tmp_path / "grid" / "fc_1", "tracker=csv", "seed=3")
    tracker = MLflow(f"file://{tmp_path / 'store'}", None, WAIT)
    send_run(folder, {"mlflow": tracker})
    rows = RowReader(folder).read()
    key = str(json.loads((folder / "sent_mlflow.json").read_text())["key"])
    tracker.connect(TrackedRun(folder, {}, sweep="grid"), key)  # continues the run
    client = MlflowClient(tracker.uri)
    [run] = client.search_runs([client.get_experiment_by_name("grid").experiment_id])
    assert run.info.run_name == "fc_1" and run.data.tags["aerun.key"] == key
    assert run.data.params["seed"] == "3" and run.data.params["model.code_size"] == "4"
    for name in {row.name for row in rows}:
        points = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        assert sorted(points) == sorted((row.step, row.value) for row in rows if row.name == name)
    figures = {Path(file.path).name for file in client.list_artifacts(run.info.run_id, "figures")}
    assert figures == {path.name for path in (folder / "figures").iterdir()}


def deliver(tracker: Remote, folder: Path, **keys: Any) -> None:
    """A run that logs, from opening to closing the tracker."""
    tracker.open(TrackedRun(folder, {"seed": 0.0}, **keys))
    tracker.flush()
    tracker.finish()
    tracker.close()


def test_wandb_keeps_everything_in_the_run_folder_when_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    write(tmp_path, 5)
    deliver(WandB("aerun", None, "offline", WAIT), tmp_path)
    write(tmp_path, 8, again_from=4)
    deliver(WandB("aerun", None, "offline", WAIT), tmp_path, again_from=4)
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert folders and len({path.name.rpartition("-")[2] for path in folders}) == 1  # one run, continued
    content = b"".join(path.read_bytes() for folder in folders for path in folder.glob("*.wandb"))
    assert content.count(b"test_baseline/pca/mse") >= 8


def test_trackio_continues_a_run_without_doubled_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trackio = pytest.importorskip("trackio")
    place = Path(trackio.utils.TRACKIO_DIR)
    project = f"aerun-test-{time.time_ns()}"
    write(tmp_path, 5)
    deliver(Trackio(project, None, WAIT), tmp_path)
    write(tmp_path, 8, again_from=4)
    deliver(Trackio(project, None, WAIT), tmp_path, again_from=4)
    with sqlite3.connect(place / f"{project}.db") as database:
        found = database.execute("SELECT run_name, step FROM metrics ORDER BY step").fetchall()
    assert [step for _, step in found] == list(range(8)) and len({name for name, _ in found}) == 1
