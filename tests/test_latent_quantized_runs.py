"""Whole runs of quantized latents: resumed, in stages, taken over, streamed, exported, in other precisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aerun
from aerun.config.parse import parse
from aerun.runs.folder import read_summary
from aerun.runs.reopen import reevaluate
from aerun.runs.run import run
from tests.ends import EVERY_STEP, killed_and_resumed, weights

Compose = Callable[[Sequence[str]], dict[str, Any]]
SMALL = [
    *("dataset=random", "dataset.images=200", "dataset.shape=[1,8,8]", "dataset.validation=40", "trainer.epochs=2"),
    *("trainer.batch_size=32", "trainer.figures=none", "trainer.device=cpu", "trainer.threads=1"),
]
VQ = ["latent=vq", "latent.entries=8", "latent.dimension=4", "latent.restart_every=3"]
FC, CONV = ["model=fc", "model.code_size=8"], ["model=conv", "model.hidden=[4,8]"]
LATENTS = {
    "vq": [*FC, *VQ],
    "gradient": [*CONV, *VQ, "latent.update=gradient", "latent.distance=cosine", "latent.shared=true"],
    "residual": [*CONV, "latent=residual_vq", "latent.entries=8"],
    "fsq": [*CONV, "latent=fsq", "latent.levels=[5,4]"],
    "lfq": [*FC, "latent=lfq", "latent.dimension=4"],
}


def train_in(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    return run(parse(config), config, folder)


@pytest.mark.parametrize("name", LATENTS)
def test_a_run_declares_its_numbers_evaluates_again_and_is_exported(
    compose: Compose, tmp_path: Path, name: str
) -> None:
    summary = train_in(tmp_path / "run", compose([*SMALL, *LATENTS[name]]))
    test = summary["test"]
    assert summary["metrics"]["bits"] == {"unit": "bits per image", "higher_is_better": False}
    assert summary["metrics"]["perplexity"]["higher_is_better"] and summary["metrics"]["code_usage"]["higher_is_better"]
    model = aerun.load(tmp_path / "run")
    images = torch.rand(3, 1, 8, 8)
    indices, entries = model.indices(images), model.latent.codebooks.shape[2]
    assert test["bits"] == pytest.approx(np.log2(entries) * indices[0].numel())
    assert 1 <= test["perplexity"] <= entries and 0 < test["code_usage"] <= 1
    assert model.decode_indices(indices).equal(model.decode(model.encode(images)))
    assert reevaluate(tmp_path / "run")["differs_from_summary"] == []
    aerun.export(tmp_path / "run", tmp_path / "out", ["torch", "safetensors"])
    again = aerun.load(tmp_path / "out")
    assert again.indices(images).equal(indices)
    graph = torch.export.load(tmp_path / "out" / "autoencoder.pt2").module()
    torch.testing.assert_close(graph(images), model.reconstruct(images))


def test_usage_and_perplexity_are_those_of_all_images_together(compose: Compose, tmp_path: Path) -> None:
    config = compose([*SMALL, *LATENTS["vq"]])
    summary = train_in(tmp_path / "run", config)
    data = parse(config).dataset.load(torch.device("cpu"))
    indices = aerun.load(tmp_path / "run").indices(data.test.inputs[:]).numpy()
    perplexities, usages = [], []
    for group in range(2):
        share = np.bincount(indices[:, 0, group].ravel(), minlength=8) / indices[:, 0, group].size
        perplexities.append(np.exp(-sum(p * np.log(p) for p in share if p > 0)))
        usages.append((share > 0).sum() / min(8, indices[:, 0, group].size))
    assert summary["test"]["perplexity"] == pytest.approx(np.mean(perplexities))
    assert summary["test"]["code_usage"] == pytest.approx(np.mean(usages))


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (LATENTS["vq"], {"latent.codebook", "latent.counts", "latent.steps"}),
        ([*CONV, "latent=hyperprior", "latent.channels=4", "latent.context=3"], {"latent.begun", "latent.center"}),
    ],
    ids=["vq", "hyperprior"],
)
def test_a_killed_run_ends_as_an_undisturbed_one_to_the_last_bit(
    compose: Compose, tmp_path: Path, words: list[str], kept: set[str]
) -> None:
    plan = compose([*SMALL, *words, "trainer.epochs=4", "checkpoint.keep=all", EVERY_STEP])
    assert killed_and_resumed(plan, tmp_path) == []
    assert kept <= weights(tmp_path / "run").keys()


def test_a_codebook_is_trained_in_the_last_stage_taken_over_and_frozen(compose: Compose, tmp_path: Path) -> None:
    keep = "checkpoint.keep=all"
    stages = [*SMALL, *LATENTS["vq"], "model.hidden=[12]", "trainer=greedy", "trainer.stage_epochs=1", keep]
    train_in(tmp_path / "one", compose(stages))
    assert not weights(tmp_path / "one", "stage1")["latent.counts"].any()
    best = weights(tmp_path / "one", "best")
    assert best["latent.counts"].all()
    more = [*SMALL, *LATENTS["vq"], "model.hidden=[12]", f"init_from={tmp_path / 'one'}", "seed=1", keep]
    train_in(tmp_path / "frozen", compose([*more, "freeze=[latent]"]))
    train_in(tmp_path / "free", compose(more))
    frozen, free = weights(tmp_path / "frozen"), weights(tmp_path / "free")
    assert (frozen["latent.codebook"] == best["latent.codebook"]).all()
    assert not (free["latent.codebook"] == best["latent.codebook"]).all()
    assert not (frozen["encoder.1.weight"] == best["encoder.1.weight"]).all()


@pytest.mark.parametrize(
    "words", [["trainer.precision=bfloat16"], ["trainer.channels_last=true"], ["loss.reduction=sum", "noise=gaussian"]]
)
@pytest.mark.parametrize("name", ["gradient", "residual"])
def test_other_ways_to_train_a_map_of_indices(compose: Compose, tmp_path: Path, name: str, words: list[str]) -> None:
    summary = train_in(tmp_path / "run", compose([*SMALL, *LATENTS[name], *words]))
    assert np.isfinite(summary["test"]["mse"]) and summary["test"]["perplexity"] >= 1
    assert read_summary(tmp_path / "run") is not None


def test_a_collapsed_codebook_recovers_by_the_first_remedy(compose: Compose, tmp_path: Path) -> None:
    """A sick run: entries that the first minibatch does not use are never used, unless they are replaced."""
    words = [*SMALL, *FC, *VQ, "latent.entries=128", "dataset=fashion_mnist_mini", "dataset.train_limit=1500"]
    words = [word for word in words if word not in ("dataset.images=200", "dataset.shape=[1,8,8]")]
    words += ["dataset.validation=300", "trainer.epochs=5", "latent.restart_every=20", "optimizer.lr=0.003"]
    sick = train_in(tmp_path / "sick", compose([*words, "latent.restart=0"]))
    assert "codebook collapse" in sick["verdicts"]
    [verdict] = [v for v in aerun.diagnose(tmp_path / "sick").verdicts if v.name == "codebook collapse"]
    assert verdict.remedy == "latent.restart=0.1 latent.restart_every=20"
    well = train_in(tmp_path / "well", compose([*words, *verdict.remedy.split()]))
    assert "codebook collapse" not in well["verdicts"]
    assert well["test"]["code_usage"] > 2 * sick["test"]["code_usage"]
