"""Which weights are shown as what the network learned, how much they are used, and lines between codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from aerun import figures
from aerun.config.parse import parse
from aerun.core.autoencoder import Autoencoder
from aerun.core.features import find_features
from aerun.dataset.data import Data, Split
from aerun.noise import Masking
from aerun.runs.pictures import codes_of, draw_final
from aerun.runs.tracking import FolderLog
from aerun.training.build import build_autoencoder
from aerun.training.parts import Parts

Compose = Callable[[Sequence[str]], dict[str, Any]]


def autoencoder(compose: Compose, *overrides: str) -> tuple[Autoencoder, Data]:
    torch.manual_seed(0)
    images = torch.rand(40, 1, 8, 8)
    part = Split(images, images, None)
    data = Data(part, None, part, None, "")
    return build_autoencoder(parse(compose(list(overrides))), data), data


@pytest.mark.parametrize(
    ("overrides", "shapes"),
    [
        (["model=fc", "model.code_size=5"], {"dictionary": (5, 1, 8, 8), "first_layer": (5, 1, 8, 8)}),
        (["model=fc", "model.code_size=5", "model.tied=true"], {"dictionary": (5, 1, 8, 8)}),
        (["model=fc_deep", "model.hidden=[9]"], {"dictionary": (9, 1, 8, 8), "first_layer": (9, 1, 8, 8)}),
        (["model=conv", "model.hidden=[4,6]"], {"first_layer": (4, 1, 3, 3)}),
        (["model=conv_fc", "model.hidden=[4]"], {"dictionary": (4, 1, 8, 8), "first_layer": (4, 1, 6, 6)}),
    ],
)
def test_the_dictionary_and_the_first_layer_where_they_are_images(
    compose: Compose, overrides: list[str], shapes: dict[str, tuple[int, ...]]
) -> None:
    model, data = autoencoder(compose, *overrides)
    found = find_features(model, model.encode(data.test.inputs[:]))
    assert {name: tuple(images.shape) for name, images, _ in found} == shapes


def test_a_unit_is_used_as_much_as_it_adds_to_the_images(compose: Compose) -> None:
    model, data = autoencoder(compose, "model.code_size=7", "model.hidden=[6]")
    codes = model.encode(data.test.inputs[:])
    dictionary = find_features(model, codes)[0]
    first, activation, last = model.decoder[0], model.decoder[1], model.decoder[2]
    hidden = activation(first(codes)).detach().double().numpy()
    matrix = last.weight.detach().double().numpy()
    expected = [np.mean([np.linalg.norm(h[j] * matrix[:, j]) for h in hidden]) for j in range(6)]
    assert dictionary.use is not None
    np.testing.assert_allclose(dictionary.use.numpy(), expected, rtol=1e-5)
    assert not model.decoder[2]._forward_pre_hooks


def test_of_many_units_the_most_used_are_shown_in_their_order() -> None:
    """Unit i is a white pixel at place i; all but every third one are used, less or more."""
    weights = torch.eye(400).view(400, 1, 20, 20)
    use = torch.arange(400).flip(0).float() * (torch.arange(400) % 3 > 0)
    shown = [i for i in range(400) if i % 3][: figures.MAX_TILES]
    expected = figures.filters(weights[shown])
    assert np.array_equal(figures.filters(weights, use), expected)
    assert not np.array_equal(figures.filters(weights), expected)


def test_a_unit_that_is_not_used_is_grey() -> None:
    shown = figures.filters(torch.ones(4, 1, 3, 3), torch.tensor([0.0, 2.0, 0.0, 1.0]))
    tile = 3 * 18
    corners = [int(shown[y, x]) for y in (0, tile + 2) for x in (0, tile + 2)]
    assert corners == [128, 255, 128, 255]


def test_lines_go_from_the_code_of_one_image_to_that_of_the_next(compose: Compose, tmp_path: Path) -> None:
    model, data = autoencoder(compose, "model=conv", "model.hidden=[4,6]")
    drawn: dict[str, np.ndarray] = {}

    class Keeping(FolderLog):
        def picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
            drawn[tag] = pixels

    noise = Masking(rate=0.5, value=0.0)
    with Keeping(tmp_path) as tracker:
        parts = SimpleNamespace(autoencoder=model, data=data, noise=noise)
        draw_final(cast(Parts, parts), tracker, 1, tsne=False)
        codes = codes_of(model, data.test, noise, 16)  # of the corrupted images, as the network sees them
    assert "generated/samples" not in drawn
    ends = figures.as_bytes(model.decode(codes.view(16, *model.code_shape))).numpy()
    scale, height = 7, 7 * 8 + figures.GAP
    picture = drawn["generated/interpolations"]
    assert picture.shape == (8 * height - figures.GAP, 12 * height - figures.GAP)
    for row in range(8):
        tiles = picture[row * height : row * height + 56 : scale]
        assert np.array_equal(tiles[:, :56:scale], ends[2 * row, 0])
        assert np.array_equal(tiles[:, 11 * height : 11 * height + 56 : scale], ends[2 * row + 1, 0])
    middle = model.decode((codes[0] + 5 / 11 * (codes[1] - codes[0])).view(1, *model.code_shape))
    found = picture[:56:scale, 5 * height : 5 * height + 56 : scale].astype(int)
    assert np.abs(found - figures.as_bytes(middle)[0, 0].numpy().astype(int)).max() <= 1


def test_a_grid_has_a_row_for_each_picture_that_differs_from_the_input() -> None:
    images, noisy, targets, outputs = torch.rand(4, 3, 1, 8, 8).unbind()
    small = torch.rand(3, 1, 4, 4)
    height = 7 * 8 + figures.GAP

    def rows(*four: torch.Tensor) -> int:
        return (len(figures.reconstruction_grid(*four)) + figures.GAP) // height

    assert rows(images, images, outputs, images) == 3  # input, reconstruction, error
    assert rows(images, noisy, outputs, images) == 4
    assert rows(images, images, outputs, targets) == rows(images, noisy, outputs, targets) - 1 == 4
    assert rows(small, small, outputs, targets) == rows(small, small + 0.1, outputs, targets) == 3
