"""One name, one quantity: a finished run has the numbers of the epoch whose weights it keeps, wherever printed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from aerun.cli.compare import compare_runs
from aerun.compare import Question, collect, compare
from aerun.contracts import RunView
from aerun.doctor.monitor import Watch
from aerun.noise import NoNoise
from tests.data.kit import RUNS
from tests.runs import write_run
from tests.test_evaluation import IMAGES, autoencoder, metrics, split

NAMES = ("validation/mse", "validation/loss", "validation/psnr", "train/loss")
BEST = 3


def write_overfitted(folder: Path, offset: int, state: str = "finished") -> Path:
    """A run of five epochs whose third is the best. Every number of every epoch has digits of its own."""
    write_run(folder, 0.5 if state == "finished" else None, lr=offset / 1000, state=state, summary={"best_epoch": BEST})
    lines = [
        {"epoch": e, "step": 2 * e} | {name: value(offset, e, i) for i, name in enumerate(NAMES)} for e in range(1, 6)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def value(offset: int, epoch: int, number: int) -> float:
    return (1001 + 100 * offset + 10 * epoch + number) / 10_000


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_every_form_shows_the_best_epoch_and_no_other(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for offset in (1, 2):
        write_overfitted(tmp_path / "runs" / str(offset), offset)
    page = tmp_path / "page.html"
    compare_runs([str(tmp_path / "runs"), "--metric", ",".join(NAMES), "--format", form, "--html", str(page)])
    for text in (capsys.readouterr().out, page.read_text()):
        found = set(re.findall(r"\b0\.1\d{3}\b", text))
        assert found == {f"{value(offset, BEST, i):.4f}" for offset in (1, 2) for i in range(len(NAMES))}


def test_selecting_and_sorting_use_the_best_epoch(tmp_path: Path) -> None:
    runs = collect([write_overfitted(tmp_path / str(offset), offset) for offset in (2, 1)])
    limit = value(1, BEST, 0)
    below = compare(runs, Question(where=(f"validation/mse<={limit}",), metrics=("validation/mse",)))
    assert [run.name for run in below.runs] == ["1"]
    ordered = compare(runs, Question(metrics=("test/mse",), sort="validation/mse"))
    assert [group.runs[0].name for group in ordered.groups] == ["1", "2"]


def test_a_search_takes_the_number_that_a_comparison_shows(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from aerun.sweep.optuna_study import run_metric

    folder = write_overfitted(tmp_path / "a", 1)
    [run] = collect([folder])
    assert {name: run_metric(folder, name) for name in run.numbers} == run.numbers
    assert run_metric(folder, "validation/mse") == value(1, BEST, 0)


def test_an_unfinished_run_has_its_last_epoch(tmp_path: Path) -> None:
    [run] = collect([write_overfitted(tmp_path / "a", 1, state="stopped")])
    assert run.numbers["validation/mse"] == value(1, 5, 0) and run.numbers["epoch"] == 5


def test_a_lost_line_leaves_its_numbers_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_overfitted(tmp_path / "a", 1)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[: BEST - 1] + lines[BEST:]))
    [run] = collect([folder])
    assert "validation/mse" not in run.numbers and run.numbers["test/mse"] == 0.5
    assert f"{folder / 'metrics.jsonl'}: has no line of epoch {BEST}" in caplog.text


def test_the_monitored_number_is_the_best_one_that_the_run_recorded() -> None:
    """``best_loss`` is written by the trainer, which chose the weights: an independent record."""
    checked = 0
    for run in collect([RUNS]):
        path = run.folder / "summary.json"
        if not path.exists() or not (run.folder / "metrics.jsonl").exists():
            continue
        summary = json.loads(path.read_text())
        assert run.numbers[summary["monitored"]] == summary["best_loss"], run.name
        checked += 1
    assert checked > 20


def test_dead_units_of_a_layer_mean_what_those_of_the_code_do() -> None:
    """Units that are constant, at 0 or elsewhere: the code is the hidden layer here, so both shares are one number."""
    layer = torch.nn.Linear(12, 12)
    torch.nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.weight[0] = 1.0
        layer.bias.copy_(torch.linspace(-1, 1, 12))
    model = autoencoder(torch.nn.Sequential(torch.nn.Flatten(), layer, torch.nn.ReLU()))
    watch = Watch()
    progress = SimpleNamespace(epoch=0, stage_epoch=0)
    watch._run = cast(RunView, SimpleNamespace(progress=progress, part=split(IMAGES), noise=NoNoise()))
    [(name, share)] = watch.measure(model, "validation", lambda *_: {}).items()
    assert name == "dead_units/encoder.1"
    assert share == pytest.approx(metrics(model)["dead_units"]) == pytest.approx(11 / 12)
