"""Maps of codes: positions, the decoded grid, units, and the images that excite them."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm
from torch import Tensor

import aerun
from aerun.cli.map import main
from aerun.errors import ConfigError, DataError
from aerun.figures import code_plots as figures
from aerun.figures.montage import HEADING_PIXELS, montage
from aerun.figures.projection import plane_of, project
from aerun.use.collection.fingerprint_files import save_fingerprints
from aerun.use.inputs import sample_collection
from aerun.use.inputs import sample_test_images as images_of_test
from aerun.use.maps.code_maps import active_units, dictionary, latent_map, manifold, manifold_codes, most_thumbnails
from aerun.use.maps.code_units import find_dictionary as found_units
from aerun.use.maps.code_units import measure_units
from aerun.use.maps.zoom_page import build_zoom_page, screen_places
from aerun.use.opened_run import open_run
from tests.use.test_generate import MAPS, PLANE, SPARSE, normals

Trained = Callable[..., Path]


def test_the_plane_equals_a_singular_value_decomposition() -> None:
    codes = normals(50, 6) * torch.tensor([5.0, 3, 1, 0.5, 0.2, 0.1])
    plane = plane_of(codes)
    values = codes.double().numpy()
    left, sizes, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(plane.points(codes)), np.abs((left * sizes)[:, :2]), rtol=1e-6)
    assert abs(plane.share - (sizes[:2] ** 2).sum() / (sizes**2).sum()) < 1e-9
    np.testing.assert_allclose(plane.points(plane.codes(np.eye(2))), np.eye(2), atol=1e-5)
    two = plane_of(codes[:, :2])
    assert two.is_whole and np.array_equal(two.points(codes[:, :2]), values[:, :2])
    with pytest.raises(ConfigError, match="span no plane"):
        plane_of(codes[:, :1])


def test_neighbors_stay_neighbors() -> None:
    centers = 30 * torch.eye(3)
    codes = torch.cat([center + normals(20, 3, seed=i) for i, center in enumerate(centers)])
    points = project(codes, "tsne")
    assert np.array_equal(points, project(codes, "tsne"))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(60)
    assert np.array_equal(distances.argmin(1) // 20, np.arange(60) // 20)
    with pytest.raises(ConfigError, match="t-SNE of 3 codes: needs at least 4"):
        project(codes[:3], "tsne")


def test_missing_umap_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ConfigError, match=r"UMAP needs a package: pip install 'aerun\[maps\]'"):
        project(normals(20, 3), "umap")


def test_thumbnails_do_not_overlap_and_fill_the_map() -> None:
    points, taken, size = normals(300, 2).numpy(), np.array([[0.0, 0.0]]), (0.3, 0.5)
    chosen = figures.spaced(points, size, taken)
    boxes = np.concatenate([taken, points[chosen]])

    def overlap(a: np.ndarray, b: np.ndarray) -> bool:
        return bool(abs(a[0] - b[0]) < size[0] and abs(a[1] - b[1]) < size[1])

    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    left = [point for number, point in enumerate(points) if number not in chosen]
    assert all(any(overlap(point, box) for box in boxes) for point in left)


def test_the_decoded_grid_is_oriented_right_and_up(trained: Trained) -> None:
    run = open_run(trained(*PLANE))
    codes, columns, rows = manifold_codes(run, None, 5)
    grid = codes.view(5, 5, 2)
    assert columns == sorted(columns) and rows == sorted(rows, reverse=True)
    assert torch.equal(grid[0, :, 0], torch.tensor(columns)) and torch.equal(grid[:, 0, 1], torch.tensor(rows))
    np.testing.assert_allclose(columns, norm.ppf([0.05, 0.275, 0.5, 0.725, 0.95]), atol=1e-12)
    # Red grows with the first value, green with the second.
    images = np.zeros((25, 3, 4, 4), np.uint8)
    images[:, 0], images[:, 1] = (((codes[:, i, None, None] + 2) * 60).byte().expand(-1, 4, 4).numpy() for i in (0, 1))
    pixels = figures.manifold(images, columns, rows, "", "code unit").astype(int)
    height, width = pixels.shape[:2]
    high, low = int(0.2 * height), int(0.8 * height)
    left, right = int(0.3 * width), int(0.9 * width)
    assert pixels[high, right, 0] > pixels[high, left, 0] + 50 < pixels[low, right, 0] + 1
    assert pixels[high, left, 1] > pixels[low, left, 1] + 50 and pixels[high, right, 1] > pixels[low, right, 1] + 50
    plain = open_run(trained("model.hidden=[32]", "model.code_size=2"))
    with pytest.raises(ConfigError, match="images: needed for the range of the grid"):
        manifold_codes(plain, None, 3)
    shown = images_of_test(plain, 200).images
    box = np.quantile(plain.encode(shown).double().numpy(), [0.05, 0.95], axis=0)
    _, columns, rows = manifold_codes(plain, shown, 3)
    np.testing.assert_allclose([columns[0], columns[-1], rows[-1], rows[0]], box.T.ravel(), rtol=1e-6)
    with pytest.raises(ConfigError, match="needs codes of 2 values"):
        manifold(trained())


def test_a_dictionary_is_sorted_by_use_and_shows_the_most_exciting_images(trained: Trained) -> None:
    run = open_run(trained(*SPARSE))
    images = images_of_test(run, 100).images
    codes = run.encode(images).double().numpy()
    columns = run.autoencoder.decoder.state_dict()
    weight = next(value for name, value in columns.items() if name.endswith("weight")).double().numpy()
    use = np.abs(codes).mean(0) * np.linalg.norm(weight, axis=0)
    found = found_units(run, images, most=6, top=3)
    assert found.numbers == np.argsort(-use, kind="stable")[:6].tolist()
    np.testing.assert_allclose(found.use.numpy(), np.sort(use)[::-1][:6], rtol=1e-5)
    for row, number in enumerate(found.numbers):
        np.testing.assert_allclose(found.features[row].flatten().numpy(), weight[:, number], rtol=1e-6)
        order = np.sort(codes[:, number])[::-1][:3]
        np.testing.assert_allclose(found.values[row].numpy(), order, rtol=1e-6)
        np.testing.assert_allclose(codes[found.images[row].numpy(), number], order, rtol=1e-6)
    assert dictionary(run, images, rows=3).shape[2] == 3
    used = int((use > 0).sum())
    assert used < len(use) and len(found_units(run, images, most=len(use)).numbers) == used


def test_the_units_of_feature_maps_are_channels(trained: Trained) -> None:
    run = open_run(trained(*MAPS))
    images = images_of_test(run, 60).images
    found = found_units(run, images, most=2, top=2)
    codes = run.encode(images)
    assert found.features.shape == (2, 1, 28, 28)
    channel = codes[:, found.numbers[0]].flatten(1).amax(1)
    torch.testing.assert_close(found.values[0], channel.sort(descending=True).values[:2])
    alone = torch.zeros(1, *run.autoencoder.code_shape)
    values = codes[:, found.numbers[0]]
    middle = [size // 2 for size in run.autoencoder.code_shape[1:]]
    alone[0, found.numbers[0], middle[0], middle[1]] = values.abs().mean() / (values != 0).float().mean()
    added = run.decode(alone) - run.decode(torch.zeros_like(alone))
    torch.testing.assert_close(found.features[0], added[0])


def test_maps_of_every_kind_of_run(trained: Trained) -> None:
    for options in (PLANE, MAPS, ("model=fc_vae", "latent=importance_weighted", "model.code_size=4", "loss=bce")):
        run = open_run(trained(*options))
        shown = images_of_test(run, 80)
        drawn: Tensor = run.encode(shown.images[:6]) + 0.5
        plain = latent_map(run, shown.images, "pca", labels=shown.labels, classes=shown.classes)
        pixels = latent_map(run, shown.images, "pca", labels=shown.labels, thumbnails=True, drawn=drawn)
        assert plain.shape == pixels.shape == (800, 900, 3) and not np.array_equal(plain, pixels)
        yellow = (pixels == [255, 224, 0]).all(2)
        assert yellow.sum() > 100 > (plain == [255, 224, 0]).all(2).sum()
    assert active_units(run, shown.images).shape[2] == 3 and measure_units(run, shown.images).kl is not None
    with pytest.raises(ConfigError, match="its units have no KL divergence"):
        active_units(trained(), shown.images)
    assert aerun.latent_map is latent_map and "samples" in aerun.__all__
    with pytest.raises(AttributeError, match="no attribute 'sample'"):
        _ = aerun.sample


def test_maps_of_folders_and_fingerprints(tmp_path: Path, trained: Trained, drawings: Path) -> None:
    run = open_run(trained(*SPARSE))
    prints = aerun.embed(run, drawings)
    assert prints.labels is None and len(prints) == 5
    every = sample_collection(run, drawings, 100)
    assert every.labels is None and np.array_equal(run.encode(every.images).numpy(), prints.whole_codes)
    file = tmp_path / "prints.npz"
    labelled = dataclasses.replace(prints, labels=np.array([1, 0, -1, 0, 0]), classes=["scan", "sketch"])
    save_fingerprints(labelled, file, labelled.pack())
    some = sample_collection(run, file, 3)
    assert np.array_equal(run.encode(some.images).numpy(), prints.whole_codes[[0, 2, 4]])
    assert some.labels is not None and some.labels.tolist() == [1, 2, 0]
    assert some.classes == ["scan", "sketch", "no label"]
    with pytest.raises(DataError, match="made by another run"):
        sample_collection(open_run(trained()), file, 3)
    for path in list(drawings.glob("*.png")):
        path.rename(drawings / "below" / path.name)
    (drawings / "other").mkdir()
    (drawings / "below" / "grey.png").rename(drawings / "other" / "grey.png")
    by_folder = sample_collection(run, drawings, 100)
    assert by_folder.classes == ["below", "other"] and by_folder.labels is not None
    assert by_folder.labels.tolist() == [0, 0, 0, 0, 1]


def test_map_draws_every_figure_that_applies(
    tmp_path: Path,
    trained: Trained,
    drawings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(*words: str) -> set[str]:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        monkeypatch.setattr(sys, "argv", ["aerun-map", *words, "-o", str(out), "--images", "60"])
        assert main() == (0 if out.exists() else 1)
        return {path.name for path in out.glob("*")}

    vectors = trained("dataset=random", "dataset.shape=[6]", "model.code_size=3")
    assert command(str(trained(*PLANE))) == {"map_codes.png", "manifold.png", "units.png"}
    assert command(str(trained(*SPARSE)), "--method", "pca,tsne") == {"map_pca.png", "map_tsne.png", "dictionary.png"}
    assert command(str(trained()), str(drawings), "--drawn", "0", "--thumbnails") == {"map_pca.png"}
    assert command(str(vectors), "--dictionary") == {"map_pca.png"}
    capsys.readouterr()
    assert command(str(trained()), "--method", "lda") == set()
    assert capsys.readouterr().err == "aerun: --method lda: must be one or more of pca, tsne, umap\n"
    assert command(str(trained()), str(drawings / "1.png")) == set()
    assert capsys.readouterr().err.endswith("at least two images; use --drawn 0\n")
    monkeypatch.setitem(sys.modules, "umap", None)
    assert command("nowhere", "--method", "pca,umap") == set()  # before anything is opened or drawn
    assert capsys.readouterr().err == "aerun: --method umap: needs umap-learn: pip install 'aerun[maps]'\n"


def test_headings_are_above_a_montage_and_move_nothing_else() -> None:
    images = np.random.default_rng(0).integers(0, 200, (4, 1, 28, 28)).astype(np.uint8)
    plain, headed = montage([("a", images)]), montage([("a", images)], heads=["0", "0.5", "1"])
    assert headed.shape[0] - plain.shape[0] == HEADING_PIXELS
    left = plain.shape[1] - images.shape[0] * 58 + 2
    np.testing.assert_array_equal(headed[HEADING_PIXELS:, left:], plain[:, left:])
    dark = (headed[:HEADING_PIXELS, left:] < 128).any((0, 2))
    columns = [dark[number * 58 : number * 58 + 56] for number in range(4)]
    assert [column.any() for column in columns] == [True, True, True, False]
    assert all(abs(np.flatnonzero(column).mean() - 28) < 4 for column in columns[:3])


def test_the_title_says_how_many_images_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = list[str]()
    monkeypatch.setattr(figures, "render", lambda figure: titles.append(figure.axes[0].get_title()))
    places = np.array([[0.0, 0], [0, 0], [1, 1]])
    images = np.zeros((3, 1, 4, 4), np.uint8)
    points = figures.Points(places)
    figures.code_map(points, "Codes", "axis", thumbnails=images, marks=places + 5, images=images)
    figures.code_map(points, "Codes", "axis")
    assert titles[0].split("\n") == [
        "Codes; in yellow frames: 2 of 3 decoded random points",
        "2 of 3 images shown; the others would overlap",
    ]
    assert titles[1] == "Codes"


def test_a_larger_map_has_more_thumbnails_and_the_size_that_was_typed(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(*PLANE)

    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["aerun-map", str(run), "-o", str(tmp_path), "--overwrite", *words])
        code = main()
        captured = capsys.readouterr()
        return captured.err if code else ""

    counts = []
    spaced = figures.spaced
    monkeypatch.setattr(figures, "spaced", lambda *given: counts.append(len(found := spaced(*given))) or found)
    for size, expected in (("500x400", (400, 500, 3)), ("900", (900, 900, 3))):
        assert command("--size", size, "--drawn", "0", "--images", "300") == ""
        with Image.open(tmp_path / "map_codes.png") as picture:
            assert np.asarray(picture).shape == expected
    assert 0 < 2 * counts[0] < counts[1] < 300
    shape = most_thumbnails((760, 380))
    assert shape == 20 * 10
    for wrong in ("0", "4000x", "axb", "300x300x300", "100x900", "9000"):
        assert f"'{wrong}': must be WIDTHxHEIGHT or N, from 300 to 8000 pixels a side" in command("--size", wrong)
    vectors = str(trained("dataset=random", "dataset.shape=[6]", "model.code_size=3"))
    monkeypatch.setattr(sys, "argv", ["aerun-map", vectors, "-o", str(tmp_path / "other"), "--zoom"])
    assert main() == 1 and "must be gray or color images" in capsys.readouterr().err


def test_the_page_has_every_image_at_its_place_and_none_overlaps_at_any_zoom(tmp_path: Path, trained: Trained) -> None:
    points = np.concatenate([normals(150, 2).numpy(), normals(50, 2, seed=1).numpy() / 1000, np.zeros((2, 2))])
    images = (normals(202, 1, 9, 6).abs() * 80).clamp(0, 255).byte().numpy()
    labels = np.arange(202) % 3
    page = build_zoom_page(points, images, "a <map>", labels, ["x", "</script>", "z"])
    text = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    data = json.loads(text)
    assert "a &lt;map&gt;" in page and data["classes"] == ["x", "</script>", "z"] and data["labels"] == labels.tolist()
    assert page.count("</script>") == 2 and "http" not in page.split("<style>")[1]
    places, found = np.stack([data["x"], data["y"]], 1), np.array(data["levels"])
    assert (np.diff(places[points[:, 0].argsort(), 0]) >= 0).all()  # to the right
    assert (np.diff(places[points[:, 1].argsort(), 1]) <= 0).all()  # upwards
    assert places.min() > 0 and (places.max(0) < [data["width"], data["height"]]).all()
    np.testing.assert_allclose(places, screen_places(points), atol=1e-6)
    last = found.max()
    assert (found == last).sum() == 1  # two images of one place
    for level in range(last):
        shown, room = places[found <= level], data["side"] / data["step"] ** level
        is_free = (np.abs(shown[:, None] - shown[None]) >= room - 1e-5).any(-1) | np.eye(len(shown), dtype=bool)
        assert is_free.all()
        for place in places[found > level]:  # none of the others would fit
            assert (np.abs(shown - place) < room).all(1).any()
    atlas = Image.open(io.BytesIO(base64.b64decode(data["atlas"].split(",")[1])))
    for number in (0, 77, 201):
        left, top = number % data["columns"] * 6, number // data["columns"] * 9
        tile = np.asarray(atlas.convert("L"), float)[top : top + 9, left : left + 6]
        assert np.abs(tile - images[number, 0]).mean() < 25  # of 80: a JPEG of noise
    with pytest.raises(ConfigError, match="a page with 20,001 pictures: at most 20,000"):
        build_zoom_page(np.zeros((20_001, 2)), np.zeros((20_001, 1, 2, 2), np.uint8), "")
    one = build_zoom_page(np.zeros((1, 2)), np.zeros((1, 3, 100, 50), np.uint8), "one")
    assert '"tileWidth":32,"tileHeight":64' in one and '"labels":null' in one
