"""Collections of one image, invalid arguments, and values that are not finite."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import aerun
from aerun.cli import embed, organise, search
from aerun.core.mixture import fit_mixture
from aerun.errors import AerunError, ConfigError, DataError
from aerun.use.collection import compression as comparing
from aerun.use.collection.fingerprint_files import save_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.generation.sampling import sample_codes
from aerun.use.inputs import sample_test_images as images_of_test
from aerun.use.opened_run import open_run

Trained = Callable[..., Path]
VAE = ("model=fc_vae", "model.hidden=[32]", "model.code_size=3", "loss=bce")
FLAT = ("model.hidden=[32]", "model.code_size=2")


@pytest.fixture
def alone(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, Path]:
    """A run, and the fingerprints of one image."""
    (tmp_path / "one").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one" / "only.png")
    call(embed, trained(), tmp_path / "one", "-o", tmp_path / "one.npz")
    assert capsys.readouterr().out.startswith("1 image, 64 units")
    return trained(), tmp_path / "one.npz"


def call(command: object, *words: object) -> None:
    """Run a command in this process, so that its errors are raised."""
    asked = command.build_parser().parse_args([str(word) for word in words])  # type: ignore[attr-defined]
    command.execute(asked)  # type: ignore[attr-defined]


def test_one_image_has_no_duplicates(
    alone: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(search, *alone, "--duplicates", "auto", "--sheet", tmp_path / "twice.png")
    text = capsys.readouterr().out
    assert text.startswith("0 pairs within cosine distance") and text.endswith("0 images in 0 groups\n")
    call(search, *alone, "only.png")
    assert "-k 12: the collection has only 0 other images" in capsys.readouterr().out


def test_one_image_has_no_clusters(alone: tuple[Path, Path], tmp_path: Path) -> None:
    for words in ([], ["--method", "hdbscan"]):
        with pytest.raises(ConfigError, match="one image has one cluster: use clusters=1"):
            call(organise, *alone, "-o", tmp_path / "clusters", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "hdbscan", "--clusters", "4"], "--clusters: hdbscan finds the number itself"),
        (["--smallest", "4"], "--smallest: applies only to --method hdbscan"),
    ],
)
def test_options_of_the_other_method_are_rejected(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):  # before the run is opened
        call(organise, tmp_path / "run", tmp_path / "a.npz", "-o", tmp_path / "clusters", *words)


CODES = np.random.default_rng(0).normal(0, 1, (50, 6)).astype(np.float32)
BROKEN = np.where(np.arange(6) == 2, np.float32(np.nan), CODES)


@pytest.mark.parametrize(
    ("collection", "queries", "k", "message"),
    [
        (CODES, CODES[:3], 0, "k=0: must be at least 1"),
        (CODES, CODES[:3, :4], 2, "queries: have 4 values per code, the collection has 6"),
        (CODES, CODES[0], 2, r"queries: shape \[6\]: must be codes \[N,D\]"),
        (CODES, np.concatenate([CODES[:2], BROKEN[:2]]), 2, "queries: 2 of 4 codes have values that are not finite"),
        (BROKEN, CODES[:3], 2, "the collection: 50 of 50 codes have values that are not finite; the first is 0"),
    ],
)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_invalid_searches_are_rejected(
    collection: np.ndarray, queries: np.ndarray, k: int, message: str, metric: str
) -> None:
    with pytest.raises(AerunError, match=message):
        aerun.search(collection, queries, k, metric=metric)  # type: ignore[arg-type]


def test_search_reads_a_file(tmp_path: Path) -> None:
    prints = Fingerprints([str(number) for number in range(50)], CODES, "")
    save_fingerprints(prints, tmp_path / "a.npz", prints.pack())
    for file in (tmp_path / "a.npz", str(tmp_path / "a.npz")):
        assert np.array_equal(aerun.search(file, CODES[:4], 3).rows, aerun.search(CODES, CODES[:4], 3).rows)
    with pytest.raises(DataError, match="there is no such file"):
        aerun.search(tmp_path / "b.npz", CODES[:4])


def test_codes_of_zeros_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    found = aerun.search(CODES, np.stack([CODES[7], np.zeros(6, np.float32)]), 3, excluded=[[], [1]])
    assert found.rows[0, 0] == 7 and found.rows[1].tolist() == [0, 2, 3] and found.distances[1].tolist() == [1, 1, 1]
    assert "1 of 2 query codes are all zeros" in caplog.text
    caplog.clear()
    aerun.search(CODES, np.zeros((1, 6), np.float32), 3, metric="euclidean")
    assert not caplog.text


@pytest.mark.parametrize(
    ("method", "shape", "message"),
    [
        ("encode", (5, 3, 28, 28), r"images of shape \[5, 3, 28, 28\]: .* takes \[N,1,28,28\]"),
        ("reconstruct", (28, 28), r"images of shape \[28, 28\]: .* takes \[N,1,28,28\]"),
        ("posterior", (1, 28, 28), r"images of shape \[1, 28, 28\]: .* takes \[N,1,28,28\]"),
        ("decode", (5, 63), r"codes of shape \[5, 63\]: .* takes \[N,64\]"),
    ],
)
def test_images_and_codes_of_another_shape_are_rejected(
    trained: Trained, method: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        getattr(open_run(trained()), method)(torch.zeros(shape))


@pytest.mark.parametrize("views", [1, 3])
def test_images_that_are_not_finite_are_rejected(trained: Trained, views: int) -> None:
    images = torch.zeros(1500, 1, 28, 28)
    images[1200, 0, 3, 3] = torch.nan
    images[1300, 0, 0, 0] = torch.inf
    with pytest.raises(DataError, match="images: 2 of 1,500 have values that are not finite; the first is 1200"):
        aerun.embed(trained(), images, views=views)
    with pytest.raises(DataError, match=r"images of shape \[28, 28\]"):
        aerun.embed(trained(), images[0, 0], views=views)


@pytest.mark.parametrize("size", [1, 2, 3, 16, 33])
def test_more_samples_begin_with_the_same_ones(size: int, trained: Trained) -> None:
    run = open_run(trained(*VAE))
    mixture = fit_mixture(torch.randn(120, size, generator=torch.Generator().manual_seed(0)) ** 3, 5)
    whole = mixture.sample(70, 4)
    prior = sample_codes(run, 70, seed=4)
    for count in (1, 2, 5, 9, 16, 17, 69):
        assert torch.equal(mixture.sample(count, 4), whole[:count])
        assert torch.equal(sample_codes(run, count, seed=4), prior[:count])
    assert torch.equal(aerun.samples(run, 5), aerun.samples(run, 9)[:5])


def test_test_images_are_the_default(trained: Trained) -> None:
    vae, flat = trained(*VAE), trained(*FLAT)
    own = images_of_test(open_run(vae), 2000)
    assert torch.equal(aerun.traverse(vae, rows=2).images, aerun.traverse(vae, own.images, rows=2).images)
    given = aerun.latent_map(vae, own.images, labels=own.labels, classes=own.classes)
    assert np.array_equal(aerun.latent_map(vae), given)
    assert np.array_equal(aerun.active_units(vae), aerun.active_units(vae, own.images))
    assert np.array_equal(aerun.dictionary(flat, rows=2, top=2), aerun.dictionary(flat, own.images, 2, 2))
    assert np.array_equal(aerun.manifold(flat, side=3), aerun.manifold(flat, own.images, 3))
    with pytest.raises(DataError, match="has no run folder that names its data; pass images"):
        aerun.traverse(aerun.load(vae))


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 48, 80)])
def test_images_are_reduced_if_the_lowest_quality_is_too_large(shape: tuple[int, ...]) -> None:
    smooth = np.random.default_rng(0).normal(0, 1, (2, *shape)).cumsum(-1).cumsum(-2)
    pixels = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    whole = comparing.best_quality_within_bytes("WebP", comparing.code_webp, pixels, 1, {})
    found = comparing.best_within_bytes("WebP", comparing.code_webp, pixels, whole.size - 1, {})
    best = (-1.0, "")
    for part in (2, 4, 8):
        for quality in range(1, 96):
            sizes, back = [], []
            for picture in pixels:
                image = Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))
                content = io.BytesIO()
                small = image.resize((image.width // part, image.height // part), Image.Resampling.BICUBIC)
                small.save(content, "webp", quality=quality)
                sizes.append(len(content.getvalue()))
                again = Image.open(content).convert(image.mode).resize(image.size, Image.Resampling.BICUBIC)
                back.append(np.asarray(again).reshape(*image.size[::-1], -1).transpose(2, 0, 1))
            if np.mean(sizes) <= whole.size - 1:
                latest = comparing.psnr(pixels, np.stack(back))[0], f"1/{part} size, quality {quality}"
        best = max(best, latest)  # the best quality that fits, for each size
    assert (found.psnr, found.note) == best and found.size < whole.size and found.name == "WebP"
    assert comparing.best_within_bytes("WebP", comparing.code_webp, pixels, whole.size, {}) == whole_row(
        pixels, whole.size
    )
    assert "larger than the codes" in comparing.best_within_bytes("WebP", comparing.code_webp, pixels, 1, {}).note


def whole_row(pixels: np.ndarray, size: float) -> comparing.CompressionRow:
    return comparing.best_quality_within_bytes("WebP", comparing.code_webp, pixels, size, {})
