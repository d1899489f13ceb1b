"""``trainer.monitor``: which number chooses the best epoch, ends a run early, and lowers the rate."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aerun.config.parse import parse
from aerun.errors import ConfigError
from aerun.runs.run import run
from aerun.scheduler import Plateau

Compose = Callable[..., dict[str, Any]]
VALIDATED = ["dataset.train_limit=200", "dataset.validation=50", "model=fc", "trainer.epochs=6"]


@pytest.fixture
def go(compose: Compose, tmp_path: Path) -> Callable[..., Path]:
    """Train with these words in this process; returns the run folder."""

    def start(*words: str) -> Path:
        config = compose([*VALIDATED, "optimizer.lr=0.05", "trainer.device=cpu", "trainer.pictures=1", *words])
        run(parse(config, {"model": "fc", "dataset": "fashion_mnist_mini"}), config, tmp_path / "run")
        return tmp_path / "run"

    return start


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("name", "best"), [("loss", min), ("psnr", max), ("output_spread", max), ("mse", min)])
def test_the_best_epoch_is_that_of_the_monitored_number(
    go: Callable[..., Path], name: str, best: Callable[..., float]
) -> None:
    folder = go(f"trainer.monitor={name}")
    summary = json.loads((folder / "summary.json").read_text())
    values = [line[f"validation/{name}"] for line in lines(folder)]
    assert summary["monitored"] == f"validation/{name}"
    assert summary["best_loss"] == best(values)
    assert summary["best_epoch"] == 1 + values.index(best(values))


def test_patience_waits_for_a_number_of_which_higher_is_better(go: Callable[..., Path]) -> None:
    """Nothing rises by 1000 dB: the first epoch stays the mark, and two more are waited for."""
    folder = go("trainer.monitor=psnr", "trainer.patience=2", "trainer.min_delta=1000")
    assert len(lines(folder)) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["trainer.monitor=psrn"],
            r"trainer\.monitor=psrn: no metric of that name is declared\. Did you mean 'psnr'\?",
        ),
        (["trainer.monitor=psnr", "dataset.validation=0"], r"trainer\.monitor=psnr: needs a validation part"),
        (["trainer.monitor=ms_ssim"], r"trainer\.monitor=ms_ssim: this run does not measure it"),
    ],
)
def test_a_number_that_is_not_measured(go: Callable[..., Path], words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        go(*words)


@pytest.mark.parametrize("sign", [1, -1])
def test_plateau_improves_as_torchs_does_in_both_directions(sign: int) -> None:
    """Values whose best rises, stalls and falls; torch's ReduceLROnPlateau with mode=min and mode=max."""
    values = [1.0, 1.05, 1.2, 1.21, 1.22, 1.22, 1.1, 1.5, 1.5, 1.5, 1.5, 1.5, 2.0, 1.0, 1.0, 1.0]
    values = values if sign == -1 else [3 - value for value in values]
    ours = Plateau(factor=0.5, patience=1, threshold=0.1, stop_lr=0.0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="min" if sign == 1 else "max", factor=0.5, patience=1, threshold=0.1
    )
    for value in values:
        ours.observe(sign * value)
        theirs.step(value)
        assert math.isclose(ours.multiplier(0, total_steps=1, steps_per_epoch=1), optimizer.param_groups[0]["lr"])
