"""The linear path: it begins as scikit-learn's PCA, stays as it is, and the networks improve on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from aerun.cli.run_report import format_summary
from aerun.config.parse import parse
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Data, as_float
from aerun.errors import ConfigError
from aerun.model.linear_path import LinearPath
from aerun.runs.init_from import copy_matching_layers
from aerun.runs.reopen import load
from aerun.runs.run import run
from aerun.training.build import build_parts
from aerun.training.start import set_start

Compose = Callable[[Sequence[str]], dict[str, Any]]
CPU = torch.device("cpu")
PATH = ["model.linear_path=pca", "model.output_activation=identity"]
RANDOM = ["dataset=random", "dataset.images=60", "trainer.device=cpu", "trainer.threads=1"]
TINY = ["dataset.train_limit=400", "dataset.validation=100", "trainer.device=cpu", "trainer.threads=1"]


def started(compose: Compose, *words: str) -> tuple[Autoencoder, Data]:
    settings = parse(compose([*RANDOM, *PATH, *words]))
    parts = build_parts(settings, settings.dataset.load(CPU), CPU)
    set_start(settings, parts)
    return parts.autoencoder, parts.data


def rows(images: torch.Tensor) -> np.ndarray:
    return as_float(images).double().flatten(1).numpy()


@pytest.mark.parametrize(
    "words",
    [
        ["model=mlp", "dataset.shape=[1,8,9]"],
        ["model=mlp", "dataset.shape=[40]"],
        ["model=conv_deep", "dataset.shape=[3,12,13]", "model.code_size=7"],
        ["model=mlp", "dataset.shape=[3,5,6]", "dataset.normalize=standardise"],
        ["model=fc_deep", "dataset.shape=[2,6,6]", "model.code_size=5"],
    ],
    ids=str,
)
def test_an_untrained_model_is_principal_component_analysis(compose: Compose, words: list[str]) -> None:
    autoencoder, data = started(compose, *words)
    [size] = autoencoder.code_shape
    train, test = data.train.targets, data.test.targets
    pca = PCA(size, svd_solver="full").fit(rows(train))
    expected = pca.inverse_transform(pca.transform(rows(test)))
    found = autoencoder.double().reconstruct(as_float(test).double()).flatten(1).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    codes = autoencoder.encode(as_float(train).double()).numpy()
    np.testing.assert_allclose(codes.T @ codes / len(codes), np.eye(size), atol=1e-3)


def test_the_means_of_a_gaussian_code_are_components_and_its_variances_one(compose: Compose) -> None:
    autoencoder, data = started(compose, "model=mlp", "dataset.shape=[1,8,9]", "latent=gaussian", "model.code_size=6")
    images = data.train.targets.float() / 255
    features = autoencoder.encoder(images)
    scores = PCA(6, svd_solver="full").fit_transform(rows(data.train.targets))
    whitened = scores / scores.std(0)
    signs = np.sign((features[:, :6].detach().numpy() * whitened).sum(0))
    np.testing.assert_allclose(features[:, :6].detach().numpy() * signs, whitened, atol=1e-3)
    assert features[:, 6:].count_nonzero() == 0


def test_training_changes_the_networks_only_and_improves_on_components(compose: Compose, tmp_path: Path) -> None:
    config = compose([*TINY, "model=mlp", "model.linear_path=pca", "trainer.epochs=12", "trainer.pictures=0"])
    settings = parse(config)
    parts = build_parts(settings, settings.dataset.load(CPU), CPU)
    set_start(settings, parts)
    summary = run(settings, config, tmp_path / "run")
    assert summary["test"]["mse"] < 0.98 * summary["baselines"]["pca/mse"]
    trained = load(tmp_path / "run")
    for before, after in ((parts.autoencoder.encoder, trained.encoder), (parts.autoencoder.decoder, trained.decoder)):
        assert isinstance(before, LinearPath) and isinstance(after, LinearPath)
        assert before.linear.weight.equal(after.linear.weight) and before.linear.bias.equal(after.linear.bias)
        assert not any(a.equal(b) for a, b in zip(before.body.parameters(), after.body.parameters(), strict=True))


def test_a_continued_run_ends_as_one_that_was_never_stopped(compose: Compose, tmp_path: Path) -> None:
    words = [*TINY, "model=mlp", "model.linear_path=pca", "trainer.pictures=0", "scheduler=none"]
    for folder, epochs in (("whole", 2), ("parts", 1), ("parts", 2)):
        resume = f"resume={tmp_path / folder}" if (tmp_path / folder).exists() else "resume=null"
        config = compose([*words, f"trainer.epochs={epochs}", resume])
        run(parse(config), config, tmp_path / folder)
    whole, parts = (load(tmp_path / folder).state_dict() for folder in ("whole", "parts"))
    assert all(whole[name].equal(parts[name]) for name in whole)


def test_layers_of_another_run_are_copied_into_the_networks_and_not_the_path(compose: Compose, tmp_path: Path) -> None:
    words = [*TINY, "model=mlp", "trainer.pictures=0", "trainer.epochs=1"]
    for name, more in (("path", "pca"), ("plain", "none")):
        config = compose([*words, f"model.linear_path={more}"])
        run(parse(config), config, tmp_path / name)
    for name, other in (("path", "none"), ("plain", "pca")):
        config = compose([*words, f"model.linear_path={other}", f"init_from={tmp_path / name}"])
        with pytest.raises(ConfigError, match=rf"init_from=.* and model\.linear_path={other}: that run has"):
            run(parse(config), config, tmp_path / "refused")
    settings = parse(compose([*words, "model.linear_path=pca", "seed=5", "dataset.train_limit=300"]))
    parts = build_parts(settings, settings.dataset.load(CPU), CPU)
    set_start(settings, parts)
    before = {name: value.clone() for name, value in parts.autoencoder.state_dict().items()}
    copy_matching_layers(tmp_path / "path", parts.autoencoder)
    after, source = parts.autoencoder.state_dict(), load(tmp_path / "path").state_dict()
    for name, value in after.items():
        assert value.equal(before[name] if ".linear." in name else source[name]), name


def test_constant_images_have_no_components_to_divide_by(compose: Compose) -> None:
    settings = parse(compose([*RANDOM, *PATH, "model=mlp", "model.code_size=2"]))
    data = settings.dataset.load(CPU)
    data.train.targets.fill_(7)
    parts = build_parts(settings, data, CPU)
    set_start(settings, parts)
    assert all(bool(value.isfinite().all()) for value in parts.autoencoder.state_dict().values())


def test_more_units_than_images_are_refused(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"model\.linear_path=pca: needs model.code_size=200 .* training images have"):
        started(compose, "model=mlp", "model.code_size=200", "dataset.shape=[3,40,40]")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["model=fc", "model.tied=true"], "model.tied=true"),
        (["model=fc", "model.code_activation=identity", "sparsity=topk"], "TopK"),
        (["model=mlp", "model.code_activation=relu"], "model.code_activation=relu"),
        (["model=mlp", "model.output_activation=sigmoid"], "model.output_activation=sigmoid"),
        (["model=mlp", "loss=bce"], "BCE"),
        (["model=mlp", "model.condition=label"], "model.condition=label"),
        (
            ["model=fc", "model.code_activation=identity", "callback=resample", "callback.resample.every_steps=5"],
            "callback=resample",
        ),
        (["model=mlp", "trainer=greedy", "trainer.stage_epochs=[1]"], "trainer"),
        (["model=mlp", "regularizer=spectral"], "regularizer=spectral"),
        (["model=mlp", "model.unit_norm_decoder=true"], "model.unit_norm_decoder=true"),
        (["model=mlp", "model.decoder_init=transpose"], "model.decoder_init=transpose"),
        (["model=mlp", "protocol=semi_supervised"], "is never trained"),
        (["model=conv", "model.code_activation=identity"], "feature maps"),
        (["model=mlp", "dataset.target_transform=[{Resize: {size: 10}}]"], "same shape"),
    ],
    ids=str,
)
def test_what_does_not_fit_a_linear_path_is_refused_in_a_line(
    compose: Compose, tmp_path: Path, words: list[str], named: str
) -> None:
    given = ["model.output_activation=identity", "model.linear_path=pca", *TINY, *words]
    with pytest.raises(ConfigError, match=r"linear_path=pca|semi_supervised") as raised:
        config = compose(given)
        run(parse(config), config, tmp_path / "run")
    assert named in str(raised.value) and "\n" not in str(raised.value)


def test_the_report_says_when_components_are_better() -> None:
    baselines = {"mean_image/mse": 0.08, "mean_image/sse": 0.8, "pca/mse": 0.01, "pca/psnr": 20.0}
    worse = {"test": {"mse": 0.0123, "psnr": 19.1}, "baselines": baselines, "epochs": 3, "code_size": 4}
    note = "PCA with codes of the same size is better: the autoencoder has 23.0% more error; aerun-doctor"
    assert note in format_summary(worse, Path("run"))
    assert "PCA with" not in format_summary({**worse, "test": {"mse": 0.0099, "psnr": 20.1}}, Path("run"))
    wide = {**worse, "code_size": 10}  # as many values as an image
    assert "PCA with" not in format_summary(wide, Path("run"))
    assert "PCA with" not in format_summary({**worse, "test": {"mse": 0.010001, "psnr": 20.0}}, Path("run"))
    noisy = {**worse, "test": {"mse": 0.0123, "psnr": 19.1, "input_psnr": 8.0, "input_psnr_pooled": 8.0}}
    assert "PCA with" not in format_summary(noisy, Path("run"))
    quantized = {**worse, "test": {"mse": 0.0123, "psnr": 19.1, "bits": 64.0}}
    assert "PCA with" not in format_summary(quantized, Path("run"))
