"""The deep convolutional model: every size, compared with its layers called by hand, nested, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aerun.config.parse import parse
from aerun.core.nested import nested
from aerun.dataset.data import Batch, Data, Split
from aerun.errors import ConfigError
from aerun.model import DeepConvolutional
from aerun.training.build import build_parts
from aerun.training.start import set_start
from aerun.training.step import make_step

COMMON: dict[str, Any] = {
    "activation": "relu",
    "code_activation": "identity",
    "output_activation": "sigmoid",
    "init": "default",
    "init_std": 0.01,
    "tied": False,
    "width": 8,
    "widest": 20,
    "patch": 2,
    "blocks": 1,
    "block": "residual",
    "norm": "group",
    "levels": None,
    "code_size": 5,
}
blocks = pytest.mark.parametrize("block", ["residual", "plain"])
norms = pytest.mark.parametrize("norm", ["group", "none"])


def spec(**keys: Any) -> DeepConvolutional:
    torch.manual_seed(0)
    return DeepConvolutional(**{**COMMON, **keys})


def uniform(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("size", "last"),
    [
        ((8, 8), (4, 4)),
        ((9, 31), (5, 16)),
        ((32, 32), (4, 4)),
        ((33, 33), (5, 5)),
        ((48, 64), (6, 8)),
        ((63, 100), (4, 7)),
        ((256, 256), (4, 4)),
    ],
)
def test_every_size_is_halved_to_about_four_and_comes_back(size: tuple[int, int], last: tuple[int, int]) -> None:
    for channels in (1, 3):
        codec = spec().build((channels, *size), (channels, *size), 1)
        maps: list[torch.Size] = []
        codec.encoder[-2].register_forward_pre_hook(lambda _, inputs, maps=maps: maps.append(inputs[0].shape[2:]))
        code = codec.encoder(uniform(2, channels, *size))
        assert code.shape == (2, 5) and codec.code_shape == (5,)
        assert tuple(maps[0]) == last
        assert codec.decoder(code).shape == (2, channels, *size)


@pytest.mark.parametrize(("size", "last"), [((16, 17), (4, 5)), ((32, 35), (4, 5)), ((65, 64), (5, 4))])
def test_patches_of_four_are_halved_likewise(size: tuple[int, int], last: tuple[int, int]) -> None:
    codec = spec(patch=4).build((3, *size), (3, *size), 1)
    assert codec.encoder[:-2](uniform(2, 3, *size)).shape[2:] == last
    assert codec.decoder(codec.encoder(uniform(2, 3, *size))).shape == (2, 3, *size)


def test_channels_double_up_to_the_widest() -> None:
    codec = spec().build((3, 64, 64), (3, 64, 64), 1)
    strided = [layer for layer in codec.encoder.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    assert [layer.out_channels for layer in strided] == [8, 16, 20, 20]
    assert [len(spec(levels=n).build((3, 64, 64), (3, 64, 64), 1).cuts or ()) for n in (1, 3, 6)] == [1, 3, 6]


@blocks
@norms
def test_two_levels_are_what_their_layers_give_by_hand(block: str, norm: str) -> None:
    codec = spec(block=block, norm=norm, activation="tanh", levels=2).build((2, 9, 10), (2, 9, 10), 1)

    def weights(side: nn.Module) -> list[Any]:
        return [layer for layer in side.modules() if hasattr(layer, "weight")]

    def body(x: Tensor, layers: list[Any]) -> Tensor:
        y = x
        for _ in range(2):
            if norm == "group":
                group = layers.pop(0)
                y = F.group_norm(y, 2 if group.num_channels == 8 else 4, group.weight, group.bias)
            convolution = layers.pop(0)
            y = F.conv2d(y.tanh(), convolution.weight, convolution.bias, padding=1)
        return x + y if block == "residual" else y

    images = uniform(3, 2, 9, 10)
    x, layers = images, weights(codec.encoder)
    for _ in range(2):
        convolution = layers.pop(0)
        x = body(F.conv2d(x, convolution.weight, convolution.bias, stride=2, padding=1), layers).tanh()
    x = F.linear(x.flatten(1), layers[0].weight, layers[0].bias)
    torch.testing.assert_close(codec.encoder(images), x)

    layers = weights(codec.decoder)
    y = F.linear(x, layers[0].weight, layers.pop(0).bias).view(3, 16, 3, 3)
    y = body(y, layers).tanh()
    y = F.conv2d(y, layers[0].weight, layers.pop(0).bias)
    rows = [0, 0, 1, 1, 2]  # 3 values become 5
    y = y[:, :, rows][:, :, :, rows]
    y = body(y, layers).tanh()
    y = F.conv2d(y, layers[0].weight, layers[0].bias, padding=1)
    picture = torch.zeros(3, 2, 10, 10)
    for channel in range(2):
        for row in range(2):
            for column in range(2):
                picture[:, channel, row::2, column::2] = y[:, 4 * channel + 2 * row + column]
    torch.testing.assert_close(codec.decoder(x), picture[:, :, :9])


@blocks
def test_two_parameters_a_code_and_other_channels_of_the_targets(block: str) -> None:
    codec = spec(block=block).build((1, 33, 40), (3, 33, 40), 2)
    assert codec.encoder(uniform(2, 1, 33, 40)).shape == (2, 10)
    assert codec.decoder(uniform(2, 5)).shape == (2, 3, 33, 40)


@norms
def test_the_result_for_an_image_does_not_depend_on_batch_order_or_memory(norm: str) -> None:
    codec = spec(norm=norm).build((3, 32, 32), (3, 32, 32), 1)
    whole = nn.Sequential(codec.encoder, codec.decoder)
    images = uniform(6, 3, 32, 32)
    with torch.no_grad():
        expected = whole(images)
        assert whole(images).equal(expected)
        torch.testing.assert_close(whole(images[2:3]), expected[2:3], rtol=1e-4, atol=1e-5)
        other = whole.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(other, expected, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            half = whole(images).float()
    assert (half - expected).abs().mean() < 0.05 * expected.std()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["model.levels=5"], "model.levels=5: images of 16x20 are too small"),
        (["model.tied=true"], "tied=true: model=conv_deep"),
        (["dataset.shape=[3,7,20]"], "model.levels=null: images of 7x20 are too small"),
        (["model.norm=batch"], "model.norm=batch: must be one of group, none"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(compose: Any, keys: list[str], message: str) -> None:
    words = ["model=conv_deep", "dataset=random", "dataset.images=20", "dataset.shape=[3,16,20]", "trainer.device=cpu"]
    with pytest.raises(ConfigError) as caught:
        settings = parse(compose([*words, *keys]))
        data = settings.dataset.load(torch.device("cpu"))
        build_parts(settings, data, torch.device("cpu"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def drawings(count: int) -> Data:
    """A dark disc on a light background, at a random place and in a random color: five numbers per picture."""
    random = torch.Generator().manual_seed(0)
    center, color = 6 + 12 * torch.rand(count, 2, generator=random), torch.rand(count, 3, 1, 1, generator=random)
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    square = (rows - center[:, :1, None]) ** 2 + (columns - center[:, 1:, None]) ** 2
    images = torch.where((square < 25).unsqueeze(1), 0.6 * color, torch.ones(()))
    split = Split(images, images, None)
    return Data(split, None, split, None, "")


def test_it_learns_what_a_linear_code_cannot(compose: Any) -> None:
    """Discs that move: five principal components leave a third of the variance."""
    words = ["model=conv_deep", "model.width=8", "model.code_size=5", "optimizer.lr=4e-3", "model.output_bias=mean"]
    settings = parse(compose([*words, "trainer.device=cpu", "trainer.threads=1"]))
    data = drawings(256)
    torch.manual_seed(0)
    parts = build_parts(settings, data, torch.device("cpu"))
    set_start(settings, parts)
    step = make_step(parts, learning_rate=lambda number: 1 - number / 160)
    for number in range(160):
        rows = torch.arange(64) + 64 * (number % 4)
        images = data.train.inputs[rows]
        step(Batch(images, images), number)
    rows = data.test.inputs.flatten(1) - data.test.inputs.flatten(1).mean(0)
    singular = torch.linalg.svdvals(rows)
    linear = float(singular[5:].square().sum() / rows.numel())
    error = float((parts.autoencoder.reconstruct(data.test.inputs) - data.test.inputs).square().mean())
    assert linear > 0.3 * float(rows.square().mean())
    assert error < 0.7 * linear


def test_outer_levels_are_autoencoders_themselves(compose: Any) -> None:
    settings = parse(compose(["model=conv_deep", "model.width=4", "trainer.device=cpu"]))
    split = Split(uniform(2, 3, 40, 33), uniform(2, 3, 40, 33), None)
    whole = build_parts(settings, Data(split, None, split, None, ""), torch.device("cpu")).autoencoder
    shapes = []
    for pairs in range(1, len(whole.cuts or ()) + 1):
        inner = nested(whole, pairs)
        assert inner(split.inputs).reconstruction.shape == split.inputs.shape
        shapes.append(tuple(inner.code_shape))
    assert shapes == [(4, 20, 17), (8, 10, 9), (16, 5, 5)]


@norms
def test_signals_neither_vanish_nor_explode_at_the_start(norm: str) -> None:
    codec = spec(norm=norm, width=16, widest=64, code_size=32).build((3, 128, 128), (3, 128, 128), 1)
    with torch.no_grad():
        code = codec.encoder(uniform(8, 3, 128, 128))
        picture = codec.decoder(code)
    assert 0.01 < float(code.std()) < 10 and 0.01 < float(picture.std()) < 10
