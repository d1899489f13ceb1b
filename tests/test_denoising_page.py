"""The commands that hold denoisers against filters: what they measure, and what they say of it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aerun.noise import BlurSpots, Dust, Gaussian, Scratches, Several
from benchmarks.cleaning import lines_of, white_point
from benchmarks.denoising import RUNS, filters, psnr, row
from benchmarks.ink_pages import KINDS
from benchmarks.ink_pages import page as ink_page
from benchmarks.scan_damage import Damaged, marked, scanned
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


def test_damage_of_scans_changes_a_page_only_where_it_says() -> None:
    page = np.full((120, 150, 3), 200, np.uint8)
    seen = 0
    for seed in range(8):
        damaged = marked(page, np.random.default_rng(seed), None)
        assert (damaged.page == marked(page, np.random.default_rng(seed), None).page).all()
        assert (np.abs(damaged.page[~damaged.touched].astype(int) - 200) <= 6).all()  # at most 2 % of what is there
        seen += (damaged.page[damaged.touched] != 200).sum()
    assert seen > 100
    whole = scanned(page, np.random.default_rng(0)).page
    assert whole[..., 0].mean() > whole[..., 2].mean() and whole.std() > 3  # warm paper, uneven light


@pytest.mark.parametrize("kind", KINDS)
def test_pages_of_ink_have_ink_and_paper(kind: str) -> None:
    pages = [np.asarray(ink_page(kind, np.random.default_rng([3, seed]))) for seed in range(12)]
    assert all(image.shape == (128, 128, 3) for image in pages)
    with_ink = [image for image in pages if len(np.unique(image.reshape(-1, 3), axis=0)) > 1]
    assert len(with_ink) > 9
    for image in with_ink:
        paper = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)[1].max() / 128**2
        assert paper > 0.3


def test_a_table_of_cleaning_counts_what_is_worse_and_what_changes_outside_of_marks() -> None:
    clean = np.full((3, 8, 8), 0.5, np.float32)
    touched = np.zeros((8, 8), bool)
    touched[0] = True
    spoiled = clean + np.float32(0.1) * touched + np.float32(0.01)
    ways = {"perfect": lambda image: clean, "harmful": lambda image: image + np.float32(0.02)}
    rows, _ = lines_of("pages", [Damaged(spoiled, touched)], [clean], ways, SimpleNamespace(update=lambda: None))
    perfect, harmful = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)
    assert perfect[5:] == ["0 of 1", "0.00"] and float(perfect[3]) > 50
    assert harmful[5:] == ["1 of 1", "3.00"] and float(harmful[3]) < 0


def test_one_white_point_makes_even_paper_white() -> None:
    page = np.full((3, 20, 20), 0.8, np.float32) * np.array([1, 0.9, 0.7], np.float32)[:, None, None]
    page[:, 3:5, 3:5] = 0
    white = white_point(page)
    assert (white[:, 10:] == 1).all() and (white[:, 3:5, 3:5] == 0).all()
