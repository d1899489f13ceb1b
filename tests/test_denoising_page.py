"""The commands that hold denoisers against filters: what they measure, and what they say of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aerun.noise import BlurSpots, Dust, Gaussian, Scratches, Several
from benchmarks.denoising import RUNS, filters, psnr, row
from benchmarks.scans import at_size


def test_psnr_is_the_mean_of_the_images_own_clipped() -> None:
    targets = np.zeros((2, 1, 2, 2), np.float32)
    images = targets + np.array([0.1, 2.0], np.float32).reshape(2, 1, 1, 1)
    assert psnr(images, targets) == pytest.approx((20 + 0) / 2, abs=1e-5)
    assert psnr(targets, targets) == 100


def test_filters_leave_one_image_out_of_the_next() -> None:
    """And take away what each is for: single specks, and half of a fine pattern's deviation or more."""
    images = np.zeros((3, 1, 12, 12), np.float32)
    images[1] = 1
    for settings in filters().values():
        for function in settings.values():
            np.testing.assert_allclose(function(images), images, atol=1e-6)
    images[1, 0, 5, 5] = 0
    assert (filters()["median"]["3x3"](images)[1] == 1).all()
    noise = np.random.default_rng(0).standard_normal((1, 1, 60, 60)).astype(np.float32)
    # A Gaussian of deviation s leaves 1 / (2 s sqrt(pi)) of white noise's deviation.
    left = filters()["Gaussian"]["2"](noise)[..., 8:-8, 8:-8].std()
    assert left == pytest.approx(1 / (4 * math.sqrt(math.pi)), rel=0.15)


@pytest.mark.parametrize(("ours", "word"), [(18.85, "| yes |"), (18.83, "| **no** |")])
def test_a_row_says_whether_the_margin_is_reached(ours: float, word: str) -> None:
    summary = {
        "test": {"psnr": ours, "input_psnr": 8.0},
        "baselines": {"linear/psnr": 17.64},
        "wall_seconds": 90.0,
    }
    text = row(next(iter(RUNS)), summary, {"median": ("3x3", 13.0), "Gaussian": ("1.2", 15.5)})
    assert "| 13.00 (3x3) | 15.50 (1.2) | 17.64 |" in text and word in text and text.endswith("| 1.5 |")


def test_marks_of_a_picture_are_as_large_and_as_dense_as_those_of_a_patch() -> None:
    dust = Dust(12, [0.01, 0.04], [0.4, 1.0], 0.5)
    parts = {
        "dust": dust,
        "scratches": Scratches(3, [0.3, 1.5], [0.01, 0.02], [0.0, 0.1], [1.0, 1.0], 0.5),
        "blur_spots": BlurSpots(3, [0.1, 0.3], 0.04, [1.0, 1.0], [0.0, 0.4]),
        "gaussian": Gaussian(0.0, 0.1, False),
    }
    large = at_size(Several(parts), 64, 128, 256).parts
    assert (large["dust"].most, large["dust"].radius, large["dust"].opacity) == (96, [0.005, 0.02], [0.4, 1.0])
    assert (large["scratches"].length, large["scratches"].bend) == ([0.15, 0.75], [0.0, 0.1])
    assert large["blur_spots"].blur == 0.02 and large["gaussian"] == parts["gaussian"]
    # The same share of a picture is covered.
    shares = []
    for noise, size in ((dust, (64, 64)), (at_size(dust, 64, 64, 128), (64, 128))):
        marked = noise(torch.full((100, 1, *size), 0.5), torch.Generator().manual_seed(0)) != 0.5
        shares.append(float(marked.double().mean()))
    assert shares[1] == pytest.approx(shares[0], rel=0.15)
