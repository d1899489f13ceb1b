"""Finished runs of a sweep are evaluated again, all by one command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from aerun.cli.evaluate import evaluate
from aerun.config.parse import parse
from aerun.errors import ConfigError, DataError
from aerun.runs.run import run
from tests.sweep.test_identity import WORDS

Compose = Callable[[Sequence[str]], dict[str, Any]]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


@pytest.fixture(scope="module")
def trained(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs in one folder."""
    folder = tmp_path_factory.mktemp("of a sweep") / "grid"
    for seed in range(3):
        config = compose([*WORDS, f"seed={seed}"])
        run(parse(config), config, folder / f"s{seed}")
    return folder


@pytest.fixture
def grid(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "grid"))


def written(folder: Path) -> dict[str, Any]:
    """What each evaluation.json has, by the folder that contains it."""
    paths = sorted(folder.rglob("evaluation.json"))
    return {str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in paths}


@pytest.mark.parametrize("launcher", [[], JOBLIB], ids=["basic", "joblib"])
def test_all_runs_of_a_sweep_are_evaluated_as_each_alone(
    grid: Path, trained: Path, launcher: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["protocol=[knn]", "protocol.knn.k=3"]
    assert evaluate([str(grid), *words, *launcher]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\n3 runs: 3 agree\n")
    found = written(grid)
    assert found.keys() == {"s0", "s1", "s2"} and sorted(grid.iterdir()) == [grid / name for name in sorted(found)]
    for name, content in found.items():
        alone = tmp_path / "alone" / name
        assert evaluate([str(trained / name), *words, f"output={alone}"]) == 0
        assert json.loads((alone / "evaluation.json").read_text()) == content
        mse, error = content["test"]["mse"], content["further"]["knn"]["knn_error"]
        assert f"agrees   {name}  test MSE {mse:.6f}; knn_error {error:.6g}" in out


def test_a_failure_is_a_line_and_the_others_are_evaluated(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (grid / "s0" / "checkpoints" / "best.safetensors").write_bytes(b"damaged")
    summary = json.loads((grid / "s1" / "summary.json").read_text())
    summary["test"]["mse"] += 1
    (grid / "s1" / "summary.json").write_text(json.dumps(summary))
    assert evaluate([str(grid)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "failed   s0  " in lines[0] and "best.safetensors" in lines[0]
    assert "differs  s1  " in lines[1] and lines[1].endswith("differs in test/mse")
    assert "agrees   s2  " in lines[2] and lines[4] == "3 runs: 1 agrees, 1 differs, 1 failed"
    assert written(grid).keys() == {"s1", "s2"}


def test_a_protocol_that_fails_is_a_failure_with_its_reason(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate([str(grid), "protocol=[knn]", "protocol.knn.k=1000"]) == 1
    out = capsys.readouterr().out
    assert out.count("protocol.knn: k=1000: is more than the 60 labeled images") == 3 and "3 failed" in out


def test_runs_are_named_by_their_folders_and_written_elsewhere(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs of the same name in two sweeps are told apart."""
    other = Path(shutil.copytree(grid, tmp_path / "other"))
    shutil.rmtree(other / "s2")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert evaluate([str(grid / "s0"), f"run={other}", f"output={tmp_path / 'out'}"]) == 0
    assert "3 runs: 3 agree" in capsys.readouterr().out
    assert written(tmp_path / "out").keys() == {"grid/s0", "other/s0", "other/s1"}
    assert (tmp_path / "out" / "grid" / "s0" / "figures").is_dir()
    assert all(path.read_bytes() == content for path, content in before.items())


def test_unfinished_runs_are_left_out_unless_they_are_named(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (grid / "s1" / "summary.json").unlink()
    (grid / "s1" / "status.json").write_text(json.dumps({"state": "stopped"}))
    assert evaluate([str(grid)]) == 1
    out = capsys.readouterr().out
    assert "1 of 3 runs have not finished, such as s1" in out and "2 runs: 2 agree" in out
    assert evaluate([str(grid / "s0"), str(grid / "s1")]) == 1
    assert "s1: has not finished; continue it with" in capsys.readouterr().out
    for name in ("s0", "s2"):
        (grid / name / "summary.json").unlink()
        (grid / name / "status.json").write_text(json.dumps({"state": "stopped"}))
    with pytest.raises(ConfigError, match="grid: no run has finished"):
        evaluate([str(grid)])


def test_mistakes_are_found_before_anything_is_evaluated(grid: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"hydra/lancher=joblib: there is no such key\. Did you mean 'hydra/launcher'"
    ):
        evaluate([str(grid), "hydra/lancher=joblib"])
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.n_jobs=0: must be a whole number, at least 1"):
        evaluate([str(grid), "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"])
    with pytest.raises(DataError, match="contains no run"):
        evaluate([str(tmp_path / "grid" / "s0" / "checkpoints")])
    with pytest.raises(ConfigError, match="no such folder"):
        evaluate([str(grid), str(tmp_path / "missing")])
    assert written(grid) == {}


def test_a_killed_worker_is_a_failure_of_its_run(
    grid: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load((grid / "s1" / "config.yaml").read_text())
    config["protocol"] = {"deadly": {"_target_": "fragile.Deadly"}}
    (grid / "s1" / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.syspath_prepend(Path(__file__).parent / "parts")
    assert evaluate([str(grid), *JOBLIB, "trusted_packages=[fragile]"]) == 1
    out = capsys.readouterr().out
    assert "failed   s1  its process ended by SIGKILL" in out and "3 runs: 2 agree, 1 failed" in out
