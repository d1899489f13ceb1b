"""From a folder of images to fingerprints, searches and clusters, through the commands."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

import aerun
from aerun.cli import embed, organise, search
from aerun.dataset import row_file
from aerun.errors import AerunError, ConfigError, DataError
from aerun.use.clusters.clustering import METHODS
from aerun.use.collection import compression as comparing
from aerun.use.collection.embedding import PARTS, embed_split, load_split
from aerun.use.collection.fingerprint_files import load_fingerprints, save_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import Thumbnails
from aerun.use.collection.views import make_views
from aerun.use.contact_sheet import Tile
from aerun.use.image_files import find_images, read_inputs
from aerun.use.opened_run import OpenedRun, open_run
from aerun.use.search import crop_search, duplicate_threshold
from aerun.use.search import search_results as found_sheets
from aerun.use.search.code_search import KINDS
from aerun.use.search.crop_search import pixel_distances
from aerun.use.search.duplicate_threshold import estimate_threshold
from aerun.use.search.duplicates import Pairs
from aerun.use.search.queries import find_queries
from aerun.use.search.vector_index import METRICS, exact_distances

Trained = Callable[..., Path]
SPARSE = ("sparsity=topk", "sparsity.k=8")


@pytest.fixture
def folder(trained: Trained) -> Path:
    return trained(*SPARSE)


@pytest.fixture
def run(folder: Path) -> OpenedRun:
    return open_run(folder)


@pytest.fixture
def collection(run: OpenedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve garments in two folders, one of them twice; with an empty cache."""
    monkeypatch.setenv("AERUN_DATA", str(tmp_path / "cache"))
    images = load_split(run, "test")[0].inputs[:12]
    root = tmp_path / "pictures"
    for number, image in enumerate(images.numpy()):
        place = root / ("even" if number % 2 == 0 else "odd") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(place)
    (root / "odd" / "again.png").write_bytes((root / "even" / "4.png").read_bytes())
    return root


@pytest.fixture
def fingerprints(folder: Path, collection: Path, tmp_path: Path) -> Path:
    """The collection's file of aerun-embed."""
    call(embed, folder, collection, "-o", tmp_path / "prints.npz")
    return tmp_path / "prints.npz"


def call(command: object, *words: object) -> None:
    """Run a command in this process, so that its errors are raised."""
    asked = command.build_parser().parse_args([str(word) for word in words])  # type: ignore[attr-defined]
    command.execute(asked)  # type: ignore[attr-defined]


def test_embed_stores_codes_names_and_labels(run: OpenedRun, collection: Path, fingerprints: Path) -> None:
    made = load_fingerprints(fingerprints)
    (chunk,) = read_inputs(run, find_images(collection))
    assert made.names == chunk[0] and len(made) == 13 and made.names[0] == "even/0.png"
    assert np.array_equal(made.codes, run.encode(chunk[1]).numpy())
    assert made.labels is not None and made.labels.tolist() == [0] * 6 + [1] * 7 and made.classes == ["even", "odd"]
    assert (made.weights, made.root) == (run.fingerprint, str(collection))
    assert made.label(0) == "even"
    zeros = [np.mean([code == 0 for code in unit]) for unit in made.codes.T.tolist()]
    np.testing.assert_allclose(made.statistics()["zeros"], zeros, rtol=1e-6)
    np.testing.assert_allclose(made.statistics()["deviation"], made.codes.std(0), atol=1e-6)
    again = aerun.embed(run.folder, collection)  # from the cached pixels
    assert again.names == made.names and np.array_equal(again.codes, made.codes)
    assert np.array_equal(aerun.embed(run, chunk[1]).codes, made.codes)


@pytest.mark.parametrize("form", ["float16", "int8", "bits"])
def test_files_return_the_packed_codes(run: OpenedRun, fingerprints: Path, tmp_path: Path, form: str) -> None:
    made = load_fingerprints(fingerprints)
    packed = made.pack(form)  # type: ignore[arg-type]
    save_fingerprints(made, tmp_path / "small.npz", packed)
    back = load_fingerprints(tmp_path / "small.npz")
    assert np.array_equal(back.codes, packed.unpack()) and back.names == made.names
    back.require_same_run(run)


@pytest.mark.parametrize("form", ["float32", "float16", "int8"])
def test_parquet_files(folder: Path, collection: Path, fingerprints: Path, tmp_path: Path, form: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'parquet' is not installed")
    path = tmp_path / "prints.parquet"
    call(embed, folder, collection, "-o", path, "--as", form)
    made, back = load_fingerprints(fingerprints), load_fingerprints(path)
    assert np.array_equal(back.codes, made.pack(form).unpack())  # type: ignore[arg-type]
    assert back.looks is not None and made.looks is not None
    assert np.array_equal(back.looks.thumbnails, made.looks.thumbnails)
    assert np.array_equal(back.looks.colors, made.looks.colors)
    assert dataclasses.replace(back, codes=0, labels=0, file="", looks=None) == dataclasses.replace(
        made, codes=0, labels=0, file="", looks=None
    )
    rows = parquet.read_table(path).to_pylist()
    assert [row["name"] for row in rows] == made.names and len(rows[0]["code"]) == 64
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="is damaged, or not a file of aerun-embed"):
        load_fingerprints(path)
    with pytest.raises(ConfigError, match=r"hold float32, float16 or int8; for bits use \.npz"):
        call(embed, folder, collection, "-o", path, "--as", "bits")


def test_embed_a_split_of_the_runs_data(run: OpenedRun, tmp_path: Path) -> None:
    call(embed, run.folder, "--split", "test", "-o", tmp_path / "test.npz")
    made, (split, classes) = load_fingerprints(tmp_path / "test.npz"), load_split(run, "test")
    assert made.names[1] == "test/000001" and made.split == "test" and made.classes == classes
    assert split.labels is not None and made.labels is not None and made.labels.tolist() == split.labels.tolist()
    assert np.array_equal(made.codes[:70], run.encode(split.inputs[:70]).numpy())
    assert len(embed_split(run, "validation")) == len(load_split(run, "validation")[0])


def test_search_by_name_and_by_file(
    folder: Path, collection: Path, fingerprints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes((collection / "odd" / "3.png").read_bytes())
    inside = collection / "even" / "4.png"
    capsys.readouterr()
    sheet = tmp_path / "found.png"
    call(search, folder, fingerprints, "even/4.png", inside, outside, "-k", 3, "--json", "--sheet", sheet)
    answer = json.loads(capsys.readouterr().out)
    by_name, by_path, by_file = answer["queries"]
    assert by_name["neighbours"] == by_path["neighbours"] and by_name["query"] == by_path["query"] == "even/4.png"
    assert (by_name["neighbours"][0]["file"], by_name["neighbours"][0]["label"]) == ("odd/again.png", "odd")
    assert by_name["neighbours"][0]["distance"] < 1e-9
    assert "even/4.png" not in [near["file"] for near in by_name["neighbours"]]
    assert by_file["neighbours"][0]["file"] == "odd/3.png" and not by_file["in_collection"]
    assert Image.open(sheet).width == 8 + 4 * 104
    (collection / "odd" / "again.png").unlink()
    with pytest.raises(ConfigError, match=r"found\.png: already exists; pass --overwrite to replace it"):
        call(search, folder, fingerprints, "even/4.png", "--sheet", sheet)
    call(search, folder, fingerprints, "even/4.png", "-k", 99, "--sheet", sheet, "--overwrite")
    text = capsys.readouterr().out
    assert "-k 99: the collection has only 12 other images" in text and "odd/again.png" in text
    assert Image.open(sheet).getpixel((8 + 104 + 48, 8 + 48)) == (200, 200, 200)


def test_views_find_the_image_that_contains_a_part(
    run: OpenedRun, collection: Path, fingerprints: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part.png"
    with Image.open(collection / "odd" / "5.png") as whole:
        whole.resize((280, 280)).crop((0, 0, 252, 252)).save(part)  # the upper left 90%
    made = load_fingerprints(fingerprints)
    plain, shown = (find_queries(run, made, [str(part), "even/4.png"], views) for views in (1, 10))
    assert plain[0].code.shape == (64,) and shown[0].code.shape == (10, 64) and shown[0].row == -1
    assert np.array_equal(plain[0].code, shown[0].code[0]) and np.array_equal(plain[1].code, shown[1].code[0])
    near = [aerun.search(made, query[0].code[None], 13) for query in (plain, shown)]
    row = made.names.index("odd/5.png")
    before, after = (found.distances[0, found.rows[0] == row][0] for found in near)
    assert after < before and near[1].rows[0, 0] == row
    call(search, run.folder, fingerprints, part, "--views", 10, "--sheet", tmp_path / "sheet.png")


def test_cropped_search_finds_the_original(
    run: OpenedRun, collection: Path, fingerprints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / "part.png"
    with Image.open(collection / "odd" / "5.png") as whole:
        whole.resize((280, 280)).crop((28, 14, 280, 266)).save(part)  # right, and halfway between top and bottom
    capsys.readouterr()
    call(search, run.folder, fingerprints, part, "even/4.png", "-k", 5, "--cropped", "--json")
    answer = json.loads(capsys.readouterr().out)
    first, inside = (query["neighbours"] for query in answer["queries"])
    assert first[0]["file"] == "odd/5.png" and first[0]["distance"] < first[1]["distance"]
    assert inside[0]["file"] == "odd/again.png" and inside[0]["distance"] == 0 and len(inside) == 5
    (collection / "odd" / "5.png").unlink()
    call(search, run.folder, fingerprints, part, "-k", 13, "--cropped")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["rank", "pixels", "distance", "file"]
    assert lines[14].split() == ["13", "1.00000", "odd/5.png", "odd"]
    call(search, run.folder, fingerprints, part, "-k", 13, "--cropped", "--views", 1, "--metric", "cosine")


def test_a_copy_and_the_same_colors_are_found_by_thumbnails(
    run: OpenedRun, collection: Path, fingerprints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.png"
    with Image.open(collection / "odd" / "5.png") as whole:
        ImageOps.mirror(whole.resize((280, 280)).crop((28, 14, 280, 266))).save(copy)
    capsys.readouterr()
    call(search, run.folder, fingerprints, copy, "even/4.png", "-k", 5, "--by", "copy", "--json")
    answer = json.loads(capsys.readouterr().out)
    first, inside = (query["neighbours"] for query in answer["queries"])
    assert first[0]["file"] == "odd/5.png" and inside[0]["file"] == "odd/again.png" and len(inside) == 5
    call(search, run.folder, fingerprints, "even/4.png", "-k", 5, "--by", "color", "--sheet", tmp_path / "sheet.png")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["rank", "color", "distance", "file"]
    assert lines[2].split() == ["1", "0.00000", "odd/again.png", "odd"]
    call(search, run.folder, fingerprints, copy, "even/4.png", "-k", 5, "--by", "all", "--json")
    first, inside = (query["neighbours"] for query in json.loads(capsys.readouterr().out)["queries"])
    assert (first[0]["file"], first[0]["by"]) == ("odd/5.png", "copy") and inside[0]["file"] == "odd/again.png"
    found = aerun.search_pictures(run, fingerprints, [str(copy), "even/4.png"], 5)
    names = load_fingerprints(fingerprints).names
    assert [names[row] for row in found.rows[0]] == [near["file"] for near in first]
    assert found.distances[1].tolist() == [near["distance"] for near in inside]
    call(search, run.folder, fingerprints, copy, "-k", 2, "--by", "all", "--sheet", tmp_path / "all.png")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["rank", "share", "of", "pairs", "by", "file"] and lines[2].split()[2] == "copy"
    (collection / "even" / "4.png").unlink()
    for by in ("copy", "motif", "color"):
        found = aerun.search_pictures(run, fingerprints, ["even/4.png"], 2, by=by)
        assert names[found.rows[0, 0]] == "odd/again.png" and found.by.tolist() == [[by, by]]
    with pytest.raises(ConfigError, match="by=size: must be one of likeness, copy, motif, color, all"):
        aerun.search_pictures(run, fingerprints, ["even/4.png"], by="size")  # type: ignore[arg-type]
    for words in (["--cropped"], ["--metric", "cosine"], ["--views", 3], ["--index", "hnsw"], ["--duplicates", "auto"]):
        with pytest.raises(ConfigError, match=f"--by copy and {words[0]}.*: codes are not compared"):
            call(search, run.folder, fingerprints, copy, "--by", "copy", *words)


def test_pixel_distances_use_the_best_crop() -> None:
    random = np.random.default_rng(0)
    pictures = torch.from_numpy(random.integers(0, 256, (4, 3, 30, 20), np.uint8))
    cases = [(0.9, 0.0, 0.25), (0.9, 0.5, 0.5), (0.95, 1.0, 1.0), (0.8, 0.5, 0.0)]
    for number, (share, down, right) in enumerate(cases):
        gone = 1 - share
        matrix = np.array([[share, 0, (2 * right - 1) * gone], [0, share, (2 * down - 1) * gone]], np.float32)
        grid = torch.nn.functional.affine_grid(torch.from_numpy(matrix)[None], [1, 3, 30, 20], align_corners=False)
        part = torch.nn.functional.grid_sample(
            pictures[number][None] / 255, grid, mode="bicubic", padding_mode="border", align_corners=False
        ).clamp(0, 1)[0]
        distances = pixel_distances(part, pictures)
        assert distances[number] < 1e-6 and (np.delete(distances, number) > 0.1).all()
    distances = pixel_distances(pictures[0], pictures)
    whole = np.sqrt(((pictures.numpy() / 255 - pictures[0].numpy() / 255) ** 2).mean((1, 2, 3)))
    assert distances[0] == 0 and (distances[1:] <= whole[1:] + 1e-6).all()


def test_ranking_by_pixels_equals_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    pictures = torch.from_numpy(random.random((30, 1, 10, 10), np.float32))
    images = pictures[:5] + torch.from_numpy(random.random((5, 1, 10, 10), np.float32)) / 5
    near = np.stack([random.permutation(30)[:9] for _ in images])
    gone = int(near[0, 0])
    monkeypatch.setattr(crop_search, "QUERIES_PER_CHUNK", 2)

    def read(rows: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        there = rows[rows != gone][::-1]  # in another order
        return there, pictures[there.copy()]

    found = crop_search.rank_by_pixels(read, images, near, 9)
    for image, candidates, rows, distances in zip(images, near, found.rows, found.distances, strict=True):
        each = {int(r): 1.0 if r == gone else float(pixel_distances(image, pictures[r][None])[0]) for r in candidates}
        assert rows.tolist() == sorted(each, key=lambda row: each[row])
        np.testing.assert_allclose(distances, sorted(each.values()), rtol=1e-6)


def test_duplicates_are_listed(
    run: OpenedRun, fingerprints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    words = (run.folder, fingerprints, "--duplicates", "auto", "--json", "--sheet", tmp_path / "pairs.png")
    call(search, *words)
    answer = json.loads(capsys.readouterr().out)
    assert answer["duplicates"][0]["files"] == ["even/4.png", "odd/again.png"]
    assert answer["threshold"] == estimate_threshold(run, load_fingerprints(fingerprints)).threshold > 0
    call(search, run.folder, fingerprints, "--duplicates", "1e-9", "--metric", "euclidean")
    assert "1 pair within euclidean distance 1e-09, 2 images in 1 group" in capsys.readouterr().out


def test_the_sheet_of_groups_has_one_row_per_group(
    folder: Path, collection: Path, fingerprints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = load_fingerprints(fingerprints)
    pairs = Pairs(np.array([[0, 1], [1, 2], [2, 3], [1, 3], [5, 6]]), np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    drawn: list[tuple[list[Tile], int, str]] = []
    monkeypatch.setattr(
        found_sheets, "draw_contact_sheet", lambda t, c, title="": drawn.append((list(t), c, title)) or t
    )
    thumbnails, names = Thumbnails(open_run(folder), made), [Path(name).name for name in made.names]
    found_sheets.draw_groups(thumbnails, pairs, 40)
    monkeypatch.setattr(found_sheets, "MAX_COLUMNS", 3)
    found_sheets.draw_groups(thumbnails, pairs, 1)
    assert [(columns, title) for _, columns, title in drawn] == [
        (4, "6 near-duplicates in 2 groups"),
        (3, "6 near-duplicates in 2 groups, 1 shown"),
    ]
    nearest = zip(("0.1000", "0.1000", "0.2000", "0.3000", "0.5000", "0.5000"), (0, 1, 2, 3, 5, 6), strict=True)
    captions = [f"{distance}\n{names[row]}" for distance, row in nearest]
    assert [tile.caption for tile in drawn[0][0]] == captions
    assert [tile.caption for tile in drawn[1][0]] == [*captions[:2], "and 2 more"]
    monkeypatch.undo()
    monkeypatch.setenv("AERUN_DATA", str(tmp_path / "cache"))
    sheets = [tmp_path / f"{number}.png" for number in range(3)]
    twice = ("--duplicates", "1e-9")
    for sheet, words in zip(sheets, [("even/0.png",), twice, ("even/0.png", *twice)], strict=True):
        call(search, folder, fingerprints, *words, "--metric", "euclidean", "--sheet", sheet)
    above, below, both = (np.asarray(Image.open(sheet)) for sheet in sheets)
    assert np.array_equal(both[: len(above)], above)
    assert (
        np.array_equal(both[len(above) :, : below.shape[1]], below)
        and (both[len(above) :, below.shape[1] :] == 255).all()
    )


def test_views_are_crops_of_an_image(run: OpenedRun, collection: Path, tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 40)[None, None, None, :].expand(1, 1, 40, 40)
    seen = make_views(ramp, 3)
    assert seen.shape == (3, 1, 1, 40, 40) and torch.equal(seen[0], ramp)
    # The middle and the upper left nine tenths: pixel i of 40 shows position (i + 0.5) * 0.9 + left of the original.
    for view, left in ((1, 2.0), (2, 0.0)):
        wanted = ((torch.arange(40) + 0.5) * 0.9 + left - 0.5) / 39
        # torch's cubic (a = -0.75) leaves a straight line by up to 2 (a + 1/2) t (1 - t) (1 - 2t) of a pixel's step.
        torch.testing.assert_close(seen[view, 0, 0, 20, 3:-3], wanted[3:-3], atol=0.05 / 39, rtol=0)
    margin = make_views(ramp, 3, 1 / 0.9)  # the ramp takes nine tenths, in the middle and on the left
    for view, left in ((1, 2.0), (2, 0.0)):
        wanted = (((torch.arange(40) + 0.5 - left) / 0.9 - 0.5) / 39).clamp(0, 1)
        torch.testing.assert_close(margin[view, 0, 0, 20, 5:-6], wanted[5:-6], atol=0.06 / 39, rtol=0)
    call(embed, run.folder, collection, "--views", 4, "-o", tmp_path / "views.npz")
    made = load_fingerprints(tmp_path / "views.npz")
    assert made.codes.shape == (13, 4, 64)
    found = aerun.search(made, made.codes[5, 2:3], 3)
    assert found.rows[0, 0] == 5 and found.distances[0, 0] < 1e-9


def test_cluster_files(
    folder: Path, collection: Path, fingerprints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.relative_to(collection) for path in collection.rglob("*"))
    place = tmp_path / "clusters"
    call(organise, folder, fingerprints, "-o", place, "--clusters", 3, "--links")
    text = capsys.readouterr().out
    rows = list(csv.DictReader((place / "clusters.csv").open()))
    assert [row["file"] for row in rows] == load_fingerprints(fingerprints).names and set(rows[0]) >= {
        "cluster",
        "distance",
    }
    ari = adjusted_rand_score([row["label"] for row in rows], [row["cluster"] for row in rows])
    assert f"with the 2 labels: adjusted Rand index {ari:.3f}" in text
    names = {f"{row['cluster']}-{row['name']}" for row in rows}
    assert {path.name for path in (place / "sheets").iterdir()} == {f"{name}.png" for name in names}
    assert [int(name[0]) for name in sorted(names)] == [0, 1, 2]
    for row in rows:
        link = place / "links" / f"{row['cluster']}-{row['name']}" / row["file"].replace("/", "__")
        assert link.is_symlink() and not link.readlink().is_absolute()
        assert link.resolve() == collection / row["file"]
    assert sorted(path.relative_to(collection) for path in collection.rglob("*")) == before
    with pytest.raises(ConfigError, match=r"clusters\.csv and 3 more: already exist; pass --overwrite to replace them"):
        call(organise, folder, fingerprints, "-o", place)
    call(organise, folder, fingerprints, "-o", place, "--clusters", 2, "--overwrite")
    names = {f"{row['cluster']}-{row['name']}" for row in csv.DictReader((place / "clusters.csv").open())}
    assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*.*")) == [
        "clusters.csv",
        "overview.png",
        *(f"sheets/{name}.png" for name in sorted(names)),
    ]
    assert sorted(path.relative_to(collection) for path in collection.rglob("*")) == before


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 24, 40)])
def test_jpeg_and_webp_within_as_many_bytes(shape: tuple[int, ...]) -> None:
    smooth = np.random.default_rng(0).normal(0, 1, (2, *shape)).cumsum(-1).cumsum(-2)
    pixels = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    for title, coder in (("JPEG", comparing.code_jpeg), ("WebP", comparing.code_webp)):
        sizes = [np.mean([coder(picture, quality)[0] for picture in pixels]) for quality in range(1, 96)]
        for wanted in (sizes[0] - 1, sizes[40] + 0.5, 1e9):
            row = comparing.best_quality_within_bytes(title, coder, pixels, wanted, {})
            below = [quality for quality, size in enumerate(sizes, 1) if size <= wanted]
            assert row.size == sizes[(max(below) if below else 1) - 1]
            assert ("larger than the codes" in row.note) == (not below)
    whole = len(comparing._encode_image(pixels[0], "jpeg", quality=50))
    assert 100 < whole - comparing.code_jpeg(pixels[0], 50)[0] < 700  # bytes of the tables
    assert comparing.psnr(pixels, pixels) == (100, 100)
    off = np.clip(pixels.astype(int) + np.where(pixels < 128, 2, -2), 0, 255).astype(np.uint8)
    assert comparing.psnr(pixels, off) == pytest.approx((20 * np.log10(255 / 2),) * 2)


def test_compression_is_measured(run: OpenedRun) -> None:
    images = load_split(run, "test")[0].inputs[:40]
    found = comparing.compare_compression(run, images)
    rows = {row.name: row for row in found.rows if row.name.startswith("codes")}
    assert [row.size for row in rows.values()][:3] == [256, 128, 64] and found.images == 40
    assert rows["codes, bits (8 per value)"].size < 8 + 8 + 0.2
    output = (run.reconstruct(images).clamp(0, 1) * 255).round() / 255
    error = (output.double() - images.double() / 255).square().flatten(1).mean(1)
    assert rows["codes, float32"].psnr == pytest.approx(float((-10 * error.log10()).mean()))
    assert rows["codes, float32"].pooled == pytest.approx(float(-10 * error.mean().log10()))
    weights = sum(value.numel() for value in run.autoencoder.decoder.parameters())
    assert found.decoder == 4 * weights
    text = comparing.format_table(found)
    assert "larger than the codes" in text and f"the decoder, {4 * weights:,} bytes" in text


def test_codes_of_another_run_are_rejected(trained: Trained, fingerprints: Path, tmp_path: Path) -> None:
    other = trained()
    for command, words in ((search, ["even/0.png"]), (organise, ["-o", tmp_path / "new"])):
        with pytest.raises(DataError, match=r"prints\.npz: made by another run \(.*, weights [0-9a-f]{16}\) than"):
            call(command, other, fingerprints, *words)
    assert not (tmp_path / "new").exists()


def damaged(place: Path, good: Path) -> dict[str, Path]:
    content = good.read_bytes()
    made = load_fingerprints(good)
    files = {name: place / f"{name}.npz" for name in ("cut", "flipped", "foreign", "text", "short")}
    files["cut"].write_bytes(content[: len(content) // 2])
    middle = len(content) // 3
    files["flipped"].write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    np.savez(files["foreign"], images=np.zeros(3))
    files["text"].write_text("nothing of the kind")
    save_fingerprints(dataclasses.replace(made, names=made.names[:-1]), files["short"], made.pack())
    return files


def test_foreign_and_damaged_files_are_rejected(folder: Path, fingerprints: Path, tmp_path: Path) -> None:
    for name, path in damaged(tmp_path, fingerprints).items():
        with pytest.raises(DataError, match=rf"{name}\.npz: is (damaged|not a file of aerun-embed)") as error:
            call(search, folder, path, "even/0.png")
        assert "\n" not in str(error.value) and "pickle" not in str(error.value)
    with pytest.raises(DataError, match="there is no such file; make it with aerun-embed"):
        call(search, folder, tmp_path / "none.npz", "even/0.png")


def test_invalid_arguments_are_rejected(trained: Trained, folder: Path, fingerprints: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    vectors = trained("dataset=random", "dataset.shape=[6]", "model.code_size=3")
    cases: list[tuple[object, tuple[object, ...], str]] = [
        (embed, (folder, tmp_path / "empty", "-o", tmp_path / "a.npz"), "contains no image file"),
        (embed, (folder, tmp_path, "-o", tmp_path / "a.txt"), "must end in .npz or .parquet"),
        (embed, (folder, tmp_path, "-o", fingerprints / "a.npz"), "prints.npz is not a folder"),
        (embed, (folder, "-o", tmp_path / "a.npz"), "name either a FOLDER of images, or --split"),
        (embed, (vectors, "--split", "test", "-o", tmp_path / "a.npz"), "must be gray or color images"),
        (embed, (tmp_path, fingerprints.parent, "-o", tmp_path / "a.npz"), "is not a run folder"),
        (
            embed,
            (folder, "--split", "test", "-o", tmp_path / "a.npz", "--device", "abacus"),
            "device=abacus: is not a device",
        ),
        (
            embed,
            (folder, "--split", "test", "-o", tmp_path / "a.npz", "--device", "xpu"),
            "device=xpu: is not available",
        ),
        (organise, (folder, fingerprints, "-o", tmp_path / "c", "--seed", "-1"), "must be a whole number from 0"),
        (search, (folder, fingerprints), "name an IMAGE, or use --duplicates auto"),
        (search, (folder, fingerprints, "nothing.png"), "neither the name of an image in the collection nor a file"),
        (search, (folder, fingerprints, "--duplicates", "-1"), "must be a distance, 0 or more, or auto"),
        (search, (folder, fingerprints, "a", "--sheet", "a.gif"), "must end in .png"),
        (organise, (folder, fingerprints, "-o", tmp_path / "c", "--clusters", "9-3"), "must be A-B with 2 <= A <= B"),
        (organise, (folder, fingerprints, "-o", tmp_path / "c", "--clusters", "50"), "must be between 1 and 12"),
    ]
    for command, words, message in cases:
        with pytest.raises(AerunError) as error:
            call(command, *words)
        assert message in str(error.value), words
    assert not (tmp_path / "c").exists()


def test_changed_data_are_rejected(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    about = json.loads((copy / "environment.json").read_text())
    about["dataset"]["checksum"] = "0" * 16
    (copy / "environment.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="its data have changed"):
        call(embed, copy, "--split", "test", "-o", tmp_path / "a.npz")


def test_a_broken_link_is_skipped(folder: Path, collection: Path, tmp_path: Path) -> None:
    (collection / "even" / "link.png").symlink_to(tmp_path / "gone.png")
    call(embed, folder, collection, "-o", tmp_path / "a.npz")
    assert "even/link.png" not in load_fingerprints(tmp_path / "a.npz").names


def test_links_need_files(run: OpenedRun, tmp_path: Path) -> None:
    images = load_split(run, "test")[0].inputs[:20]
    made: Fingerprints = aerun.embed(run, images)
    save_fingerprints(made, tmp_path / "loose.npz", made.pack())
    with pytest.raises(DataError, match="links need image files in a folder"):
        call(organise, run.folder, tmp_path / "loose.npz", "-o", tmp_path / "c", "--links")
    with pytest.raises(DataError, match="does not name the folder of its images"):
        estimate_threshold(run, made)


def test_the_threshold_separates_copies_from_other_images(run: OpenedRun, tmp_path: Path) -> None:
    made = embed_split(run, "test")
    threshold = estimate_threshold(run, made).threshold
    random = np.random.default_rng(1).integers(0, len(made), (2, 5000))
    others = exact_distances(made.codes[random[0]], made.codes[random[1]], "cosine")
    assert 0 < threshold < np.quantile(others, 0.01)


def test_the_threshold_equals_a_loop_over_all_pairs(run: OpenedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicate_threshold, "SAMPLED_IMAGES", 60)
    monkeypatch.setattr(duplicate_threshold, "NEIGHBORS_COMPARED", 10_000)
    monkeypatch.setattr(duplicate_threshold, "NEIGHBORS_FETCHED", 10_000)
    made = embed_split(run, "test")
    _, copies, rows = duplicate_threshold.make_copies(run, made)
    copied = run.encode(copies).flatten(1).double().numpy()
    codes, pixels = made.codes.astype(float), load_split(run, "test")[0].inputs[:].numpy() / 255
    own = np.array([np.sqrt(((pixels[r] - c.numpy() / 255) ** 2).mean()) for r, c in zip(rows, copies, strict=True)])
    distances, others = cdist(codes[rows], copied, "cosine").diagonal(), []
    for row, unlike in zip(rows, np.maximum(own, np.median(own)) * 2, strict=True):
        differs = np.sqrt(((pixels - pixels[row]) ** 2).mean((1, 2, 3))) > unlike
        others.append(cdist(codes[[row]], codes[differs], "cosine").min())
    measured = duplicate_threshold.estimate_threshold(run, made)
    assert measured.wanted == pytest.approx(np.quantile(distances, 0.9), rel=1e-6)
    assert measured.others == np.mean(np.array(others) <= measured.wanted)
    assert measured.threshold == pytest.approx(min(measured.wanted, sorted(others)[1]), rel=1e-6)  # 1 of 60 is within
    assert measured.copies == np.mean(distances <= measured.threshold) and measured.sampled == 60


def test_a_poor_separation_is_a_warning() -> None:
    good, poor = (
        duplicate_threshold.ThresholdEstimate(0.01, 0.8, 0.02, 0.05, 256),
        duplicate_threshold.ThresholdEstimate(0.01, 0.3, 0.2, 0.45, 256),
    )
    assert good.warning == "" != duplicate_threshold.ThresholdEstimate(0.01, 0.8, 0.02, 0.06, 256).warning
    assert "within 0.2, but so is a different image for 45% of the images" in poor.warning
    assert "only 30% of the copies are within 0.01" in poor.warning


def test_the_commands_offer_all_options() -> None:
    assert (embed.PARTS, search.METRICS, search.KINDS) == (PARTS, METRICS, KINDS)
    assert organise.METHODS == METHODS
    assert set(METRICS) - set(organise.METRICS) == {"hamming"}  # which has no near-duplicates
    for command in (embed, search, organise):
        assert "examples:" in command.build_parser().format_help()


def test_a_missing_file_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["aerun-search", str(tmp_path), str(tmp_path / "a.npz"), "b.png"])
    assert search.main() == 1
    assert capsys.readouterr().err.startswith(f"aerun: {tmp_path / 'a.npz'}: there is no such file")


def test_blank_images_are_named_and_are_no_duplicates(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """White drawings on a transparent ground, which all become the same white image; and two black ones, the same."""
    for number in range(8):
        page = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
        ink = (255, 255, 255, 255) if number < 6 else (0, 0, 0, 255)
        page.paste(ink, (min(number, 6), 4, 12 + min(number, 6), 30))
        (tmp_path / "lines").mkdir(exist_ok=True)
        page.save(tmp_path / "lines" / f"{number}.png")
    for suffix in (".npz", ".parquet"):
        caplog.clear()
        call(embed, folder, tmp_path / "lines", "-o", tmp_path / f"lines{suffix}")
        assert "6 of 8 images are blank, every pixel of one color" in caplog.text
        assert load_fingerprints(tmp_path / f"lines{suffix}").blank == list(range(6))
        capsys.readouterr()
        call(search, folder, tmp_path / f"lines{suffix}", "--duplicates", "0.001", "--json")
        pairs = json.loads(capsys.readouterr().out)["duplicates"]
        assert [pair["files"] for pair in pairs] == [["6.png", "7.png"]]
        assert "6 blank images left out of the near-duplicates" in caplog.text


def test_pictures_pass_the_model_together_however_the_cache_divides_them(
    run: OpenedRun, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checksum for every picture, as large ones have, once made a whole block of 64 rows of each."""
    monkeypatch.setattr(row_file, "BLOCK", 1)
    expected, passed = aerun.embed(run, collection), []
    hook = run.autoencoder.encoder.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))
    found = aerun.embed(run, collection)
    hook.remove()
    assert passed == [64] and len(found) == 13
    np.testing.assert_array_equal(found.codes, expected.codes)
