"""The whole pipeline compared with closed forms: a linear net trained to convergence is the best linear solution.

A linear autoencoder's minimum is PCA (Baldi & Hornik 1989), that of a linear denoising one the linear
minimum-mean-square-error filter. Both are exact on the training data, so a net may come near them and not below.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerun.config.parse import parse
from aerun.dataset.data import Data
from aerun.metrics.baselines import baselines
from aerun.metrics.evaluation import evaluate
from aerun.runs.reopen import load
from aerun.runs.run import run
from aerun.training import build

COMMON = [
    "dataset.train_limit=1000",
    "dataset.validation=0",
    "dataset.input_transform=[{Resize: {size: 10}}]",
    "dataset.target_transform=[{Resize: {size: 10}}]",
    "model=fc",
    "model.activation=identity",
    "model.output_bias=mean",
    # From small weights the components are learned one after the other, the leading one first (Saxe et al. 2014).
    "model.init=normal",
    "model.init_std=0.01",
    "optimizer=adam",
    "optimizer.betas=[0.9,0.99]",
    "scheduler=cosine",
    "scheduler.warmup_epochs=0",
    "trainer.batch_size=50",
    "trainer.threads=1",
    "trainer.device=cpu",
    "trainer.pictures=0",
    "trainer.evaluate_every_epochs=1000",
    "trainer.log_every_steps=1000",
]


def errors(compose: Callable[..., Any], folder: Path, words: list[str]) -> tuple[float, dict[str, float]]:
    """The squared error of a finished run on its training images, and that of the baselines."""
    config = compose([*COMMON, *words])
    settings = parse(config)
    run(settings, config, folder)
    data = settings.dataset.load(build.prepare(settings))
    seen = Data(data.train, None, data.train, None, data.checksum)
    trained = evaluate(load(folder), seen.train, settings.noise, settings.loss)
    return trained["sse"], baselines(seen, settings.noise, settings.model.code_size)


@pytest.mark.parametrize(("code_size", "epochs"), [(2, 30), (16, 60), (30, 100)])
def test_a_linear_autoencoder_lands_on_principal_components(
    compose: Callable[..., Any], tmp_path: Path, code_size: int, epochs: int
) -> None:
    words = [f"model.code_size={code_size}", "optimizer.lr=0.02", f"trainer.epochs={epochs}"]
    sse, exact = errors(compose, tmp_path / "run", words)
    assert 1 <= sse / exact["pca/sse"] < 1.01


@pytest.mark.parametrize(
    "noise",
    [
        ["noise=gaussian", "noise.variance=0.5"],
        pytest.param(["noise=masking", "noise.rate=0.5"], marks=pytest.mark.slow),
    ],
    ids=lambda words: words[0],
)
def test_a_linear_denoising_autoencoder_lands_on_the_linear_filter(
    compose: Callable[..., Any], tmp_path: Path, noise: list[str]
) -> None:
    words = [*noise, "model.code_size=100", "optimizer.lr=0.003", "trainer.epochs=80"]
    sse, exact = errors(compose, tmp_path / "run", words)
    # The filter is the best over all draws of the noise; on the one draw of the evaluation another may be luckier.
    assert 0.999 < sse / exact["linear/sse"] < 1.01
