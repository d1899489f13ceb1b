"""Corruptions: their effect on a batch, and their moments compared with Monte Carlo and integration.

Statistics must be within five standard errors; a correct corruption exceeds that once in two million comparisons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Generator, Tensor

from aerun.noise import Crop, Gaussian, Masking, NoNoise, SaltPepper, Several

ERRORS = 5
SHAPES = {"vectors": (40, 60), "gray": (40, 1, 8, 10), "color": (40, 3, 8, 10)}
CORRUPTIONS = {
    "gaussian": Gaussian(0.1, 0.2, False),
    "gaussian_clipped": Gaussian(0.1, 0.2, True),
    "masking": Masking(0.5, 0.0),
    "masking_gray": Masking(0.3, 0.5),
    "salt_pepper": SaltPepper(0.3),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
corruptions = pytest.mark.parametrize("noise", CORRUPTIONS.values(), ids=CORRUPTIONS)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def gray(*shape: int) -> Tensor:
    """Values strictly between black and white, so that whatever is black or white has been made so."""
    return torch.rand(shape, generator=generator(7)) * 0.8 + 0.1


@shapes
@corruptions
def test_clean_images_are_left_alone(noise: Any, shape: tuple[int, ...]) -> None:
    images = gray(*shape)
    before = images.clone()
    noisy = noise(images, generator())
    assert images.equal(before)
    assert not noisy.equal(before)
    assert noisy.data_ptr() != images.data_ptr()
    assert (noisy.shape, noisy.dtype) == (images.shape, images.dtype)


@shapes
@corruptions
def test_a_seed_decides_the_noise(noise: Any, shape: tuple[int, ...]) -> None:
    images = gray(*shape)
    first = noise(images, generator(3))
    torch.manual_seed(99)
    assert first.equal(noise(images, generator(3)))
    assert not first.equal(noise(images, generator(4)))


@corruptions
def test_images_of_a_batch_are_corrupted_differently(noise: Any) -> None:
    noisy = noise(torch.full((2, 3, 8, 10), 0.4), generator())
    assert not noisy[0].equal(noisy[1])


def test_no_noise_is_the_input() -> None:
    images = gray(4, 1, 8, 10)
    assert NoNoise()(images, generator()) is images
    assert NoNoise.is_identity and not any(noise.is_identity for noise in CORRUPTIONS.values())


@shapes
def test_gaussian_has_its_mean_and_variance(shape: tuple[int, ...]) -> None:
    images = gray(*shape)
    added = (Gaussian(0.3, 0.25, False)(images, generator()) - images).double()
    count = added.numel()
    assert abs(added.mean() - 0.3) < ERRORS * 0.5 / count**0.5
    assert abs(added.var() - 0.25) < ERRORS * 0.25 * (2 / count) ** 0.5


def test_gaussian_is_normal_and_independent_between_values() -> None:
    added = (Gaussian(0.0, 1.0, False)(torch.zeros(2000, 3, 2, 2), generator())).flatten(1)
    assert stats.kstest(added.flatten().numpy(), "norm").pvalue > 1e-6
    correlation = np.corrcoef(added.T.numpy()) - np.eye(12)
    assert abs(correlation).max() < ERRORS / 2000**0.5


def test_clipping_is_that_of_the_unclipped_noise() -> None:
    images = gray(*SHAPES["color"])
    free = Gaussian(0.1, 0.2, False)(images, generator())
    clipped = Gaussian(0.1, 0.2, True)(images, generator())
    assert free.min() < 0 and free.max() > 1
    np.testing.assert_array_equal(clipped.numpy(), np.clip(free.numpy(), 0, 1))


def test_gaussian_without_variance_shifts() -> None:
    images = gray(4, 1, 8, 10)
    torch.testing.assert_close(Gaussian(0.05, 0.0, False)(images, generator()), images + 0.05)


@shapes
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rate", [0.0, 0.004, 0.26, 0.5, 0.99, 1.0])
def test_masking_hits_exactly_its_share_of_each_image(shape: tuple[int, ...], rate: float, value: float) -> None:
    images = gray(*shape)
    noisy = Masking(rate, value)(images, generator())
    pixels = shape[-1] if len(shape) == 2 else shape[-2] * shape[-1]
    hit = (noisy != images).flatten(1) if len(shape) == 2 else (noisy != images).any(1).flatten(1)
    assert hit.sum(1).tolist() == [round(rate * pixels)] * shape[0]
    assert (noisy[noisy != images] == value).all()


def test_masking_hits_all_channels_of_a_pixel() -> None:
    hit = Masking(0.5, 0.0)(gray(*SHAPES["color"]), generator()) == 0
    assert hit.any(1).equal(hit.all(1))


def test_masking_hits_every_pixel_equally_often() -> None:
    hits = (Masking(0.3, 0.0)(torch.ones(20_000, 10), generator()) == 0).double().mean(0)
    assert (hits - 0.3).abs().max() < ERRORS * (0.3 * 0.7 / 20_000) ** 0.5


@shapes
def test_salt_and_pepper_come_at_their_rate_and_in_equal_parts(shape: tuple[int, ...]) -> None:
    images = gray(1000, *shape[1:])
    noisy = SaltPepper(0.3)(images, generator())
    black, white = (noisy == 0).double(), (noisy == 1).double()
    assert noisy[(black + white) == 0].equal(images[(black + white) == 0])
    draws = black.numel() // (shape[1] if len(shape) == 4 else 1)
    for part in (black, white):
        assert abs(part.mean() - 0.15) < ERRORS * (0.15 * 0.85 / draws) ** 0.5
    assert abs((white - black).mean()) < ERRORS * (0.3 / draws) ** 0.5


def test_salt_and_pepper_hit_all_channels_of_a_pixel_together() -> None:
    noisy = SaltPepper(0.6)(gray(*SHAPES["color"]), generator())
    for value in (0, 1):
        assert (noisy == value).any() and (noisy == value).any(1).equal((noisy == value).all(1))


def test_salt_and_pepper_at_the_ends_of_the_rate() -> None:
    images = gray(50, 100)
    assert SaltPepper(0.0)(images, generator()).equal(images)
    assert SaltPepper(1.0)(images, generator()).unique().tolist() == [0.0, 1.0]


def test_salt_and_pepper_at_rate_one_spare_no_pixel() -> None:
    """The uniform draws of this seed contain one that is exactly 1/2, the border between black and white."""
    draws = torch.empty(100, 1000).uniform_(generator=generator(307))
    assert (draws == 0.5).any()
    noisy = SaltPepper(1.0)(gray(100, 1000), generator(307))
    assert noisy.unique().tolist() == [0.0, 1.0]


@corruptions
@pytest.mark.parametrize("channels", [1, 3])
def test_moments_are_those_of_many_draws(noise: Any, channels: int) -> None:
    """Means, products over the channels of one pixel, and products of different pixels, of one clean image."""
    draws, height, width = 20_000, 2, 3
    positions = height * width
    clean = torch.rand(channels, height, width, generator=generator(5), dtype=torch.float64)
    moments = noise.moments(positions)
    noisy = noise(clean.expand(draws, -1, -1, -1), generator()).view(draws, channels, positions)
    clean = clean.view(channels, positions)

    def agree(samples: Tensor, expected: Tensor) -> None:
        error = samples.std(0) / draws**0.5
        assert ((samples.mean(0) - expected).abs() <= ERRORS * error + 1e-12).all()

    agree(noisy, moments.mean(clean))
    shifted, expected = noisy - moments.shift, moments.mean(clean) - moments.shift
    for a in range(channels):
        for b in range(channels):
            agree(noisy[:, a] * noisy[:, b], moments.pixel(clean[a], clean[b], a == b))
            for p in range(positions):
                for q in set(range(positions)) - {p}:
                    agree(shifted[:, a, p] * shifted[:, b, q], moments.pair * expected[a, p] * expected[b, q])


@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.5])
@pytest.mark.parametrize("variance", [1e-4, 0.1, 4.0])
@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_moments_of_clipped_noise_are_the_integrals(mean: float, variance: float, x: float) -> None:
    normal = stats.norm(x + mean, variance**0.5)
    low, high = max(0.0, normal.ppf(1e-15)), min(1.0, normal.ppf(1 - 1e-15))

    def expectation(power: int) -> float:
        inside = integrate.quad(lambda z: z**power * normal.pdf(z), low, high, epsabs=1e-13)[0] if low < high else 0.0
        return float(inside + normal.sf(1.0))

    moments = Gaussian(mean, variance, True).moments(10)
    pixel = torch.tensor(x, dtype=torch.float64)
    assert moments.mean(pixel).item() == pytest.approx(expectation(1), abs=1e-10)
    assert moments.pixel(pixel, pixel, True).item() == pytest.approx(expectation(2), abs=1e-10)
    assert moments.pixel(pixel, pixel, False).item() == pytest.approx(expectation(1) ** 2, abs=1e-10)


@pytest.mark.parametrize("clip", [False, True])
def test_moments_without_variance_are_those_of_a_constant(clip: bool) -> None:
    pixels = torch.tensor([0.0, 0.5, 0.95], dtype=torch.float64)
    moments = Gaussian(0.1, 0.0, clip).moments(3)
    expected = torch.tensor([0.1, 0.6, 1.0 if clip else 1.05], dtype=torch.float64)
    torch.testing.assert_close(moments.mean(pixels), expected)
    torch.testing.assert_close(moments.pixel(pixels, pixels, True), expected.square())


@pytest.mark.parametrize(("rate", "positions"), [(1.0, 6), (0.0, 6), (0.9, 6), (1.0, 1), (0.0, 1)])
def test_moments_of_masking_at_its_ends(rate: float, positions: int) -> None:
    """With one pixel kept, or none, no two are kept together; with all kept, the image is as it was."""
    moments = Masking(rate, 0.25).moments(positions)
    pixels = torch.linspace(0, 1, positions, dtype=torch.float64)
    kept = positions - round(rate * positions)
    torch.testing.assert_close(moments.mean(pixels), 0.25 + kept / positions * (pixels - 0.25))
    if positions > 1:
        assert moments.pair == pytest.approx({6: 1.0, 1: 0.0, 0: 0.0}[kept])


class TestCrop:
    AMOUNT = 0.3

    def ramps(self, count: int, height: int = 12, width: int = 15) -> Tensor:
        """Two channels, the column's and the row's place in [-1,1]: what is read between pixels is exact."""
        columns = (2 * torch.arange(width, dtype=torch.float64) + 1) / width - 1
        rows = (2 * torch.arange(height, dtype=torch.float64) + 1) / height - 1
        return torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)]).expand(count, -1, -1, -1)

    def test_every_pixel_is_read_where_the_crop_has_it(self) -> None:
        images = self.ramps(500)
        cropped = Crop(self.AMOUNT)(images, generator())
        across, down = cropped[:, 0, 5, 1:-1], cropped[:, 1, 1:-1, 5]
        for line, steps in ((across, 2 / 15), (down, 2 / 12)):
            # A line of equal steps again, shorter ones, within the image.
            scale = (line[:, 1:] - line[:, :-1]) / steps
            torch.testing.assert_close(scale, scale[:, :1].expand_as(scale))
            assert 1 - self.AMOUNT < scale.min() < 1 - 0.95 * self.AMOUNT and 1 - 0.05 * self.AMOUNT < scale.max() <= 1
            middle = line.mean(1)
            assert (middle.abs() <= 1 - scale[:, 0] + 1e-9).all() and middle.abs().max() > 0.7 * self.AMOUNT
        torch.testing.assert_close(across[:, 1] - across[:, 0], (down[:, 1] - down[:, 0]) * 12 / 15)
        torch.testing.assert_close(cropped[:, 0], cropped[:, 0, :1].expand_as(cropped[:, 0]))

    def test_a_seed_decides_and_the_images_stay(self) -> None:
        images = gray(4, 3, 9, 8)
        before, noise = images.clone(), Crop(0.2)
        first = noise(images, generator(3))
        assert first.equal(noise(images, generator(3))) and not first.equal(noise(images, generator(4)))
        assert images.equal(before) and first.shape == images.shape and not first.equal(images)

    def test_evaluation_is_of_whole_images_unless_asked_otherwise(self) -> None:
        from aerun.dataset.data import Split
        from aerun.metrics.evaluation import corrupted_batches

        images = gray(4, 3, 9, 8)
        for noise, same in ((Crop(0.2), True), (Crop(0.2, training_only=False), False)):
            [(clean, noisy, targets)] = corrupted_batches(Split(images, images, None), noise)
            assert noisy.equal(images) == same and clean.equal(targets)

    def test_among_several_only_the_others_are_left_in_evaluation(self) -> None:
        gaussian = Gaussian(0.0, 0.1, clip=False)
        both = Several({"crop": Crop(0.2), "gaussian": gaussian})
        assert both.for_evaluation() == Several({"gaussian": gaussian})
        assert Several({"crop": Crop(0.2)}).for_evaluation().is_identity and gaussian.for_evaluation() is gaussian
        kept = Several({"crop": Crop(0.2, training_only=False)})
        assert kept.for_evaluation() == kept

    def test_vectors_are_refused_by_name(self, compose: Any) -> None:
        from aerun.config.parse import parse
        from aerun.errors import ConfigError
        from aerun.training.build import build_parts

        words = ["dataset=random", "dataset.images=20", "dataset.shape=[30]", "noise=crop", "trainer.device=cpu"]
        settings = parse(compose(words), {"noise": "crop", "dataset": "random"})
        with pytest.raises(ConfigError, match="noise=crop and dataset=random: crops need images"):
            build_parts(settings, settings.dataset.load(torch.device("cpu")), torch.device("cpu"))
