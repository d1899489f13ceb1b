"""Short versions of the campaigns against a run's files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.faults.corruption import damaged_checkpoints, full_disks, small_disk
from tests.faults.kills import SMALL, contents, differences, finish, start, wait_for


def test_every_damaged_checkpoint_is_detected_and_the_one_before_it_used(compose: Any, tmp_path: Path) -> None:
    found = damaged_checkpoints(compose, tmp_path, count=64, continued=2)
    assert found == {"damaged": 128, "detected": 128, "continued": 2, "identical": 2}


def test_a_full_disk_costs_nothing_that_was_saved(compose: Any, tmp_path: Path) -> None:
    try:
        with small_disk(1):
            pass
    except OSError as error:
        pytest.skip(str(error))
    found = full_disks(compose, tmp_path, count=3)
    assert found["kept"] == found["identical"] == 3
    assert found["clear"] == found["stopped by it"] > 0


def test_a_folder_that_vanishes_is_named(compose: Any, tmp_path: Path) -> None:
    config = compose([*SMALL, "trainer.epochs=50"])
    child = start(config, tmp_path / "run")
    wait_for(tmp_path / "run" / "checkpoints" / "last.safetensors", child)
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    assert finish(child) == 1
    errors = (tmp_path / "run.err").read_text().strip().splitlines()[-1]
    assert "StorageError" in errors and str(tmp_path / "run") in errors
    assert finish(start(config, tmp_path / "elsewhere")) == 0


def test_a_folder_that_cannot_be_written_is_named(compose: Any, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        try:
            with small_disk(1) as disk:
                os.system(f"mount -o remount,ro {disk}")
                child = start(compose(SMALL), disk / "run")
                assert finish(child) == 1
        except OSError as error:
            pytest.skip(str(error))
    else:
        (tmp_path / "closed").mkdir(mode=0o500)
        assert finish(start(compose(SMALL), tmp_path / "closed" / "run")) == 1


def test_a_pickle_in_place_of_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    import pickle

    from aerun.errors import DataError
    from aerun.training.checkpoint import read

    class Malicious:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'owned'}",)

    path = tmp_path / "best.safetensors"
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(DataError, match=r"best\.safetensors"):
        read(path)
    assert not (tmp_path / "owned").exists()


def finished_run(compose: Any, folder: Path, *overrides: str) -> dict[str, Any]:
    config: dict[str, Any] = compose([*SMALL, *overrides])
    assert finish(start(config, folder)) == 0
    return config


def last_error(folder: Path) -> str:
    return (folder.parent / f"{folder.name}.err").read_text().strip().splitlines()[-1]


def test_a_damaged_summary_is_made_again(compose: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = finished_run(compose, folder)
    good = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text("{")
    assert finish(start(config, folder)) == 0
    assert json.loads((folder / "summary.json").read_text())["test"] == good["test"]


def test_lost_best_weights_are_named_before_more_is_computed(compose: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # A rate that is far too high after the first epoch: the best epoch is not the last.
    config = finished_run(compose, folder, "model=fc", "optimizer=sgd", "optimizer.momentum=0.99", "optimizer.lr=1")
    assert json.loads((folder / "summary.json").read_text())["best_epoch"] < 4
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / "best.safetensors").write_bytes(b"")
    assert finish(start(config, folder)) == 1
    assert "best.safetensors" in last_error(folder) and "it contained the best weights" in last_error(folder)


def test_best_weights_that_are_also_the_last_are_saved_again(compose: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = finished_run(compose, folder)
    assert json.loads((folder / "summary.json").read_text())["best_epoch"] == 4
    expected = contents(folder)
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / "best.safetensors").unlink()
    assert finish(start(config, folder)) == 0
    assert differences(expected, contents(folder)) == []


def test_a_damaged_line_of_metrics_costs_only_itself(compose: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = finished_run(compose, folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], lines[1][:20], *lines[2:]]) + "\n")
    (folder / "summary.json").unlink()
    assert finish(start(config, folder)) == 0
    assert (folder / "metrics.jsonl").read_text().splitlines() == [lines[0], *lines[2:]]


@pytest.mark.parametrize("content", ["trainer: 3\n", "[1, 2]\n", "\x00", ""])
def test_a_damaged_configuration_is_named(compose: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(content)
    assert finish(start(compose(SMALL), tmp_path / "run")) == 1
    assert "DataError" in last_error(tmp_path / "run") and "config.yaml" in last_error(tmp_path / "run")
