"""Whole runs: healthy ones get no verdict, sick ones theirs, during training, at its end and from their folders."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import aerun
from aerun.cli.doctor import find_runs, main
from aerun.compare import collect, compare
from aerun.compare.text_table import build_table
from aerun.config.parse import parse
from aerun.doctor import verdict as names
from aerun.doctor.loss_curve import measure_curve
from aerun.doctor.monitor import measures_units
from aerun.errors import ConfigError, DivergedError
from aerun.runs.folder import read_summary
from aerun.runs.folder_metrics import read_metrics
from aerun.runs.run import run
from benchmarks.doctor import overrides
from benchmarks.doctor_runs import HEALTHY, SICK, Case

TINY = ["trainer.device=cpu", "trainer.threads=1", "trainer.pictures=0", "dataset.validation=300"]
SMALL = [*TINY, "dataset.train_limit=2000", "trainer.epochs=8", "trainer.batch_size=32", "optimizer.lr=2e-3"]
Compose = Callable[[Sequence[str]], dict[str, Any]]


class Heard(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="module")
def heard() -> Iterator[list[str]]:
    """Lines logged by the doctor."""
    handler, log = Heard(), logging.getLogger("aerun.doctor.monitor")
    log.addHandler(handler)
    yield handler.lines
    log.removeHandler(handler)


@pytest.fixture(scope="module")
def grid(compose: Compose, heard: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, of which only one is healthy."""
    folder = tmp_path_factory.mktemp("grid")
    for name, typed in (
        ("good", SMALL),
        ("bad", [*TINY, "dataset.train_limit=600", "trainer.epochs=4", "model.hidden=[32]", "optimizer.lr=3"]),
    ):
        typed = [*typed, "model.activation=relu", "model.output_activation=sigmoid"]
        config = compose(typed)
        run(parse(config), config, folder / name, overrides=typed)
    return folder


def test_a_run_says_at_its_end_what_is_wrong(grid: Path) -> None:
    good, bad = (read_summary(grid / name) or {} for name in ("good", "bad"))
    assert (good["verdicts"], bad["verdicts"]) == ([], [names.TOO_HIGH])


def test_and_warns_during_training_once(grid: Path, heard: list[str]) -> None:
    early = [line for line in heard if line.startswith("doctor, epoch")]
    assert [line.partition(":")[0] for line in early] == ["doctor, epoch 3"]
    assert names.TOO_HIGH in early[0] and "try optimizer.lr=0.003" in early[0]


def test_the_folder_tells_the_same_afterwards(grid: Path) -> None:
    assert aerun.diagnose(grid / "good").healthy
    [verdict] = aerun.diagnose(grid / "bad").verdicts
    assert verdict.name == names.TOO_HIGH


def test_files_alone_tell_some_of_it_and_what_they_do_not(grid: Path) -> None:
    diagnosis = aerun.diagnose(grid / "bad", data=False)
    assert diagnosis.verdicts[0].name == names.TOO_HIGH
    assert diagnosis.examination.outputs is None and "the output's range" in diagnosis.examination.missing
    assert aerun.diagnose(grid / "good", data=False).healthy


def test_the_weights_move_as_far_as_was_logged(grid: Path) -> None:
    lines = read_metrics(grid / "bad")
    assert lines[0]["train/update_ratio"] > 1
    assert measure_curve(lines).update == lines[0]["train/update_ratio"]
    assert any(name.startswith("validation/dead_units/encoder.") for name in lines[0])


def test_units_are_measured_less_and_less_often() -> None:
    assert [epoch for epoch in range(1, 120) if measures_units(epoch)] == [1, 2, 3, 5, 10, 20, 30, 50, 100]


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["aerun-doctor", *words])
    return main()


def test_the_command_by_its_exit_code_and_what_it_prints(
    grid: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, str(grid / "good"), "--no-data") == 0
    out = capsys.readouterr().out
    assert "good: no verdict from what could be examined" in out and "of the variance explained (PCA of" in out
    assert call(monkeypatch, str(grid / "bad"), "--no-data", "--json", "--save") == 2
    printed = json.loads(capsys.readouterr().out)
    assert printed["verdicts"][0]["remedy"] == "optimizer.lr=0.003"
    assert json.loads((grid / "bad" / "doctor.json").read_text())["verdicts"] == printed["verdicts"]
    assert call(monkeypatch, str(grid), "--no-data", "--save") == 1
    assert capsys.readouterr().err.endswith("bad/doctor.json: already exists; pass --overwrite to replace it\n")
    assert not (grid / "good" / "doctor.json").exists()
    assert call(monkeypatch, str(grid), "--no-data", "--save", "--overwrite") == 2
    assert json.loads((grid / "good" / "doctor.json").read_text())["verdicts"] == []
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["bad", "good"]
    assert call(monkeypatch, str(grid / "nothing")) == 1
    assert "no such folder" in capsys.readouterr().err


def test_an_error_of_any_kind_in_one_run_leaves_the_others(
    grid: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    diagnose = aerun.runs.diagnose.diagnose

    def fail(folder: Path, **options: Any) -> Any:
        if folder.name == "bad":
            raise RuntimeError("an own layer\nfailed")
        return diagnose(folder, **options)

    monkeypatch.setattr("aerun.runs.diagnose.diagnose", fail)
    assert call(monkeypatch, str(grid), "--no-data") == 1
    _, _, bad, good = capsys.readouterr().out.splitlines()
    assert bad.split()[:3] == ["bad", "not", "examined:"] and bad.endswith("RuntimeError: an own layer failed")
    assert good.split()[:2] == ["good", "no"]
    with pytest.raises(RuntimeError):
        call(monkeypatch, str(grid / "bad"), "--no-data")


def test_a_run_of_another_machines_device_is_examined_here(grid: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    folder = tmp_path / "run"
    shutil.copytree(grid / "good", folder)
    text = (folder / "config.yaml").read_text()
    assert text.count("device: cpu") == 1
    (folder / "config.yaml").write_text(text.replace("device: cpu", "device: cuda:3"))
    here = aerun.diagnose(grid / "good")
    assert here.examination.outputs is not None
    for device in ("auto", "cpu"):
        assert aerun.diagnose(folder, device=device).as_json() == here.as_json()
    with pytest.raises(ConfigError, match="device=cuda: is not available; this machine has "):
        aerun.diagnose(folder, device="cuda")
    assert call(monkeypatch, str(folder), "--device", "cpu") == 0
    assert call(monkeypatch, str(folder), "--device", "cuda") == 1


def test_a_comparison_has_a_column_for_it(grid: Path) -> None:
    comparison = compare(collect([grid]))
    page = build_table(comparison)
    place = [column.name for column in page.columns].index("verdict")
    assert sorted(row[place].text for row in page.rows) == ["", names.TOO_HIGH]
    healthy = compare([r for r in collect([grid]) if r.name == "good"])
    assert "verdict" not in [column.name for column in build_table(healthy).columns]


def judged(compose: Compose, folder: Path, typed: list[str]) -> aerun.runs.diagnose.Diagnosis:
    config = compose(typed)
    with contextlib.suppress(DivergedError):
        run(parse(config), config, folder, overrides=typed)
    return aerun.diagnose(folder, trusted_packages=["benchmarks"])


@pytest.mark.parametrize(
    "typed",
    [
        ["model=fc_vae", "loss=bce"],
        ["sparsity=topk", "model.code_size=256", "noise=masking"],
        ["sparsity=l1", "model.hidden=[128]", "loss=mae", "model.activation=relu"],
    ],
    ids=" ".join,
)
def test_healthy_runs_get_no_verdict(typed: list[str], compose: Compose, tmp_path: Path) -> None:
    assert [verdict.name for verdict in judged(compose, tmp_path / "run", [*SMALL, *typed]).verdicts] == []


@pytest.mark.slow
@pytest.mark.parametrize("case", [*SICK, *HEALTHY], ids=lambda case: case.name)
def test_the_runs_of_the_page(case: Case, compose: Compose, tmp_path: Path) -> None:
    """Each as docs/doctor.md has it."""
    verdicts = judged(compose, tmp_path / "run", overrides(case)).verdicts
    assert [verdict.name for verdict in verdicts[:1]] == ([case.verdict] if case.verdict else [])


def test_what_was_exported_is_no_run_of_its_own(tmp_path: Path) -> None:
    config = "trainer: {}\n"
    for name in ("one", "two", "exported"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(config)
    (tmp_path / "exported" / "model.safetensors").touch()
    assert find_runs([str(tmp_path)]) == [tmp_path / "one", tmp_path / "two"]
    assert find_runs([str(tmp_path), str(tmp_path / "exported")])[0] == tmp_path / "exported"
