"""Every option of every group, read from conf/: it follows the rules, builds, and trains."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from aerun.base.conf import conf_dir
from aerun.config.parse import parse
from aerun.config.schema import locate
from aerun.config.settings import GROUPS, PROTOCOL, SEVERAL
from aerun.dataset.data import first_batch
from aerun.errors import AerunError
from aerun.metrics.evaluation import evaluate
from aerun.training import build
from aerun.training.step import make_step
from tests.keys import FITTING, Options, needed, own_modules

Compose = Callable[[Sequence[str]], dict[str, Any]]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def two_steps(config: dict[str, Any], choices: dict[str, str] | None = None) -> dict[str, float]:
    """Build everything, train twice on a batch, evaluate; returns the metrics."""
    settings = parse(config, choices)
    device = build.prepare(settings)
    data = settings.dataset.load(device)
    parts = build.build_parts(settings, data, device)
    autoencoder = parts.autoencoder
    step = make_step(
        parts,
        learning_rate=lambda number: settings.scheduler.multiplier(number, total_steps=10, steps_per_epoch=5),
        precision=settings.trainer.precision,
    )
    autoencoder.train()
    for number in range(2):
        terms = step(first_batch(data.train, 12), number).terms
        assert all(torch.isfinite(term) for term in terms.values())
    metrics = evaluate(autoencoder, data.test, settings.noise, settings.loss)
    assert metrics["mse"] >= 0
    return metrics


RANDOM = ["dataset=random", "dataset.images=40", "trainer.device=cpu", "trainer.threads=1"]


@pytest.fixture(scope="module")
def composed(compose: Compose) -> Options:
    return Options(compose, RANDOM)


NOT_DATA = [(group, option) for group in GROUPS if group != "dataset" for option in options(group)]


@pytest.mark.parametrize(("group", "option"), NOT_DATA)
def test_every_option_builds_and_takes_two_steps(compose: Compose, group: str, option: str) -> None:
    more = needed(option) if group == "model" else ["dataset.shape=[3,28,28]"] if option == "recolor" else []
    two_steps(compose([*RANDOM, f"{group}={option}", *more]))


@pytest.mark.parametrize("option", options("dataset"))
def test_every_data_set_builds_and_takes_two_steps(
    compose: Compose, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    from PIL import Image

    from aerun.dataset.data import Arrays
    from aerun.dataset.idx import _Downloaded
    from aerun.dataset.vision import _Torchvision

    random = np.random.default_rng(0)
    overrides = [f"dataset={option}", "trainer.device=cpu", "dataset.validation=0.1"]
    if option == "image_folder":
        for index in range(20):
            Image.fromarray(random.integers(0, 256, (40, 30, 3), np.uint8)).save(tmp_path / f"{index}.png")
        overrides += [f"dataset.root={tmp_path}"]
    elif option == "array":
        np.save(tmp_path / "x.npy", random.random((40, 3, 8, 9), np.float32))
        overrides += [f"dataset.root={tmp_path / 'x.npy'}"]

    # The files of these are checked in tests/test_dataset_*.py; here stand small arrays of their shape.
    def small(shape: tuple[int, ...]) -> Arrays:
        return Arrays(*(random.integers(0, 256, (count, *shape), np.uint8) for count in (40, 10)))

    monkeypatch.setattr(_Downloaded, "read", lambda self: small((1, 28, 28)))
    monkeypatch.setattr(_Torchvision, "read", lambda self: small((3, 32, 32)))
    two_steps(compose(overrides))


@pytest.mark.parametrize("group", (*GROUPS, *SEVERAL))
def test_the_path_of_a_yaml_is_the_path_of_its_code(group: str) -> None:
    for option in options(group):
        content = yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text())
        if "_target_" in content:
            assert content["_target_"].startswith(f"aerun.{group}."), option
            assert isinstance(locate(content["_target_"]), type), option


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in GROUPS for o in options(g)])
def test_a_yaml_has_exactly_the_keys_of_its_class(compose: Compose, group: str, option: str, tmp_path: Path) -> None:
    overrides = [f"{group}={option}"]
    if option in ("image_folder", "array"):
        overrides.append(f"dataset.root={tmp_path}")
    node = compose(overrides)[group]
    cls = locate(node.pop("_target_"))
    fields = {f.name for f in dataclasses.fields(cls) if f.init} if dataclasses.is_dataclass(cls) else set()
    assert set(node) == fields


@pytest.mark.parametrize("option", [option for option in options(PROTOCOL) if option != "none"])
def test_a_protocol_stands_under_its_name_with_exactly_the_keys_of_its_class(compose: Compose, option: str) -> None:
    (name, node), *others = compose([f"{PROTOCOL}={option}"])[PROTOCOL].items()
    assert name == option and not others
    assert {f.name for f in dataclasses.fields(locate(node.pop("_target_"))) if f.init} == set(node)


@pytest.mark.parametrize("model", options("model"))
def test_options_that_are_composed_once_are_those_of_one_composition(
    compose: Compose, composed: Options, model: str
) -> None:
    for sparsity, latent, noise in (("topk", "deterministic", "masking"), ("none", "vq", "gaussian")):
        words = [f"model={model}", f"sparsity={sparsity}", f"latent={latent}", f"noise={noise}"]
        wanted = compose([*RANDOM, *words, *FITTING.get(latent, []), *needed(model)])
        assert composed.config(model, sparsity=sparsity, latent=latent, noise=noise) == wanted


@pytest.mark.parametrize("model", options("model"))
def test_every_combination_on_every_shape_works_or_is_refused_naming_both(composed: Options, model: str) -> None:
    """Sparsities stand for what constrains the code; k and the shapes are such that maps can have it."""
    worked, refused = 0, []
    shapes = ["[1,28,28]", "[3,32,32]", "[3,36,48]"]
    sparsities, latents = options("sparsity"), options("latent")
    for sparsity, latent in itertools.product(sparsities, latents):
        choices = {"model": model, "sparsity": sparsity, "latent": latent, "dataset": "random"}
        config = composed.config(model, sparsity=sparsity, latent=latent)
        if "k" in config["sparsity"]:
            config["sparsity"]["k"] = 2
        for shape in shapes if latent == "deterministic" or sparsity == "none" else shapes[:1]:
            config["dataset"]["shape"] = yaml.safe_load(shape)
            config["model"] |= own_modules(config["dataset"]["shape"]) if model == "modules" else {}
            try:
                two_steps(config, choices)
                worked += 1
            except AerunError as error:
                refused.append((latent, sparsity))
                assert f"latent={latent}" in str(error) and f"sparsity={sparsity}" in str(error)
                assert "\n" not in str(error)
    # Refused: each latent that constrains the code with each of the five constraints, and nothing else.
    constraining = [latent for latent in latents if latent != "deterministic"]
    assert set(refused) == set(itertools.product(constraining, [name for name in sparsities if name != "none"]))
    assert worked == (len(sparsities) + len(constraining)) * len(shapes)


@pytest.mark.parametrize(
    ("overrides", "first", "second"),
    [
        (["latent=gaussian", "sparsity=l1"], "latent=gaussian", "sparsity=l1"),
        (["sparsity=topk", "sparsity.k=33"], "sparsity.k=33", "model.code_size=32"),
        (["loss=bce", "model.output_activation=tanh"], "loss=bce", "model.output_activation=tanh"),
        (["loss=bce", "dataset.normalize=standardise"], "loss=bce", "dataset.normalize=standardise"),
        (["model=conv", "dataset.normalize=standardise"], "normalize=standardise", "output_activation=sigmoid"),
        (["scheduler=plateau", "scheduler.stop_lr=0.5"], "scheduler.stop_lr=0.5", "optimizer.lr=0.001"),
        (["scheduler=cosine", "scheduler.warmup_epochs=99"], "scheduler.warmup_epochs=99", "trainer.epochs=30"),
        (
            [
                "trainer=greedy",
                "model=fc_deep",
                "scheduler=cosine",
                "trainer.stage_epochs=[0,4,1,3]",
                "scheduler.warmup_epochs=2",
            ],
            "scheduler.warmup_epochs=2",
            "trainer.stage_epochs=[0, 4, 1, 3]",
        ),
        (["model=conv", "sparsity=topk", "sparsity.k=10"], "model=conv", "sparsity=topk"),
        (["model=conv", "dataset.shape=[30]"], "model=conv", "dataset=random"),
        (["model=conv_fc", "dataset.shape=[1,16,16]"], "model=conv_fc", "dataset=random"),
        (["model=conv_fc", "model.tied=true"], "model.tied=true", "conv_fc"),
        (["optimizer.fused=true", "optimizer.foreach=true"], "foreach=true", "fused=true"),
        (["optimizer.capturable=true"], "optimizer.capturable=true", "cpu"),
        (["model.init_std=0.5"], "model.init_std", "model.init"),
        (["latent=gaussian", "model.code_activation=relu"], "model.code_activation", "latent"),
        (["dataset.binarise=static", "dataset.normalize=standardise"], "binarise=static", "normalize=standardise"),
        (["dataset.binarise=dynamic", "dataset.target_transform=[RandomInvert]"], "binarise", "target_transform"),
        (["dataset.binarise=dynamic", "dataset.shape=[20]"], "dataset.binarise=dynamic", "vectors of 20"),
        (["protocol=likelihood"], "protocol=likelihood", "latent=Deterministic"),
        (["latent=importance_weighted", "loss=bce_then_mse"], "latent=importance_weighted", "loss=bce_then_mse"),
        (["model=fc_vae", "loss=bce", "protocol=likelihood"], "loss=bce", "dataset.binarise"),
        (
            ["protocol=likelihood", "protocol.likelihood.samples_of_rest=9"],
            "protocol.likelihood.samples_of_rest",
            "images",
        ),
        (["trainer.min_delta=0.5"], "trainer.min_delta", "trainer.patience"),
    ],
)
def test_pairs_that_make_no_sense_are_refused_naming_both(
    compose: Compose, overrides: list[str], first: str, second: str
) -> None:
    config = compose([*RANDOM, *overrides])
    choices = dict(override.split("=") for override in ["dataset=random", *overrides] if "." not in override)
    with pytest.raises(AerunError) as refusal:
        parse(config, choices, overrides)
        two_steps(config, choices)
    assert first in str(refusal.value) and second in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset.normalize=standardise"],
        ["dataset.normalize=standardise", "dataset.shape=[20]"],
        ["dataset.shape=[20]", "noise=masking", "model=fc_vae", "loss=bce"],
        ["dataset.shape=[20]", "noise=salt_pepper", "loss=mae", "loss.reduction=sum"],
        ["dataset.shape=[3,32,32]", "dataset.input_transform=[Grayscale]", "model=conv", "noise=gaussian"],
        ["trainer.precision=bfloat16", "model=vae"],
        ["model=fc_deep", "model.tied=true", "model.init=kaiming", "latent=gaussian"],
        ["model=conv", "model.tied=true", "model.code_size=8", "latent=gaussian", "dataset.shape=[3,48,64]"],
        ["model.init=normal", "model.init_std=0.1", "model.hidden=[512,256]", "model.activation=gelu"],
    ],
)
def test_combinations_that_people_use_work(compose: Compose, overrides: list[str]) -> None:
    two_steps(compose([*RANDOM, *overrides]))


def test_a_target_outside_the_trusted_packages_needs_consent(compose: Compose) -> None:
    config = compose(RANDOM)
    config["noise"] = {"_target_": "fractions.Fraction"}
    with pytest.raises(AerunError, match=r"noise\._target_=fractions\.Fraction.*trusted_packages=\[fractions\]"):
        parse(config)
    config["trusted_packages"] = ["fractions"]
    with pytest.raises(AerunError, match=r"noise\._target_=fractions\.Fraction: lacks __call__"):
        parse(config)


def test_a_torch_optimizer_of_ones_own_needs_only_a_yaml(compose: Compose) -> None:
    config = compose(RANDOM)
    config["optimizer"] = {"_target_": "torch.optim.Adagrad", "lr": 0.01}
    two_steps(config)
