"""Search for copies and by colors, of pictures that are made here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter, map_coordinates

from aerun.errors import ConfigError, DataError
from aerun.use.collection.fingerprint_files import load_fingerprints, save_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.looks import SIDE, Looks, as_picture, colors_of, looks_of, square, trim
from aerun.use.search.copy_search import (
    COARSE,
    COPY_PARTS,
    LOOK_SEARCHES,
    MISSING,
    Window,
    _coarse,
    search_colors,
    search_copies,
    search_motifs,
    windows,
)
from aerun.use.search.fused_search import WEIGHTS, Scale, fuse, search_all
from aerun.use.search.queries import Query
from aerun.use.search.query_variants import evenly_lit, straightened, without_marks
from aerun.use.search.registration import register, shown_area
from aerun.use.search.vector_index import Neighbors

COUNT, SIZE = 12, 64


def smooth(count: int, seed: int = 0) -> np.ndarray:
    """Pictures of colored clouds, uint8 [N,3,64,64]."""
    noise = np.random.default_rng(seed).normal(0, 1, (count, 3, SIZE, SIZE))
    clouds = gaussian_filter(noise, (0, 0, 5, 5))
    lowest, highest = (f(clouds, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    return ((clouds - lowest) / (highest - lowest) * 255).astype(np.uint8)


IMAGES = smooth(COUNT)


def fingerprints(images: np.ndarray = IMAGES) -> Fingerprints:
    names = [f"{number}.png" for number in range(len(images))]
    return Fingerprints(names, np.zeros((len(images), 2), np.float32), "weights", root="/", looks=looks_of(images))


def changed(change: str) -> np.ndarray:
    """A copy of each picture, [N,3,64,64]."""
    result = []
    for image in IMAGES:
        picture = Image.fromarray(image.transpose(1, 2, 0))
        if change == "mirrored":
            picture = ImageOps.mirror(picture)
        elif change == "cropped":
            picture = picture.crop((10, 3, 60, 53))
        elif change == "darker":
            picture = Image.fromarray((np.asarray(picture) * 0.7).astype(np.uint8))
        elif change == "in a frame":
            picture = ImageOps.expand(picture, 20, "white")
        elif change == "turned":
            picture = picture.rotate(5, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
        elif change == "photographed":
            table = Image.new("RGB", (100, 96), (90, 60, 40))
            table.paste(picture.resize((70, 66)), (14, 17))
            picture = table
        result.append(np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).transpose(2, 0, 1))
    return np.stack(result)


@pytest.mark.parametrize(
    "change", ["as it is", "mirrored", "cropped", "darker", "in a frame", "turned", "photographed"]
)
def test_a_copy_finds_its_original_first(change: str) -> None:
    found = search_copies(fingerprints(), changed(change), 3)
    assert found.rows[:, 0].tolist() == list(range(COUNT))
    assert (np.diff(found.distances) >= 0).all() and (found.distances >= 0).all()


def test_a_picture_that_is_excluded_is_not_found() -> None:
    for search in (search_copies, search_colors):
        found = search(fingerprints(), IMAGES[:1], COUNT, [[0, 7]])
        assert set(range(COUNT)) - set(found.rows[0].tolist()) == {0, 7} and np.isfinite(found.distances).all()


def test_the_first_comparison_is_the_best_correlation_over_windows() -> None:
    random = torch.Generator().manual_seed(0)
    thumbnails, gray = (torch.rand(shape, generator=random) for shape in ((3, 2, SIDE, SIDE), (2, SIDE, SIDE)))
    thumbnails = (thumbnails * 255).round()
    found, window, variant = _coarse(thumbnails.numpy().astype(np.uint8), gray, windows(COPY_PARTS))
    small = thumbnails.double().reshape(3, 2, COARSE, 4, COARSE, 4).mean((3, 5))
    for row, kind in np.ndindex(3, 2):
        best = np.inf
        for number, place in enumerate(windows(COPY_PARTS)):
            asked = torch.nn.functional.interpolate(
                gray[:, None].double(), (place.side, place.side), mode="bilinear", antialias=True
            )[:, 0]
            part = small[row, kind, place.top : place.top + place.side, place.left : place.left + place.side]
            for which in range(len(gray)):
                correlation = np.corrcoef(part.flatten(), asked[which].flatten())[0, 1]
                distance = 1 - correlation + MISSING * (1 - (place.side / COARSE) ** 2)
                if distance < best:
                    best, at = distance, (number, which)
        assert found[row, kind] == pytest.approx(best, abs=1e-5)
        assert (window[row, kind], variant[row, kind]) == at


def test_a_homography_is_found_again() -> None:
    """The known picture is seen through a homography by SciPy, with another contrast and a dark mark."""
    axis = (np.arange(SIZE) + 0.5) * 2 / SIZE - 1
    v, u = np.meshgrid(axis, axis, indexing="ij")
    a, b, c, d, e, f, g, h = shape = np.array([0.86, 0.04, 0.05, -0.03, 0.9, -0.02, 0.03, -0.02])
    depth = 1 + g * u + h * v
    places = [((each / depth + 1) * SIZE - 1) / 2 for each in (d * u + e * v + f, a * u + b * v + c)]
    known = IMAGES[:, 0].astype(np.float64) / 255
    asked = np.stack([0.3 + 0.5 * map_coordinates(picture, places, order=3, mode="nearest") for picture in known])
    start = torch.tensor([0.875, 0, 0, 0, 0.875, 0, 0, 0]).repeat(COUNT, 1)
    fit = register(torch.from_numpy(known).float(), torch.from_numpy(asked).float(), start, 12)
    assert np.abs(fit.shape.numpy() - shape).max() < 0.02 and fit.likeness.min() > 0.99
    assert shown_area(fit.shape).numpy() == pytest.approx(a * e - b * d, abs=0.02)
    marked = asked.copy()
    marked[:, 10:14, 20:40] = 0
    fit = register(torch.from_numpy(known).float(), torch.from_numpy(marked).float(), start, 12)
    assert np.abs(fit.shape.numpy() - shape).max() < 0.03
    other = register(torch.from_numpy(known[::-1].copy()).float(), torch.from_numpy(asked).float(), start, 12)
    assert (other.likeness < fit.likeness).all()


def test_uneven_light_becomes_even_and_specks_are_filled_in() -> None:
    rows, columns = np.mgrid[0:1:80j, 0:1:100j]
    page = np.full((80, 100, 3), 255.0)
    page[20:60, 30:70] = (40, 90, 160)
    taken = page * (0.9 - 0.3 * columns - 0.1 * rows)[..., None] * (1, 0.95, 0.85)
    found = evenly_lit(taken.astype(np.uint8))
    assert found is not None and np.abs(found.astype(float) - page).max() < 4
    marked = page.copy()
    marked[10:13, 10:13] = marked[70, 80:90] = 30
    assert np.array_equal(without_marks(marked.astype(np.uint8)), page)
    assert evenly_lit(np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)) is None


def test_a_motif_finds_the_picture_that_it_is_a_part_of() -> None:
    parts = IMAGES[:, :, 8:40, 24:56]  # half of each side
    assert search_motifs(fingerprints(), list(parts), 1).rows[:, 0].tolist() == list(range(COUNT))


def test_a_row_of_the_collection_is_a_query_without_its_file() -> None:
    twice = np.concatenate([IMAGES, IMAGES[:3]])
    for search in (search_copies, search_motifs, search_colors):
        found = search(fingerprints(twice), [0, 1, 2], 2, [[0], [1], [2]])
        assert found.rows[:, 0].tolist() == [COUNT, COUNT + 1, COUNT + 2]


def test_a_scale_counts_pairs() -> None:
    """Two pictures of which the nearest 3 of 9 others are known: beyond its third a picture does not count."""
    scale = Scale(np.array([[0.1, 0.2, 0.3], [0.2, 0.4, 0.5]]), 9)
    chances = scale.chance(np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6]))
    want = [1 / 19, 2 / 19, 2 / 19, 4 / 19, 5 / 19, 5 / 19, 3 / 10, 4 / 10, 1]
    assert chances == pytest.approx(want)
    assert Scale(np.array([[0.1, 0.7]]), 2).chance(np.array([0.1, 0.7])) == pytest.approx([2 / 3, 1])


def test_fusing_takes_the_rarest_distance_and_names_its_measure() -> None:
    scale = Scale(np.array([[0.1, 0.2, 0.3, 0.4]]), 4)
    each = {
        "copy": Neighbors(np.array([[5, 2]]), np.array([[0.1, 0.35]])),
        "color": Neighbors(np.array([[2, 7]]), np.array([[0.0, 0.0]])),
    }
    found = fuse(each, dict.fromkeys(each, scale), 3)
    by_hand = {5: 2 / 5, 2: (1 / 5) ** WEIGHTS["color"], 7: (1 / 5) ** WEIGHTS["color"]}
    assert found.rows.tolist() == [[5, 2, 7]]  # 2 before 7: it was found by both
    assert found.distances[0] == pytest.approx([by_hand[row] for row in (5, 2, 7)])
    assert found.by.tolist() == [["copy", "color", "color"]]


def test_all_measures_find_copies_that_one_of_them_finds() -> None:
    random = np.random.default_rng(0)
    codes = random.normal(0, 1, (COUNT, 16)).astype(np.float32)
    made = dataclasses.replace(fingerprints(), codes=codes)
    alike = codes + random.normal(0, 0.01, codes.shape).astype(np.float32)
    noise = random.integers(0, 256, (3, SIZE, SIZE), np.uint8)
    queries = [Query("by code", alike[3]), Query("by copy", random.normal(0, 1, 16).astype(np.float32))]
    found = search_all(made, queries, [noise, changed("photographed")[6]], 4)
    assert found.rows[:, 0].tolist() == [3, 6] and found.by[:, 0].tolist() == ["likeness", "copy"]
    with pytest.raises(ConfigError, match="by=all: these codes: there is one image, so there are no pairs; use copy"):
        search_all(fingerprints(IMAGES[:1]), queries, [noise, noise])


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 50), (1, 8, 8), (3, 192, 5)])
def test_queries_of_any_shape_have_finite_distances(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for image in (random, np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)):
        for search in (search_copies, search_motifs, search_colors):
            found = search(fingerprints(), [image], 20)
            assert sorted(found.rows[0].tolist()) == list(range(COUNT)) and np.isfinite(found.distances).all()


def test_a_window_is_a_part() -> None:
    values = torch.arange(25.0).view(1, 5, 5)
    assert Window(1, 2, 2).of(values).tolist() == [[7, 8, 12, 13]]


def test_margins_of_several_colors_are_cut_off() -> None:
    picture = np.full((20, 30, 3), 255, np.uint8)
    picture[:, :4] = (200, 10, 10)
    picture[5:15, 8:25] = np.random.default_rng(0).integers(0, 100, (10, 17, 3))
    assert trim(picture).shape == (10, 17, 3)
    assert trim(np.full((9, 9, 3), 7, np.uint8)).shape == (9, 9, 3)  # nothing else would be left


def test_gray_is_between_luminance_and_lightness_and_colors_are_counted() -> None:
    image = smooth(1, 3)[0]
    picture = as_picture(image)
    red, green, blue = picture.astype(float).transpose(2, 0, 1)
    lightness = (picture.max(2).astype(float) + picture.min(2)) / 2
    want = (0.299 * red + 0.587 * green + 0.114 * blue + lightness) / 510
    np.testing.assert_allclose(square(picture, SIZE), want, atol=1e-5)
    counts = np.zeros((4, 4, 4))
    for pixel in picture.reshape(-1, 3):
        counts[tuple(pixel // 64)] += 1
    np.testing.assert_allclose(colors_of(picture), np.sqrt(counts / counts.sum()).ravel(), rtol=1e-6)


def test_colors_find_a_picture_in_disorder() -> None:
    order = np.random.default_rng(0).permutation(SIZE * SIZE)
    shuffled = IMAGES.reshape(COUNT, 3, -1)[:, :, order].reshape(IMAGES.shape)
    found = search_colors(fingerprints(), shuffled, 2)
    assert found.rows[:, 0].tolist() == list(range(COUNT)) and found.distances[:, 0].max() < 0.01


def test_a_page_at_an_angle_is_straightened_and_a_picture_without_a_page_is_not() -> None:
    page = np.full((60, 80, 3), 250, np.uint8)
    page[20:40, 30:50] = (10, 20, 200)
    table = Image.new("RGB", (120, 100), (90, 60, 40))
    turned = Image.fromarray(page).convert("RGBA").rotate(4, Image.Resampling.BICUBIC, expand=True)
    table.paste(turned, (16, 16), turned)
    found = straightened(np.asarray(table))
    assert found is not None
    middle = np.asarray(Image.fromarray(found).resize((80, 60)))
    assert np.abs(middle[25:35, 35:45].astype(int) - (10, 20, 200)).max() < 12  # where it was on the page
    assert np.abs(middle[4:16, 6:74].astype(int) - 250).max() < 12
    assert straightened(np.full((40, 40, 3), 128, np.uint8)) is None


def test_a_file_keeps_looks_and_files_without_them_still_open(tmp_path: Path) -> None:
    made = fingerprints()
    save_fingerprints(made, tmp_path / "new.npz", made.pack())
    read = load_fingerprints(tmp_path / "new.npz")
    assert read.looks is not None and made.looks is not None
    assert np.array_equal(read.looks.thumbnails, made.looks.thumbnails)
    assert np.array_equal(read.looks.colors, made.looks.colors)
    older = dataclasses.replace(made, looks=None)
    save_fingerprints(older, tmp_path / "old.npz", older.pack())
    found = load_fingerprints(tmp_path / "old.npz")
    for search in (search_copies, search_colors):
        with pytest.raises(
            ConfigError, match=r"old\.npz: has no thumbnails and colors, .* make it again with aerun-em"
        ):
            search(found, IMAGES[:1])


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_smaller_thumbnails_of_older_files_are_searched(tmp_path: Path, suffix: str) -> None:
    made = fingerprints()
    assert made.looks is not None
    small = made.looks.thumbnails.reshape(COUNT, 2, 32, 2, 32, 2).mean((3, 5)).round().astype(np.uint8)
    older = dataclasses.replace(made, looks=Looks(small, made.looks.colors))
    save_fingerprints(older, tmp_path / f"old{suffix}", older.pack())
    found = load_fingerprints(tmp_path / f"old{suffix}")
    assert found.looks is not None and np.array_equal(found.looks.thumbnails, small)
    for change in ("cropped", "photographed"):
        assert search_copies(found, changed(change), 3).rows[:, 0].tolist() == list(range(COUNT))


@pytest.mark.parametrize("name", ["thumbnails", "colors", "textures"])
def test_looks_that_do_not_fit_are_damage(tmp_path: Path, name: str) -> None:
    made = fingerprints()
    save_fingerprints(made, tmp_path / "a.npz", made.pack())
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "short.npz", **{**arrays, name: arrays[name][:-1]})
    np.savez(tmp_path / "float.npz", **{**arrays, name: arrays[name].astype(np.float32)})
    for file in ("short.npz", "float.npz"):
        with pytest.raises(DataError, match=rf"is damaged \({COUNT} names, {name} .* of shape"):
            load_fingerprints(tmp_path / file)


@pytest.mark.parametrize("search", LOOK_SEARCHES.values(), ids=LOOK_SEARCHES)
def test_queries_with_other_exclusions_have_as_many_results(search: Any, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 40, 40), np.uint8)
    prints = Fingerprints([f"{n}.png" for n in range(6)], np.ones((6, 2), np.float32), "x", looks=looks_of(images))
    found = search(prints, list(images[:2]), 12, [[0], []])
    assert found.rows.shape == (2, 5) and 0 not in found.rows[0].tolist() and found.rows[1, 0] == 1
