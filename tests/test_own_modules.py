"""Modules of one's own: described when the configuration is read, built after the seed, tried before training."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import aerun
from aerun.config.parse import parse
from aerun.core.nested import nested
from aerun.doctor.verdict import SPARSITY
from aerun.errors import ConfigError
from aerun.model.from_modules import find_matching_cuts
from aerun.runs.run import run
from aerun.sweep.point_check import check_points
from aerun.training.build import build_autoencoder, build_parts, prepare
from tests.keys import needed

Compose = Callable[[Sequence[str]], dict[str, Any]]
Train = Callable[..., subprocess.CompletedProcess[str]]
NETS = """
from torch import nn

class Encoder(nn.Module):
    def __init__(self, width: int = 8, inputs: int = 784):
        super().__init__()
        self.layer = nn.Linear(inputs, width)
    def forward(self, images):
        return self.layer(images.flatten(1))

class Decoder(nn.Module):
    def __init__(self, width: int = 8, side: int = 28):
        super().__init__()
        self.layer, self.side = nn.Linear(width, side * side), side
    def forward(self, code):
        return self.layer(code).unflatten(1, (1, self.side, self.side))

class Wide(Encoder):
    def __init__(self):
        super().__init__(inputs=1000)

class Small(Decoder):
    def __init__(self):
        super().__init__(side=14)

class Nothing(nn.Module):
    def forward(self, images):
        return images
"""
ENCODER, DECODER = "model.encoder._target_=nets.Encoder", "model.decoder._target_=nets.Decoder"
OWN = ["model=modules", ENCODER, DECODER]
TINY = [
    *("dataset=random", "dataset.images=120", "trainer.epochs=2", "trainer.batch_size=32", "trainer.pictures=0"),
    *("trainer.device=cpu", "trainer.threads=1"),
]
TRUST = "trusted_packages=[nets]"


@pytest.fixture
def own(train: Train, tmp_path: Path) -> Train:
    """As ``train``, with the modules above on PYTHONPATH."""
    (tmp_path / "nets.py").write_text(NETS)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return lambda *words, **keys: train(*words, PYTHONPATH=path, **keys)


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "checkpoints" / "last.safetensors")


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all((one[name] == two[name]).all() for name in one)


def test_the_same_seed_gives_the_same_weights_alone_resumed_in_sweeps_and_from_python(
    own: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*OWN, *TINY, TRUST]
    assert own(*words, "hydra.run.dir=alone").returncode == 0
    short = [*words, "trainer.epochs=1", "hydra.run.dir=resumed"]
    assert own(*short).returncode == 0
    assert own("resume=resumed", "trainer.epochs=2", TRUST).returncode == 0
    for launcher in ("basic", "joblib"):
        done = own("-m", *words, "seed=1,0", f"hydra/launcher={launcher}", f"sweep.name={launcher}")
        assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.rand(3)
    aerun.train(*words, out=tmp_path / "python", verbose=False)
    expected = weights(tmp_path / "alone")
    assert same(weights(tmp_path / "python"), expected)
    assert same(weights(tmp_path / "resumed"), expected)
    for launcher in ("basic", "joblib"):
        [one], [other] = ((tmp_path / "outputs" / launcher).glob(f"s*{seed}_*") for seed in (0, 1))
        assert same(weights(one), expected) and not same(weights(other), expected)


ERRORS = [
    pytest.param(
        [*OWN, "+model.encoder.inputs=100", TRUST],
        r"model\.encoder\._target_=nets\.Encoder: does not take \[B, 1, 28, 28\], the images \(mat1 and mat2 .*\)",
        id="shape in",
    ),
    pytest.param(
        [*OWN, "+model.encoder.width=5", TRUST],
        r"model\.decoder\._target_=nets\.Decoder: does not take \[B, 5\], the code \(mat1 and mat2 .*\)",
        id="shape between",
    ),
    pytest.param(
        [*OWN, "+model.decoder.side=14", TRUST],
        r"model\.decoder\._target_=nets\.Decoder: returns \[B, 1, 14, 14\], must be \[B, 1, 28, 28\], "
        r"the targets of dataset=random",
        id="shape out",
    ),
    pytest.param(
        ["model=modules", "model.encoder._target_=nets.Nothing", "model.decoder._target_=nets.Nothing", TRUST],
        r"model\.encoder\._target_=nets\.Nothing and model\.decoder\._target_=nets\.Nothing: no parameters to train",
        id="no parameters",
    ),
    pytest.param(
        ["model=modules", "model.encoder._target_=netz.Encoder", DECODER, "trusted_packages=[nets,netz]"],
        r"model\.encoder\._target_=netz\.Encoder: cannot be imported "
        r"\(No module named 'netz'; set PYTHONPATH=FOLDER .*\)",
        id="not importable",
    ),
    pytest.param(
        OWN,
        r"model\.encoder\._target_=nets\.Encoder: only classes in aerun, .* are trusted; add "
        r"trusted_packages=\[nets\] to trust nets",
        id="not trusted",
    ),
]


@pytest.mark.parametrize(("words", "says"), ERRORS)
def test_a_common_mistake_is_one_line(own: Train, tmp_path: Path, words: list[str], says: str) -> None:
    done = own(*words, *TINY, "hydra.run.dir=run")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert re.fullmatch(f"aerun: {says}", line), line
    assert not (tmp_path / "run").exists()


def test_in_a_sweep_every_mistake_is_a_line_before_the_first_job(own: Train, tmp_path: Path) -> None:
    encoders = "model.encoder._target_=nets.Encoder,nets.Wide,nets.Nothing,netz.Encoder,os.Encoder"
    decoders = "model.decoder._target_=nets.Decoder,nets.Small,nets.Nothing"
    done = own("-m", "model=modules", encoders, decoders, *TINY, "trusted_packages=[nets,netz]", "sweep.name=s")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("aerun: 14 of 15 points are invalid; nothing was started")
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    for says in (
        r"nets\.Encoder .*nets\.Small +model\.decoder\._target_=nets\.Small: returns \[B, 1, 14, 14\], must be .*",
        r"nets\.Wide .*nets\.Decoder +model\.encoder\._target_=nets\.Wide: does not take \[B, 1, 28, 28\], .*",
        r"nets\.Nothing .*nets\.Nothing +.*nets\.Nothing: no parameters to train",
        r"netz\.Encoder .*: cannot be imported .*",
        r"os\.Encoder .*: only classes in .* are trusted.*",
    ):
        assert any(re.search(f"encoder._target_={says}$", line) for line in lines), (says, done.stdout)
    assert not list((tmp_path / "outputs").glob("s/*"))


def built(compose: Compose, *words: str) -> Any:
    config = compose([*TINY, "model=modules", *words])
    settings = parse(config)
    prepare(settings)
    return settings, build_autoencoder(settings, settings.dataset.load(torch.device("cpu")))


def test_weights_are_drawn_after_the_seed_whatever_was_drawn_before(compose: Compose) -> None:
    _, one = built(compose, *needed("modules"))
    torch.rand(7)
    config = compose([*TINY, "model=modules", *needed("modules")])
    settings = parse(config)
    torch.rand(5)
    prepare(settings)
    two = build_parts(settings, settings.dataset.load(torch.device("cpu")), torch.device("cpu")).autoencoder
    for name, value in one.state_dict().items():
        assert torch.equal(two.state_dict()[name], value), name


def test_sequences_that_mirror_each_other_are_pretrained_greedily(compose: Compose) -> None:
    _, autoencoder = built(compose, *needed("modules"))
    assert autoencoder.cuts == ((3, 2),)  # Flatten, Linear, GELU | Linear and LazyLinear, GELU | Linear, Unflatten
    inner = nested(autoencoder, 1)
    assert inner.code_shape == (12,)
    images = torch.rand(3, 1, 28, 28)
    by_hand = autoencoder.decoder[3](
        autoencoder.decoder[2](autoencoder.encoder[2](autoencoder.encoder[1](images.flatten(1))))
    )
    assert torch.equal(inner.reconstruct(images), by_hand.detach())


def test_modules_of_ones_own_are_trained_in_stages_frozen_and_taken_over(compose: Compose, tmp_path: Path) -> None:
    words = [*TINY, "model=modules", *needed("modules")]
    config = compose([*words, "trainer=greedy", "trainer.stage_epochs=1"])
    run(parse(config), config, tmp_path / "one")
    assert aerun.load(tmp_path / "one").encode(torch.rand(2, 1, 28, 28)).shape == (2, 8)
    first, best = (load_file(tmp_path / "one" / "checkpoints" / f"{name}.safetensors") for name in ("stage1", "best"))
    assert not (first["model.encoder.1.weight"] == best["model.encoder.1.weight"]).all()
    config = compose([*words, f"init_from={tmp_path / 'one'}", "freeze=[encoder.1]", "seed=1"])
    run(parse(config), config, tmp_path / "two")
    taken = weights(tmp_path / "two")
    assert (taken["model.encoder.1.weight"] == best["model.encoder.1.weight"]).all()
    assert not (taken["model.encoder.3.weight"] == best["model.encoder.3.weight"]).all()


CONVOLUTIONS = (
    nn.Sequential(
        *(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 10)),
    ),
    nn.Sequential(
        *(nn.Linear(10, 8 * 49), nn.ReLU(), nn.Unflatten(1, (8, 7, 7))),
        *(nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1)),
    ),
)


def test_cuts_keep_what_stands_between_two_layers(compose: Compose) -> None:
    """After the second convolution the code is flat on both sides: the decoder begins by giving it its shape back."""
    shapes = (1, 28, 28), (10,), (1, 28, 28)
    assert find_matching_cuts(*CONVOLUTIONS, *shapes) == ((3, 5), (6, 2))
    encoder, decoder = CONVOLUTIONS
    assert find_matching_cuts(encoder, decoder[1:], *shapes) is None  # one layer fewer
    assert find_matching_cuts(encoder[0:1], decoder[5:], (1, 28, 28), (4, 14, 14), (1, 28, 28)) == ()
    assert find_matching_cuts(encoder, nn.Sequential(decoder), *shapes) is None


def test_greedy_training_of_others_is_refused_in_a_line(own: Train) -> None:
    done = own(*OWN, *TINY, TRUST, "trainer=greedy")
    assert done.returncode == 1
    assert done.stderr.startswith("aerun: trainer=greedy and model=modules: this model has no layer pairs; use")


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ({"encoder": 3}, r"^model\.encoder=3: must be an nn\.Module by its class"),
        ({"encoder": {"_target_": "???"}}, r"^model\.encoder\._target_: a value is needed"),
        (
            {"encoder": {"_target_": "torch.nn.Linear", "in_features": 4}},
            r"Linear: rejects its arguments in_features \(",
        ),
        ({"encoder": {"_target_": "torch.nn.Flatten", "_args_": 1}}, r"^model\.encoder\._args_=1: must be a list"),
    ],
)
def test_what_is_no_module_is_refused_by_its_key(compose: Compose, nodes: dict[str, Any], says: str) -> None:
    config = compose([*TINY, "model=modules", *needed("modules")])
    config["model"] |= nodes
    with pytest.raises(ConfigError, match=says):
        settings = parse(config)
        build_autoencoder(settings, settings.dataset.load(torch.device("cpu")))


def test_a_features_that_cannot_be_halved_is_refused(compose: Compose) -> None:
    config = compose([*TINY, "model=modules", "latent=gaussian", *needed("modules")])
    config["model"]["encoder"]["_args_"][-1]["_args_"] = [12, 7]
    with pytest.raises(ConfigError, match=r"gives 7 features; each unit of the code takes 2"):
        settings = parse(config)
        build_autoencoder(settings, settings.dataset.load(torch.device("cpu")))


PARTS = """
from dataclasses import dataclass
import torch
from aerun.contracts import Latent, Loss, Noise, Sparsity
from aerun.sparsity import L1

class Halved(Noise):
    def __call__(self, images, generator):
        return images[..., ::2]

class Fails(Noise):
    def __call__(self, images, generator):
        return images.rot90(k=1, dims=(7, 8))

class PerImage(Loss):
    def __call__(self, prediction, target):
        return (prediction - target).square().flatten(1).mean(1)
    def scale(self, values_per_image):
        return 1 / values_per_image

class OnlyCode(Sparsity):
    def __call__(self, features, training):
        return features.relu()

class Shorter(Latent):
    def __call__(self, features, draw):
        return features[:, 1:], []

class Heavier(L1):
    pass

class Bare(torch.nn.Module):
    rowwise = True
    def forward(self, features, draw):
        return features + 0 * draw if draw is not None else features, []

class Built(Latent):
    def build(self, code_shape):
        return Bare()
    def __call__(self, features, draw):
        raise NotImplementedError

class BuildsNothing(Built):
    def build(self, code_shape):
        return object()

class Strict(torch.nn.Module, Latent):
    constrains_code = True
    def check_settings(self, settings):
        super().check_settings(settings)
    def forward(self, features, draw):
        return features, []

class Misspelt(Latent):
    def __cal__(self, features, draw):
        return features, []
"""


@pytest.fixture
def parts_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts_here.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_parts_here", raising=False)


@pytest.mark.parametrize(
    ("group", "name", "says"),
    [
        ("noise", "Halved", r": returns \[B, 1, 28, 14\], must be \[B, 1, 28, 28\], the images of dataset=random$"),
        ("noise", "Fails", r": does not take \[B, 1, 28, 28\], the images of dataset=random \(.*\)$"),
        ("loss", "PerImage", r": returns a tensor of shape \[2\], must return a scalar tensor$"),
        ("sparsity", "OnlyCode", r": returns Tensor, must return the code and a list of penalties$"),
        ("latent", "Shorter", r": returns \[B, 7\], must be \[B, 8\], the code of model=fc$"),
    ],
)
def test_a_part_that_does_not_fit_is_a_line_alone_and_in_a_sweep(
    compose: Compose, parts_module: None, group: str, name: str, says: str
) -> None:
    config = compose([*TINY, "model=fc", "model.code_size=8", "trusted_packages=[own_parts_here]"])
    good, choices = copy.deepcopy(config), {"dataset": "random", "model": "fc"}
    config[group] = {"_target_": f"own_parts_here.{name}"}
    settings = parse(config, choices)
    device = prepare(settings)
    with pytest.raises(ConfigError, match=rf"^{group}\._target_=own_parts_here\.{name}{says}"):
        build_parts(settings, settings.dataset.load(device), device)
    first, second = check_points([(good, choices), (config, choices)], None)
    assert first.error is None and second.error is not None and re.search(says, second.error)


def described(compose: Compose, name: str, *words: str) -> dict[str, Any]:
    config = compose([*TINY, "model=fc", "model.code_size=8", "trusted_packages=[own_parts_here]", *words])
    return {**config, "latent": {"_target_": f"own_parts_here.{name}"}}


def test_what_a_latent_builds_gets_the_defaults_that_it_lacks(compose: Compose, parts_module: None) -> None:
    settings = parse(described(compose, "Built"))
    autoencoder = build_autoencoder(settings, settings.dataset.load(torch.device("cpu")))
    assert autoencoder.latent.posterior(torch.zeros(1, 8)) is None
    assert autoencoder.draw(2, torch.Generator()) is None


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("BuildsNothing", [], r"own_parts_here\.BuildsNothing: build returns object, without __call__$"),
        ("Misspelt", [], r"^latent\._target_=own_parts_here\.Misspelt: lacks __call__, which every latent has$"),
        ("Strict", ["sparsity=topk", "sparsity.k=2"], r"both constrain the code"),
    ],
)
def test_a_latent_that_is_none_or_clashes(
    compose: Compose, parts_module: None, name: str, words: list[str], says: str
) -> None:
    """``super()`` works in the checks of a module that is not built yet."""
    with pytest.raises(ConfigError, match=says):
        settings = parse(described(compose, name, *words))
        build_autoencoder(settings, settings.dataset.load(torch.device("cpu")))


def test_the_verdicts_on_a_subclass_of_l1_are_those_on_l1(compose: Compose, parts_module: None, tmp_path: Path) -> None:
    words = ["dataset=fashion_mnist_mini", "dataset.train_limit=1000", "model=fc", "model.hidden=[64]", "sparsity=l1"]
    words += ["sparsity.weight=1", "model.activation=relu", "trainer.epochs=6", "trainer.pictures=0"]
    found = []
    for name in ("aerun.sparsity.L1", "own_parts_here.Heavier"):
        config = compose([*words, "trainer.device=cpu", "trainer.threads=1", "trusted_packages=[own_parts_here]"])
        config["sparsity"]["_target_"] = name
        folder = tmp_path / name
        summary = run(parse(config), config, folder)
        with_data = aerun.diagnose(folder, trusted_packages=["own_parts_here"]).verdicts
        from_files = aerun.diagnose(folder, data=False).verdicts
        found.append((summary["verdicts"], list(map(str, with_data)), list(map(str, from_files))))
    assert found[0] == found[1]
    assert SPARSITY in found[0][0]
