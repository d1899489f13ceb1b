"""Clusters by code, color and texture: their distances, their number, names, parts and groups."""

from __future__ import annotations

import csv
import dataclasses
import random as plain_random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score

import aerun
from aerun.cli.organise import format_clusters
from aerun.errors import ConfigError
from aerun.use.clusters.cluster_files import draw_cluster, foreign_files, write_clusters
from aerun.use.clusters.cluster_names import as_file_name, color_words, name_clusters
from aerun.use.clusters.cluster_table import cluster_rows, place_of
from aerun.use.clusters.clustering import Clusters, organise
from aerun.use.clusters.fused_points import WEIGHTS, fused_points
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.looks import TEXTURE_SIZES, Looks, looks_of
from aerun.use.collection.thumbnails import Thumbnails
from aerun.use.opened_run import open_run

RANDOM = np.random.default_rng(0)
Trained = Callable[..., Path]
WORDS = ("red", "green", "blue")


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """[3 count,3,16,16]: smooth red, striped green and noisy blue ones, and which of the three each is."""
    result = np.full((3 * count, 3, 16, 16), 30, np.uint8)
    kinds = np.repeat(np.arange(3), count)
    for number, kind in enumerate(kinds):
        noise = RANDOM.integers(0, 60, (16, 16))
        stripes = np.broadcast_to(np.arange(16) // (1 + number % 3) % 2 * 120, (16, 16))
        result[number, kind] = [np.full((16, 16), 195 + number % 50), 100 + stripes, 120 + 2 * noise][kind]
    return result, kinds


def prints(count: int = 60) -> tuple[Fingerprints, np.ndarray]:
    images, kinds = pictures(count)
    names = [f"{('roses', 'leaves', 'fish')[kind]}/{number}.png" for number, kind in enumerate(kinds)]
    codes = RANDOM.normal(0, 1, (len(kinds), 8)).astype(np.float32)
    return Fingerprints(names, codes, "weights", root="/", looks=looks_of(images)), kinds


def test_fused_distances_are_weighted_sums() -> None:
    """Of all pairs, by loops: each part's squared distance, divided by its mean over the collection."""
    made, _ = prints(4)
    assert made.looks is not None and made.looks.textures is not None
    points, parts = fused_points(made, None, "cosine")
    assert parts == ("code", "color", "texture")
    count = len(made)
    squares = np.zeros((3, count, count))
    textures = np.split(made.looks.textures / 255, np.cumsum(TEXTURE_SIZES)[:-1], 1)
    units = made.codes / np.linalg.norm(made.codes.astype(float), axis=1, keepdims=True)
    for row in range(count):
        for other in range(count):
            squares[0, row, other] = ((units[row] - units[other]) ** 2).sum()
            squares[1, row, other] = ((made.looks.colors[row] / 255 - made.looks.colors[other] / 255) ** 2).sum()
            for each in textures:
                mean = np.mean([[((a - b) ** 2).sum() for a in each] for b in each])
                squares[2, row, other] += ((each[row] - each[other]) ** 2).sum() / mean if mean else 0
    wanted = sum(WEIGHTS[name] * each * 2 / each.mean() for name, each in zip(parts, squares, strict=True))
    found = ((points[:, None] - points[None]) ** 2).sum(2)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_what_is_compared() -> None:
    made, kinds = prints()
    for by in ("color", "texture"):
        found = organise(made, 3, by=by)
        assert adjusted_rand_score(kinds, found.assigned) == 1 and found.compared == (by,)
    assert adjusted_rand_score(kinds, organise(made, 3, by="code").assigned) < 0.2  # which are noise
    assert made.looks is not None
    older = dataclasses.replace(made, looks=Looks(made.looks.thumbnails, made.looks.colors))
    assert organise(older, 3).compared == ("code", "color")
    for by in ("all", "texture"):
        with pytest.raises(ConfigError, match=rf"by={by}: .* has no texture: make it again with aerun-embed"):
            organise(older, 3, by=by)
    with pytest.raises(ConfigError, match="by=code,shade: must be all, or some of code, color, texture, size"):
        organise(older, 3, by="code,shade")
    assert organise(made, 3, by="texture, code").compared == ("code", "texture")
    for wrong in ("code=0", "code=-1,color", "color=x", "texture=inf", "texture=nan"):
        with pytest.raises(ConfigError, match="each with a weight above 0"):
            organise(made, 3, by=wrong)
    heavy, _ = fused_points(made, "code=4,color", "cosine")
    light, _ = fused_points(made, "code,color", "cosine")
    size = made.codes.shape[1]
    np.testing.assert_allclose(heavy[:, :size], 2 * light[:, :size])
    np.testing.assert_array_equal(heavy[:, size:], light[:, size:])
    files = np.full((len(kinds), 4), 64)
    files[:, 2:] *= 1 + kinds[:, None]
    sized = dataclasses.replace(made, looks=dataclasses.replace(made.looks, files=files))
    assert adjusted_rand_score(kinds, organise(sized, 3, by="size").assigned) == 1
    with pytest.raises(ConfigError, match="by=color: the collection has no color"):
        organise(made.codes, 3, by="color")
    assert np.array_equal(organise(made, 3, by="code").assigned, organise(made.codes, 3).assigned)


@pytest.mark.parametrize("true", [1, 3, 7, 12])
def test_the_number_of_blobs_is_found(true: int) -> None:
    """Round and stretched ones, among 1 to 32."""
    random = np.random.default_rng(true)
    centers = random.normal(0, 8, (true, 10))
    stretch = random.uniform(0.3, 1.5, (true, 10))
    labels = np.repeat(np.arange(true), 90)
    codes = centers[labels] + random.normal(0, 1, (len(labels), 10)) * stretch[labels]
    found = organise(codes.astype(np.float32), metric="euclidean")
    assert found.count == true == min(found.criteria, key=lambda number: found.criteria[number])
    assert adjusted_rand_score(labels, found.assigned) > 0.99 or true == 1


def test_the_criterion_is_that_of_a_gaussian() -> None:
    """Of one cluster in closed form: BIC = p ln n - 2 ln L, with the covariance of maximal likelihood."""
    from scipy.stats import multivariate_normal
    from sklearn.decomposition import PCA

    codes = np.random.default_rng(1).normal(0, 1, (400, 4)) * (3, 2, 1, 0.5)
    found = organise(codes.astype(np.float32), (1, 2), metric="euclidean")
    points = PCA(4).fit_transform(codes)
    covariance = np.cov(points.T, bias=True) + 1e-3 * points.var() * np.eye(4)
    likelihood = multivariate_normal(points.mean(0), covariance).logpdf(points).sum()
    assert found.criteria[1] == pytest.approx(((4 + 10) * np.log(400) - 2 * likelihood) / 400, rel=1e-4)


def test_no_structure_is_said() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (500, 12)).astype(np.float32)
    found = organise(noise, metric="euclidean")
    assert found.count == 1
    made = Fingerprints([str(row) for row in range(500)], noise, "")
    assert "one cluster fits best: the pictures form no groups" in format_clusters(made, found)
    assert organise(noise, 5, metric="euclidean").count == 5


def test_a_cluster_is_named_by_color_and_folder() -> None:
    made, kinds = prints()
    found = organise(made, 3, by="color")
    for number in range(3):
        kind = kinds[found.members(number)[0]]
        assert found.names[number] == f"{WORDS[kind]}-{('roses', 'leaves', 'fish')[kind]}"
    flat = dataclasses.replace(made, names=[f"img_{WORDS[k]}_{i}.png" for i, k in enumerate(kinds)], looks=None)
    assert name_clusters(flat, kinds, np.arange(len(kinds))) == WORDS
    lone = dataclasses.replace(flat, names=[f"{i}.png" for i in range(len(kinds))])
    assert name_clusters(lone, kinds, np.arange(len(kinds))) == ("0", "60", "120")  # of the most typical


def test_color_words() -> None:
    words = color_words()
    for (red, green, blue), word in {
        (0, 0, 0): "black",
        (3, 3, 3): "white",
        (2, 2, 2): "gray",
        (3, 0, 0): "red",
        (3, 3, 0): "yellow",
        (0, 3, 0): "green",
        (0, 0, 3): "blue",
        (3, 0, 3): "pink",
        (1, 0, 3): "purple",
        (2, 1, 0): "brown",
    }.items():
        assert words[16 * red + 4 * green + blue] == word
    assert as_file_name("a/b: c_d?" + "x" * 40) == "a-b-c-d-" + "x" * 16 and as_file_name("\udcff") == "udcff"


def test_a_second_level_finds_parts_of_clusters() -> None:
    """Two far groups, the first of three near ones."""
    random = np.random.default_rng(0)
    centers = np.zeros((4, 12))
    centers[1:3, :2] = [[8, 0], [0, 8]]
    centers[3, 5] = 200
    labels = np.repeat(np.arange(4), 100)
    codes = (centers[labels] + random.normal(0, 1, (400, 12))).astype(np.float32)
    found = organise(codes, 2, metric="euclidean", levels=2)
    assert found.parts is not None and found.count == 2
    first = found.assigned == 0
    assert adjusted_rand_score(labels[first], found.parts[first]) == 1 and found.parts[first].max() == 2
    assert (found.parts[~first] == -1).all()
    with pytest.raises(ConfigError, match="levels=3: must be 1 or 2"):
        organise(codes, 2, levels=3)


def test_files_of_two_levels(trained: Trained, tmp_path: Path) -> None:
    images, kinds = pictures(3)
    (tmp_path / "art").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "art" / f"{number}.png")
    names = [f"{number}.png" for number in range(9)]
    made = Fingerprints(names, np.zeros((9, 2), np.float32), "", root=str(tmp_path / "art"))
    parts = np.array([0, 1, 0, -1, -1, -1, -1, -1, -1])
    found = Clusters(kinds, np.arange(9.0), 3, {}, names=("a", "b", "c"), parts=parts, part_names={0: ("even", "odd")})
    thumbnails = Thumbnails(open_run(trained()), made)
    write_clusters(tmp_path / "out", thumbnails, found, groups=[[3, 4]], links=True)
    rows = list(csv.DictReader((tmp_path / "out" / "clusters.csv").open()))
    assert list(rows[0]) == ["file", "cluster", "distance", "name", "part", "part_name", "group"]
    assert [row["part_name"] for row in rows[:4]] == ["even", "odd", "even", ""]
    assert [row["group"] for row in rows] == ["", "", "", "0", "0", "", "", "", ""]
    links = {path.relative_to(tmp_path / "out" / "links").as_posix() for path in tmp_path.glob("out/links/**/*.png")}
    assert links == {
        *("0-a/0-even/0.png", "0-a/0-even/2.png", "0-a/1-odd/1.png"),
        *(f"1-b/{row}.png" for row in (3, 4, 5)),
        *(f"2-c/{row}.png" for row in (6, 7, 8)),
    }
    assert (tmp_path / "out" / "sheets" / "0-a" / "1-odd.png").is_file()
    assert foreign_files(tmp_path / "out") == []
    (tmp_path / "out" / "links" / "0-a" / "0-even" / "mine.txt").touch()
    (tmp_path / "out" / "sheets" / "0-a" / "2-else.png").touch()
    assert foreign_files(tmp_path / "out") == ["links/0-a/0-even/mine.txt", "sheets/0-a/2-else.png"]
    plain = draw_cluster(thumbnails, found, 1)
    grouped = draw_cluster(thumbnails, found, 1, groups=[[3, 4]])
    assert grouped.shape[1] < plain.shape[1]  # one tile less
    assert place_of(found, 0, 1) == "0-a/1-odd" and cluster_rows(made, found)[0]["part"] == 0


def test_large_collections_are_named_by_their_typical_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = prints()
    wanted = organise(made, 3, by="color").names
    monkeypatch.setattr("aerun.use.clusters.clustering.NAMED_BY", 5)
    assert organise(made, 3, by="color").names == wanted
    # The five most typical of a cluster are all of its first part: the second is named by pictures of its own.
    far = np.repeat([[0.0, 0.0], [3.0, 0.0], [500.0, 0.0]], (90, 45, 45), 0)
    codes = (far + RANDOM.normal(0, 0.3, far.shape)).astype(np.float32)
    found = organise(dataclasses.replace(made, codes=codes), 2, by="code", metric="euclidean", levels=2)
    assert found.parts is not None and found.parts[found.assigned == 0].max() == 1
    assert [len(names) for names in found.part_names.values()] == [2]


def test_the_order_of_the_pictures_does_not_matter_to_distinct_clusters() -> None:
    made, kinds = prints()
    order = list(range(len(made)))
    plain_random.Random(1).shuffle(order)
    assert made.looks is not None
    looks = Looks(*(values[order] for values in made.looks.arrays().values()))
    mixed = dataclasses.replace(made, names=[made.names[row] for row in order], codes=made.codes[order], looks=looks)
    assert adjusted_rand_score(kinds[order], aerun.organise(mixed, 3, by="color").assigned) == 1
