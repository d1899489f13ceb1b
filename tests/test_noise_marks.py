"""Dust, scratches and smudges: number, size and shape compared with closed forms, and lists of corruptions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.distance import pdist, squareform
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from aerun.config.parse import parse
from aerun.dataset.data import Data, Split
from aerun.errors import ConfigError
from aerun.metrics.baselines import baselines, linear_filter, linear_regression
from aerun.noise import (
    BleedThrough,
    BlurSpots,
    Dust,
    Folds,
    Gaussian,
    Graphite,
    Hairs,
    Masking,
    NoNoise,
    Scratches,
    Several,
    Stains,
)
from aerun.noise.marks import blur
from aerun.training.build import check_data

Compose = Callable[[Sequence[str]], dict[str, Any]]
FULL = [1.0, 1.0]
MARKS = {
    "dust": Dust(12, [0.02, 0.06], [0.5, 1.0], 0.5),
    "scratches": Scratches(3, [0.3, 1.5], [0.03, 0.06], [0.0, 0.2], [0.5, 1.0], 0.5),
    "blur_spots": BlurSpots(3, [0.1, 0.3], 0.05, [0.5, 1.0], [0.0, 0.4]),
    "hairs": Hairs(3, [0.3, 1.5], [0.03, 0.06], [0.02, 0.2], [0.5, 1.0], 0.2),
    "graphite": Graphite(3, [0.3, 0.8], [0.2, 0.5]),
    "folds": Folds(1, [0.03, 0.05], [0.1, 0.3]),
}
marks = pytest.mark.parametrize("noise", MARKS.values(), ids=MARKS)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def textured(*shape: int) -> Tensor:
    return torch.rand(shape, generator=generator(7)) * 0.8 + 0.1


def darkness(noise: Any, count: int, side: int) -> Tensor:
    """How much of white images [count,side,side] is missing after the corruption."""
    return 1 - noise(torch.ones(count, 1, side, side), generator())[:, 0]


def inside(dark: Tensor) -> Tensor:
    """The images with a mark that is completely inside."""
    edge = torch.cat([dark[:, 0], dark[:, -1], dark[:, :, 0], dark[:, :, -1]], 1).amax(1)
    return dark[(edge == 0) & (dark.amax((1, 2)) > 0)]


@marks
@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_decides_the_marks_of_a_batch_of_images_that_stay_as_they_were(noise: Any, channels: int) -> None:
    images = textured(6, channels, 20, 30)
    before = images.clone()
    noisy = noise(images, generator(3))
    assert images.equal(before) and (noisy.shape, noisy.dtype) == (images.shape, images.dtype)
    assert noisy.min() >= 0 and noisy.max() <= 1 and not noisy.equal(images)
    torch.manual_seed(99)
    assert noisy.equal(noise(images, generator(3))) and not noisy.equal(noise(images, generator(4)))
    same = noise(torch.full((6, channels, 20, 30), 0.4), generator())
    assert not same[0].equal(same[1]) and same.allclose(same[:, :1].expand_as(same))


@marks
def test_settings_hold_for_other_sizes(noise: Any) -> None:
    """The same draws on images three times as large are the same marks."""
    small = noise(torch.full((8, 1, 96, 96), 0.4), generator())
    large = F.avg_pool2d(noise(torch.full((8, 1, 288, 288), 0.4), generator()), 3)
    assert (small - 0.4).abs().mean() > 0.002
    assert (small - large).abs().mean() < 0.05 * (small - 0.4).abs().mean()


@marks
def test_the_host_reads_nothing_of_the_device(noise: Any) -> None:
    """Count the operations, including each read of a value, on any device."""
    seen = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.add(function.overloadpacket.__name__)
            return function(*args, **(kwargs or {}))

    with Watch():
        noise(torch.zeros(2, 1, 16, 16), generator())
    assert "uniform_" in seen and not seen & {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select"}


def test_every_number_of_marks_is_equally_frequent() -> None:
    dark = darkness(Dust(3, [0.005, 0.005], FULL, 0.0), 400, 96)
    counts = np.bincount([ndimage.label(image > 0, np.ones((3, 3)))[1] for image in dark.numpy()], minlength=4)
    # Three specks of two pixels' width meet on few of so many places.
    assert np.abs(counts / 400 - 0.25).max() < 5 * math.sqrt(0.25 * 0.75 / 400)


def test_a_share_of_the_specks_is_white() -> None:
    gray = Dust(1, [0.1, 0.1], FULL, 0.25)(torch.full((2000, 1, 20, 20), 0.5), generator()).flatten(1)
    white, black = (float((part > 0.5).double().mean()) for part in (gray.amax(1), 1 - gray.amin(1)))
    assert abs(white - 0.125) < 5 * math.sqrt(0.125 / 2000) and abs(black - 0.375) < 5 * math.sqrt(0.375 / 2000)


def test_a_speck_is_an_ellipse_of_its_radius() -> None:
    dark = inside(darkness(Dust(1, [0.1, 0.1], FULL, 0.0), 400, 100))
    longest = dark.ge(0.5).flatten(1).double() @ torch.cartesian_prod(*[torch.arange(100.0).double()] * 2)
    centers = longest / dark.ge(0.5).flatten(1).sum(1, keepdim=True)
    places = torch.cartesian_prod(*[torch.arange(100.0).double()] * 2)
    far = torch.stack(
        [(places[image.flatten() >= 0.5] - c).norm(dim=1).max() for image, c in zip(dark, centers, strict=True)]
    )
    assert (far - 10).abs().max() < 1  # half of the long axis, whatever its direction
    areas = dark.double().sum((1, 2)) / (math.pi * 10**2)
    # The short axis is uniformly 0.5 to 1 of the long one.
    assert abs(areas.mean() - 0.75) < 5 * 0.144 / math.sqrt(len(areas)) + 0.01
    assert 0.48 < areas.min() < 0.55 and 0.95 < areas.max() < 1.03


def test_a_straight_scratch_covers_its_length_times_its_width() -> None:
    dark = inside(darkness(Scratches(1, [0.5, 0.5], [0.03, 0.03], [0.0, 0.0], [0.6, 0.6], 0.0), 200, 100))
    assert len(dark) > 20
    np.testing.assert_allclose(dark.sum((1, 2)) / 0.6, 50 * 3, rtol=0.04)
    np.testing.assert_allclose(dark.amax((1, 2)), 0.6, rtol=1e-5)


def test_a_bent_scratch_is_off_the_straight_by_its_bend() -> None:
    dark = inside(darkness(Scratches(1, [0.6, 0.6], [0.02, 0.02], [0.2, 0.2], FULL, 0.0), 200, 100))
    assert len(dark) > 20
    for image in dark:
        places = np.argwhere(image.numpy() > 0.5).astype(float)
        distances = squareform(pdist(places))
        one, other = np.unravel_index(distances.argmax(), distances.shape)
        chord = places[other] - places[one]
        away = np.abs(np.cross(np.c_[places - places[one], np.zeros(len(places))], [*chord, 0])[:, 2]) / distances.max()
        assert distances.max() == pytest.approx(60, abs=2.5)
        assert away.max() == pytest.approx(0.2 * 60, abs=2.5)  # half a width and a pixel's rounding at each end


def test_a_hair_without_waves_covers_its_length_times_its_width_and_swings_as_far_as_its_waves() -> None:
    straight = inside(darkness(Hairs(1, [0.5, 0.5], [0.03, 0.03], [0.0, 0.0], [0.6, 0.6], 0.0), 200, 100))
    assert len(straight) > 20
    np.testing.assert_allclose(straight.sum((1, 2)) / 0.6, 50 * 3, rtol=0.04)
    for image in inside(darkness(Hairs(1, [0.6, 0.6], [0.02, 0.02], [0.1, 0.1], FULL, 0.0), 200, 100)):
        places = np.argwhere(image.numpy() > 0.5).astype(float)
        places -= places.mean(0)
        # A sine of 0.1 lengths has a variance of 0.005 squared lengths across; of less than a period, somewhat less.
        across = np.linalg.svd(places, compute_uv=False)[1] ** 2 / len(places)
        assert 0.001 * 60**2 < across < 0.01 * 60**2


def test_a_stain_takes_most_of_the_blue_least_of_the_red_and_is_darkest_at_its_rim() -> None:
    noise = Stains(1, [0.2, 0.2], [0.2, 0.2], [0.6, 0.6])
    lost = 1 - noise(torch.ones(60, 3, 80, 80), generator())
    seen = lost[lost.amax((1, 2, 3)) > 0]
    assert len(seen) > 15
    red, green, blue = seen.sum((2, 3)).unbind(1)
    assert (green < blue).all() and (red < blue).all()
    np.testing.assert_allclose(seen[:, 2].amax((1, 2)), 0.6, atol=0.05)
    for image in inside(seen[:, 2]):
        filled = ndimage.binary_fill_holes(image.numpy() > 0.3)  # within the rim
        middle = image.numpy()[ndimage.binary_erosion(filled, iterations=6)]
        np.testing.assert_allclose(middle, 0.2, atol=0.01)
        assert 0.4 < filled.sum() / (math.pi * 16**2) < 1.8


def test_smeared_graphite_darkens_at_most_by_what_is_asked() -> None:
    dark = darkness(Graphite(1, [0.5, 0.5], [0.3, 0.3]), 200, 64).amax((1, 2))
    assert dark.max() <= 0.3 + 1e-6 and dark.max() > 0.25


def test_a_fold_is_as_bright_at_one_side_as_dark_at_the_other() -> None:
    change = Folds(1, [0.05, 0.05], [0.2, 0.2])(torch.full((100, 1, 60, 60), 0.5), generator()) / 0.5 - 1
    whole = change[(change.amax((1, 2, 3)) > 0.19) & (change.amin((1, 2, 3)) < -0.19)]
    assert len(whole) > 20
    np.testing.assert_allclose(whole.amax((1, 2, 3)), -whole.amin((1, 2, 3)), atol=0.01)
    assert change.abs().max() <= 0.2 + 1e-6


def test_what_shows_through_is_the_image_turned_and_blurred() -> None:
    images = textured(40, 3, 20, 24)
    noisy = BleedThrough(0.5, [0.3, 0.3], 0.05)(images, generator())
    behind = images * (1 - 0.3 * (1 - blur(images.rot90(2, (2, 3)), 1.0)))
    is_through = (noisy - images).abs().amax((1, 2, 3)) > 0
    torch.testing.assert_close(noisy[is_through], behind[is_through])
    assert abs(float(is_through.double().mean()) - 0.5) < 5 * math.sqrt(0.25 / 40)


def test_marks_are_local_and_noise_on_all_pixels_is_not() -> None:
    assert all(noise.is_local for noise in MARKS.values()) and Several(MARKS).is_local
    assert not Gaussian(0.0, 0.1, True).is_local and not Several(MARKS | {"more": Gaussian(0.0, 0.1, True)}).is_local


def test_blurring_is_a_gaussian_filter() -> None:
    images = textured(2, 3, 24, 31)
    expected = ndimage.gaussian_filter(images.numpy(), 2, mode="nearest", truncate=3, axes=(2, 3))
    np.testing.assert_allclose(blur(images, 2.0), expected, atol=1e-6)


def test_a_smudge_blurs_as_much_as_it_is_opaque_and_darkens_as_much_as_it_is_dark() -> None:
    white = darkness(BlurSpots(1, [0.3, 0.3], 0.05, FULL, [0.4, 0.4]), 60, 64)
    found = inside(white).amax((1, 2))
    assert len(found) > 3 and (0.4 - found).max() < 0.005 and found.max() <= 0.4 + 1e-6
    images = textured(40, 1, 64, 64)
    noisy = BlurSpots(1, [0.3, 0.3], 0.05, FULL, [0.0, 0.0])(images, generator())
    smooth = blur(images, 0.05 * 64)
    assert (noisy >= torch.minimum(images, smooth) - 1e-5).all()
    assert (noisy <= torch.maximum(images, smooth) + 1e-5).all()
    share = ((noisy - images) / (smooth - images))[(smooth - images).abs() > 0.1]
    assert share.min() > -1e-4 and 0.98 < share.max() < 1.0001


def test_several_corruptions_come_one_after_another() -> None:
    images = textured(5, 3, 16, 16)
    first, second = MARKS["dust"], Gaussian(0.0, 0.1, True)
    random = generator(5)
    expected = second(first(images, random), random)
    both = Several({"dust": first, "gaussian": second})
    assert both(images, generator(5)).equal(expected)
    assert not Several({"gaussian": second, "dust": first})(images, generator(5)).equal(expected)
    assert not both.is_identity and Several({"none": NoNoise()}).is_identity


def test_a_share_of_the_images_has_each_corruption() -> None:
    images = torch.full((2000, 1, 2, 2), 0.5)
    noisy = Several({"a": Gaussian(0.0, 1e-4, False), "b": Gaussian(3.0, 1e-4, False)}, 0.3)(images, generator())
    change = (noisy - images).amax((1, 2, 3))
    for seen, expected in ((change == 0, 0.49), (change > 1, 0.3)):
        assert abs(float(seen.double().mean()) - expected) < 5 * math.sqrt(0.25 / 2000)
    whole = Several(MARKS)(images, generator(1))
    assert whole.equal(Several(MARKS, 1.0)(images, generator(1)))


def test_a_list_of_the_command_line_is_several_parts_in_order(compose: Compose) -> None:
    from aerun.config.override_syntax import expand_words

    words = expand_words(["noise=[gaussian, dust]", "noise.parts.gaussian.variance=0.5", "noise=dust"])
    assert words == ["noise=several", "noise/parts=[gaussian, dust]", "noise.parts.gaussian.variance=0.5", "noise=dust"]
    noise = parse(compose(words[:3])).noise
    assert list(noise.parts.items()) == [
        ("gaussian", Gaussian(0.0, 0.5, False)),
        ("dust", Dust(12, [0.008, 0.03], [0.4, 1.0], 0.5)),
    ]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["noise=several", "noise/parts=[]"], "noise.parts={}: must list at least one"),
        (["noise=several", "noise.parts.dust.most=0"], "noise.parts.dust.most=0: must be"),
        (["noise=dust", "noise.radius=[0.2,0.1]"], r"noise.radius=\[0.2, 0.1\]: must be an interval"),
        (["noise=several", "+noise.parts.other=3"], "noise.parts.other=3: must be an option of the group noise"),
        (["noise=several", "+noise.parts.other={_target_: os.system}"], "only classes in"),
    ],
)
def test_bad_settings_are_refused_in_a_line(compose: Compose, overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        parse(compose(overrides))
    assert "\n" not in str(caught.value)


def test_a_list_that_hydra_has_merged_is_refused(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"noise=several noise/parts="):
        parse(compose(["noise=[dust,gaussian]"]), {}, ["noise=[dust,gaussian]"])


@pytest.mark.parametrize("words", [["noise=scratches"], ["noise=several"]])
def test_marks_on_vectors_are_refused_naming_both(compose: Compose, words: list[str]) -> None:
    choices = {"noise": words[0].partition("=")[2], "dataset": "random"}
    vectors = Split(torch.zeros(4, 30), torch.zeros(4, 30), None)
    with pytest.raises(ConfigError, match=rf"{words[0]} and dataset=random: .*vectors of 30 values"):
        check_data(parse(compose(words), choices), Data(vectors, None, vectors, None, ""))


def test_the_filter_of_a_corruption_without_moments_is_estimated_and_says_so() -> None:
    patterns = torch.rand(4, 36, generator=generator(1))
    rows = torch.rand(3000, 4, generator=generator(2)) @ patterns / 4
    parts = [Split(part, part, None) for part in rows.view(3000, 1, 6, 6).split([2000, 1000])]
    data, noise = Data(parts[0], None, parts[1], None, ""), Masking(0.4, 0.0)
    exact = baselines(data, noise, 2)
    estimate = baselines(data, Several({"masking": noise}), 2)
    assert "linear/draws" not in exact and estimate["linear/draws"] == 50
    # 37 parameters a pixel on 100,000 rows.
    assert estimate["linear/mse"] == pytest.approx(exact["linear/mse"], rel=2 * 37 / 2000 / 10)
    few = [linear_regression(parts[0], noise, draws)[0] for draws in (1, 40)]
    gaps = [float((weight - linear_filter(parts[0], noise)[0]).norm()) for weight in few]
    assert gaps[1] < gaps[0] / 4  # as one over the root of the draws
