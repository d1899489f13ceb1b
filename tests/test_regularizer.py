"""Regularizers: penalties on the whole pass, with weights and buffers of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from aerun.config.parse import parse
from aerun.core.autoencoder import objective
from aerun.errors import ConfigError
from aerun.runs.run import run
from aerun.training.build import build_autoencoder, prepare

Compose = Callable[[Sequence[str]], dict[str, Any]]
OWN = """
import torch
from torch import nn
from aerun.contracts import Penalty, Regularizer

class Average(nn.Module, Regularizer):
    # the squared distance of the codes from a learned point
    def __init__(self, weight=0.5, size=8):
        super().__init__()
        self.weight, self.point = weight, nn.Parameter(torch.ones(size))

    def penalties(self, run):
        return [Penalty("distance", (run.code - self.point).square().sum(1).mean(), self.weight)]

class WholeBatch(Average):
    rowwise = False
"""
TINY = [
    *("dataset=random", "dataset.images=64", "model=fc", "model.code_size=8", "trainer.epochs=2"),
    *("trainer.batch_size=32", "trainer.figures=none", "trainer.device=cpu", "trainer.threads=1"),
]
WORDS = [*TINY, "trusted_packages=[own_regularizers]", "+regularizer.average._target_=own_regularizers.Average"]


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_regularizers.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_penalty_joins_the_loss_and_its_weights_are_trained(compose: Compose, tmp_path: Path) -> None:
    config = compose(WORDS)
    settings = parse(config, overrides=WORDS)
    device = prepare(settings)
    autoencoder = build_autoencoder(settings, settings.dataset.load(device))
    images = torch.rand(5, *autoencoder.input_shape)
    result = autoencoder(images)
    terms = objective(result, images, autoencoder, settings.loss)
    point = autoencoder.get_parameter("regularizer.average.point")
    distance = ((result.code - point) ** 2).sum() / len(images)
    assert terms["distance"].item() == pytest.approx(distance.item(), rel=1e-6)
    assert terms["loss"].item() == pytest.approx((terms["reconstruction"] + 0.5 * distance).item(), rel=1e-6)
    terms["loss"].backward()
    expected = -(result.code - point).mean(0)  # 0.5 * 2 * (point - code)
    torch.testing.assert_close(point.grad, expected)

    summary = run(settings, config, tmp_path / "run", overrides=WORDS)
    assert summary["test"]["distance"] < distance.item()


def test_one_that_needs_all_rows_is_rejected_with_several_processes(compose: Compose) -> None:
    words = [*WORDS[:-1], "+regularizer.average._target_=own_regularizers.WholeBatch", "trainer.processes=2"]
    settings = parse(compose(words), overrides=words)
    with pytest.raises(ConfigError, match=r"WholeBatch and trainer.processes=2: this penalty depends on all rows"):
        build_autoencoder(settings, settings.dataset.load(torch.device("cpu")))
