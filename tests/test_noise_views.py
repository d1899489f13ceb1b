"""Other colors, blur and photos compared with closed forms, and second views that have a noise of their own."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor

from aerun.config.parse import parse
from aerun.dataset.data import first_batch
from aerun.errors import ConfigError
from aerun.metrics.evaluation import evaluate
from aerun.noise import Blur, Photo, Recolor
from aerun.training.build import build_parts
from aerun.training.step import make_step

Compose = Callable[[Sequence[str]], dict[str, Any]]
CPU = torch.device("cpu")
LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


def generator() -> Generator:
    return Generator().manual_seed(0)


def muted(*shape: int) -> Tensor:
    """Colors so near gray that no turn of the hue leaves [0,1]."""
    return 0.4 + 0.2 * torch.rand(*shape, generator=generator(), dtype=torch.float64)


def luma(images: Tensor) -> Tensor:
    return torch.einsum("bchw,c->bhw", images, LUMA)


def test_other_hues_and_saturations_keep_the_luma_and_gray_pictures() -> None:
    images = muted(6, 3, 5, 4)
    recolored = Recolor(0.5, [0.5, 1.5], 0.0)(images, generator())
    assert float((recolored - images).abs().mean()) > 0.01
    torch.testing.assert_close(luma(recolored), luma(images), rtol=0, atol=2e-4)  # of the published coefficients
    gray = images[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(Recolor(0.5, [0.5, 1.5], 0.0)(gray, generator()), gray, rtol=0, atol=2e-4)
    torch.testing.assert_close(Recolor(0.0, [1.0, 1.0], 0.0)(images, generator()), images)
    torch.testing.assert_close(
        Recolor(0.0, [0.0, 0.0], 0.0)(images, generator()),
        luma(images)[:, None].expand(-1, 3, -1, -1),
        rtol=0,
        atol=2e-4,
    )


def test_a_turn_of_the_hue_is_that_of_colorsys() -> None:
    """Half a turn is the complement: in YIQ, as colorsys has it, both differences change their sign."""
    images = muted(1, 3, 1, 1)
    noise = Recolor(0.5, [1.0, 1.0], 0.0)
    draws = torch.empty(1, 3).uniform_(generator=generator())
    angle = (2 * float(draws[0, 0]) - 1) * np.pi
    y, i, q = colorsys.rgb_to_yiq(*images.flatten().tolist())
    turned = complex(i, q) * np.exp(1j * angle)
    expected = colorsys.yiq_to_rgb(y, turned.real, turned.imag)
    found = noise(images.float(), generator()).flatten().tolist()
    assert found == pytest.approx(expected, abs=3e-3)  # colorsys rounds its coefficients to two or three digits


def test_sepia_is_one_color_of_the_lumas() -> None:
    images = muted(3, 3, 4, 4)
    brown = Recolor(0.2, [0.5, 1.5], 1.0)(images, generator())
    ratios = brown / luma(images)[:, None]
    torch.testing.assert_close(ratios, ratios[:1, :, :1, :1].expand_as(ratios))
    red, green, blue = ratios[0, :, 0, 0].tolist()
    assert red > green > blue


def test_the_blur_is_a_gaussian_of_its_share_of_the_side() -> None:
    images = torch.rand(2, 3, 40, 50, generator=generator(), dtype=torch.float64)
    found = Blur([0.05, 0.05])(images, generator())
    expected = gaussian_filter(images.numpy(), 2, mode="nearest", truncate=3, axes=(2, 3))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    spread = Blur([0.01, 0.1])(images, generator()).flatten(1).std(1)
    least, most = (Blur([d, d])(images, generator()).flatten(1).std(1) for d in (0.01, 0.1))
    assert bool(((most <= spread) & (spread <= least)).all())


def test_a_photo_without_changes_is_the_picture() -> None:
    images = torch.rand(4, 3, 13, 17, generator=generator())
    torch.testing.assert_close(Photo(0.0, 0.0, 0.0, 0.0)(images, generator()), images, rtol=0, atol=1e-5)


def test_a_smaller_photo_shows_the_whole_picture_on_one_gray() -> None:
    images = torch.ones(64, 1, 40, 40) * 2.0  # brighter than any ground
    photos = Photo(0.5, 0.0, 0.0, 0.0)(images, generator())
    for photo in photos[:, 0]:
        picture = photo > 1.5
        rows, columns = picture.any(1).sum(), picture.any(0).sum()
        assert int(picture.sum()) == int(rows * columns) and 19 <= int(rows) <= 40 and abs(int(rows - columns)) <= 1
        assert len(photo[~picture].unique()) <= 1
    shares = (photos > 1.5).float().mean((1, 2, 3))
    assert float(shares.min()) < 0.4 and float(shares.max()) > 0.9


def test_shade_takes_light_away_and_most_at_one_edge() -> None:
    images = torch.ones(32, 3, 20, 20)
    photos = Photo(0.0, 0.0, 0.0, 0.4)(images, generator())
    assert float(photos.max()) <= 1 and float(photos.min()) >= 0.6
    torch.testing.assert_close(photos[:, 0], photos[:, 2])
    assert float((photos.amax((2, 3)) - photos.amin((2, 3))).max()) > 0.2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["noise=recolor"], "colors need images of 3 channels"),
        (["regularizer=decorrelation", "+noise@regularizer.decorrelation.views=recolor"], "decorrelation.views and"),
        (["regularizer=decorrelation"], "two corruptions of an image would be equal"),
        (
            ["regularizer=decorrelation", "regularizer.decorrelation.views=photo"],
            "+noise@regularizer.decorrelation.views=NAME",
        ),
        (["regularizer=decorrelation", "+loss@regularizer.decorrelation.views=mae"], "must be in aerun.noise"),
        (["noise=photo", "dataset.shape=[30]"], "needs images"),
        (["noise=blur", "noise.deviation=[0.1,0.01]"], "must be an interval"),
        (
            [
                "regularizer=decorrelation",
                "+noise@regularizer.decorrelation.views=photo",
                "++regularizer.decorrelation.views.tilt=2",
            ],
            "regularizer.decorrelation.views.tilt=2",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_a_line(compose: Compose, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        settings = parse(compose(["dataset=random", "dataset.images=20", *words]))
        build_parts(settings, settings.dataset.load(CPU), CPU)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_views_are_changed_in_evaluation_too_where_a_noise_would_be_left_out(compose: Compose) -> None:
    words = ["dataset=random", "dataset.images=30", "model=mlp", "regularizer=decorrelation", "trainer.threads=1"]
    found = {}
    for training_only in ("true", "false"):
        more = ["+noise@regularizer.decorrelation.views=crop", "trainer.device=cpu"]
        settings = parse(compose([*words, *more, f"regularizer.decorrelation.views.training_only={training_only}"]))
        parts = build_parts(settings, settings.dataset.load(CPU), CPU)
        found[training_only] = evaluate(parts.autoencoder, parts.data.test, settings.noise, settings.loss)
    assert found["true"] == found["false"]


def test_a_second_view_has_the_noise_of_its_own_in_training_and_evaluation(compose: Compose) -> None:
    words = ["dataset=random", "dataset.images=30", "model=mlp", "regularizer=decorrelation", "trainer.threads=1"]
    settings = parse(compose([*words, "+noise@regularizer.decorrelation.views=masking", "trainer.device=cpu"]))
    parts = build_parts(settings, settings.dataset.load(CPU), CPU)
    step = make_step(parts, learning_rate=lambda number: 1.0)
    batch = first_batch(parts.data.train, 8)
    inputs, targets, extras = step.prepare(batch, 3)
    assert inputs is targets  # the first view is the image itself
    rate, value = settings.regularizer["decorrelation"].views.rate, settings.regularizer["decorrelation"].views.value
    view = extras["second_view"]
    clean = batch.inputs.float() / 255
    changed = view != clean
    assert float(changed.float().mean()) == pytest.approx(rate, abs=0.05) and bool((view[changed] == value).all())
    found = evaluate(parts.autoencoder, parts.data.test, settings.noise, settings.loss)
    assert found["decorrelation"] > 0
