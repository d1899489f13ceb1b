"""Cleaning images of any size: tiles and blending compared with a loop, files of all modes, and scores."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor

import aerun
from aerun.cli.denoise import build_parser, execute
from aerun.config.parse import parse
from aerun.dataset.data import Data, Split
from aerun.dataset.decoder import Decoder
from aerun.dataset.picture_notes import PictureNotes
from aerun.errors import AerunError, DataError
from aerun.training.build import build_autoencoder
from aerun.use.denoising import tiling
from aerun.use.denoising.filter_baselines import INPUT, RUN, Score, Scores
from aerun.use.denoising.scan_files import read_scan, size_of, write_scan
from aerun.use.denoising.tiling import denoise
from aerun.use.opened_run import OpenedRun

Compose = Callable[..., dict[str, Any]]


def opened(compose: Compose, shape: tuple[int, ...], *overrides: str) -> OpenedRun:
    """An untrained run."""
    config = compose([f"dataset.split_seed={len(shape)}", *overrides])
    images = torch.zeros(1, *shape)
    split = Split(images, images, None)
    torch.manual_seed(0)
    autoencoder = build_autoencoder(parse(config), Data(split, None, split, None, "")).eval()
    return OpenedRun(Path("run"), autoencoder, config)


@pytest.fixture(scope="module")
def color(compose: Compose) -> OpenedRun:
    return opened(compose, (3, 12, 10), "model=unet", "model.hidden=[4,8]")


@pytest.fixture(scope="module")
def gray(compose: Compose) -> OpenedRun:
    return opened(compose, (1, 12, 10), "model=fc")


@pytest.fixture(scope="module")
def unchanging(compose: Compose) -> OpenedRun:
    """A run that returns its input."""
    run = opened(compose, (3, 12, 10), "model=unet", "model.hidden=[4,8]")
    for parameter in run.autoencoder.decoder.parameters():
        parameter.detach().zero_()
    return run


def uniform(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(12, 10), (12, 11), (13, 10), (40, 33), (5, 7), (1, 1), (3, 50)])
def test_an_identity_run_changes_nothing_at_any_size(unchanging: OpenedRun, size: tuple[int, int]) -> None:
    images = uniform(2, 3, *size)
    torch.testing.assert_close(denoise(unchanging, images), images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("larger", [1, 2])
@pytest.mark.parametrize("size", [(12, 10), (31, 26), (5, 23)])
def test_blended_tiles_equal_a_loop_over_pixels(
    color: OpenedRun, size: tuple[int, int], larger: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ramp(place: int, side: int, overlap: int) -> float:
        return math.sin(math.pi / 2 * min(1, (place + 0.5) / overlap, (side - place - 0.5) / overlap)) ** 2

    monkeypatch.setattr(tiling, "LARGER", larger)
    image = uniform(3, *size)
    padded = np.pad(image.numpy(), [(0, 0), (0, max(0, 12 - size[0])), (0, max(0, 10 - size[1]))], mode="reflect")
    total, weight = np.zeros(padded.shape), np.zeros(padded.shape[1:])
    height, width = (min(larger * side, n) for side, n in zip((12, 10), padded.shape[1:], strict=True))
    corners = [
        sorted({*range(0, extent - side + 1, side - overlap), extent - side})
        for extent, side, overlap in zip(padded.shape[1:], (height, width), (6, 5), strict=True)
    ]
    for top in corners[0]:
        for left in corners[1]:
            tile = torch.from_numpy(padded[None, :, top : top + height, left : left + width])
            with torch.no_grad():
                output = color.autoencoder.decoder(color.autoencoder.encoder(tile))[0].double().numpy()
            for y in range(height):
                for x in range(width):
                    share = ramp(y, height, 6) * ramp(x, width, 5)
                    total[:, top + y, left + x] += share * output[:, y, x]
                    weight[top + y, left + x] += share
    expected = (total / weight).clip(0, 1)[:, : size[0], : size[1]]
    assert abs(expected - image.numpy()).max() > 0.01
    np.testing.assert_allclose(denoise(color, image).numpy(), expected, atol=2e-5)


def test_an_image_of_the_runs_size_becomes_its_reconstruction(gray: OpenedRun) -> None:
    images = uniform(5, 1, 12, 10)
    torch.testing.assert_close(denoise(gray, images), gray.reconstruct(images).clamp(0, 1), rtol=0, atol=1e-5)


def test_results_do_not_depend_on_the_number_of_images(color: OpenedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    images = uniform(5, 3, 30, 30)
    whole = denoise(color, images)
    assert whole.equal(torch.stack([denoise(color, image) for image in images]))
    monkeypatch.setattr(tiling, "TILES_PER_BATCH", 7)
    assert whole.equal(denoise(color, images))


def test_gray_and_color_images_for_runs_with_other_channels(color: OpenedRun, gray: OpenedRun) -> None:
    image = uniform(3, 20, 21)
    torch.testing.assert_close(denoise(gray, image), torch.stack([denoise(gray, plane) for plane in image]))
    middle = 0.3 + 0.4 * image[:1]  # without clipping
    thrice = denoise(color, middle.expand(3, -1, -1))
    assert thrice.min() > 0 and thrice.max() < 1 and not thrice[0].allclose(thrice[1], atol=0.01)
    torch.testing.assert_close(denoise(color, middle[0]), thrice.mean(0))
    with pytest.raises(DataError, match=r"images of 4 channels: .* takes 3 channels, or 1"):
        denoise(color, uniform(4, 20, 20))


def test_runs_that_cannot_denoise_are_rejected(compose: Compose, gray: OpenedRun) -> None:
    with pytest.raises(DataError, match="its inputs \\(30\\) and outputs \\(30\\) must be gray or color images"):
        denoise(opened(compose, (30,), "model=fc"), uniform(20, 20))
    other = dataclasses.replace(gray)
    other.autoencoder.output_shape = (1, 6, 5)
    try:
        with pytest.raises(DataError, match="maps 1x12x10 to 1x6x5"):
            denoise(other, uniform(20, 20))
    finally:
        gray.autoencoder.output_shape = (1, 12, 10)


def test_arrays_stay_arrays_and_uint8_becomes_float(color: OpenedRun) -> None:
    image = (uniform(3, 20, 21) * 255).byte()
    shares = denoise(color, image.float() / 255)
    assert denoise(color, image).equal(shares)
    array = denoise(color, image.numpy())
    assert isinstance(array, np.ndarray) and array.dtype == np.float32
    np.testing.assert_array_equal(array, shares.numpy())


RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (9, 14, 4), np.uint8)
PIXELS[:3, :, 3] = 0
MODES: dict[str, Image.Image] = {
    "L.png": Image.fromarray(PIXELS[..., 0]),
    "RGB.png": Image.fromarray(PIXELS[..., :3].copy()),
    "RGBA.png": Image.fromarray(PIXELS),
    "LA.png": Image.fromarray(np.ascontiguousarray(PIXELS[..., 2:])),
    "1.png": Image.fromarray(PIXELS[..., 0] > 90),
    "I;16.png": Image.fromarray(RANDOM.integers(0, 65536, (9, 14)).astype(np.uint16)),
    "RGB.webp": Image.fromarray(PIXELS[..., :3].copy()),
    "RGB.bmp": Image.fromarray(PIXELS[..., :3].copy()),
    "L.tif": Image.fromarray(PIXELS[..., 0]),
    "RGB.tiff": Image.fromarray(PIXELS[..., :3].copy()),
    "RGBA.tif": Image.fromarray(PIXELS),
    "LA.tif": Image.fromarray(np.ascontiguousarray(PIXELS[..., 2:])),
    "1.tif": Image.fromarray(PIXELS[..., 0] > 90),
    "I;16.tif": Image.fromarray(RANDOM.integers(0, 65536, (9, 14)).astype(np.uint16)),
}


@pytest.mark.parametrize("name", MODES)
def test_an_unchanged_image_is_written_unchanged(tmp_path: Path, name: str) -> None:
    MODES[name].save(tmp_path / name)
    scan = read_scan(tmp_path / name)
    assert scan.values.dtype == np.float32 and scan.values.max() <= 1 and scan.visible_values().min() >= 0
    write_scan(tmp_path / "below" / name, scan.with_values(scan.visible_values()))
    with Image.open(tmp_path / name) as before, Image.open(tmp_path / "below" / name) as after:
        assert after.mode == ("L" if before.mode == "1" else before.mode)
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before.convert(after.mode)))


def test_a_tiff_keeps_metadata_and_only_its_first_page_is_cleaned(tmp_path: Path, caplog: Any) -> None:
    picture, other = MODES["RGB.png"].copy(), MODES["L.png"].copy()  # saving changes the object
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    about = {"dpi": (300, 600), "icc_profile": profile}
    picture.save(tmp_path / "a.tif", save_all=True, append_images=[other], **about)
    losses = write_scan(tmp_path / "b.tif", read_scan(tmp_path / "a.tif"))
    assert losses == ["has several pages; only the first is cleaned"]
    with Image.open(tmp_path / "b.tif") as written:
        assert not written.is_animated and written.info["compression"] == "tiff_adobe_deflate"
        assert {key: written.info[key] for key in about} == about
        np.testing.assert_array_equal(np.asarray(written), np.asarray(picture))
    (chunk,) = Decoder((1, 9, 14), "crop").chunks([tmp_path / "a.tif", tmp_path / "b.tif"], PictureNotes())
    assert caplog.text.count("a.tif: has several pages; only the first is used") == 1
    np.testing.assert_array_equal(chunk[:, 0], [np.asarray(picture.convert("L"))] * 2)


def test_deep_tiffs_are_read_by_their_tags(tmp_path: Path) -> None:
    gray = np.asarray(MODES["I;16.tif"])
    content = io.BytesIO()
    MODES["I;16.tif"].save(content, "tiff")
    entry = struct.pack("<HHI", 262, 3, 1)  # PhotometricInterpretation: 0 is black
    at = content.getvalue().index(entry + b"\x01") + len(entry)
    (tmp_path / "negative.tif").write_bytes(content.getvalue()[:at] + b"\x00" + content.getvalue()[at + 1 :])
    np.testing.assert_array_equal((read_scan(tmp_path / "negative.tif").values[0] * 65535).round(), 65535 - gray)
    (chunk,) = Decoder((1, 9, 14), "crop").chunks([tmp_path / "negative.tif"], PictureNotes())
    np.testing.assert_allclose(chunk[0, 0], 255 - gray / 257, atol=0.51)
    for values in (gray.astype(np.float32), gray.astype(np.int32) + 1):
        values[0, 0] = 65536
        Image.fromarray(values).save(tmp_path / "other.tif")
        with pytest.raises(ValueError, match="of unknown range"):
            read_scan(tmp_path / "other.tif")


def test_other_modes_become_gray_or_rgb(tmp_path: Path) -> None:
    picture = Image.fromarray(PIXELS[..., :3].copy()).quantize(17)
    picture.save(tmp_path / "palette.png", transparency=3)
    scan = read_scan(tmp_path / "palette.png")
    assert scan.alpha is not None and set(np.unique(scan.alpha)) == {0, 1}
    np.testing.assert_array_equal(scan.alpha == 0, np.asarray(picture) == 3)
    shown = (scan.values * 255).round().astype(np.uint8).transpose(1, 2, 0)
    np.testing.assert_array_equal(shown, np.asarray(picture.convert("RGB")))
    assert (scan.visible_values()[:, scan.alpha == 0] == 1).all() and (scan.over_white()[:, scan.alpha == 0] == 1).all()
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    assert read_scan(tmp_path / "print.jpg").values[:, 0, 0] == pytest.approx([1, 0, 0], abs=0.02)


def test_exif_orientation_is_applied_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a scan"
    MODES["RGB.png"].save(tmp_path / "a.png", exif=exif, dpi=(300, 300))
    scan = read_scan(tmp_path / "a.png")
    write_scan(tmp_path / "b.png", scan)
    with Image.open(tmp_path / "b.png") as written:
        np.testing.assert_array_equal(np.asarray(written), np.rot90(np.asarray(MODES["RGB.png"]), -1))
        assert 0x0112 not in written.getexif() and written.getexif()[0x010E] == "a scan"
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_sizes_from_headers_equal_decoded_sizes(tmp_path: Path) -> None:
    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = value
        for ending in ("jpg", "webp", "png", "tif"):
            path = tmp_path / f"{value}.{ending}"
            MODES["RGB.png"].resize((21, 34)).save(path, exif=exif)
            assert size_of(path) == size_of(path, thorough=True) == read_scan(path).values.shape[:0:-1]
    turned = (tmp_path / "6.png").read_bytes()
    start = turned.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(turned[start : start + 4])
    late = turned[:start] + turned[end:-12] + turned[start:end] + turned[-12:]  # after the pixels
    (tmp_path / "late.png").write_bytes(late)
    wanted = read_scan(tmp_path / "late.png").values.shape[:0:-1]
    assert wanted == (34, 21) and size_of(tmp_path / "late.png", thorough=True) == wanted
    assert size_of(tmp_path / "late.png") == (21, 34)


@pytest.fixture
def run(trained: Callable[..., Path]) -> Path:
    return trained("noise=gaussian")


def call(*words: Any) -> None:
    execute(build_parser().parse_args([*map(str, words), "--device", "cpu"]))


def test_a_folder_is_cleaned_with_the_same_names(
    run: Path, drawings: Path, tmp_path: Path, capsys: Any, caplog: Any
) -> None:
    MODES["RGBA.png"].resize((40, 30)).save(drawings / "below" / "clear.png")
    MODES["RGB.png"].convert("P").save(drawings / "few.gif")
    before = {path: path.read_bytes() for path in drawings.rglob("*.*")}
    out = drawings / "out"  # inside IN: its files are not cleaned again
    call(run, drawings, out)
    assert "without noise" not in caplog.text
    assert "7 of 8 images cleaned" in capsys.readouterr().out and "broken.png: cannot be decoded" in caplog.text
    assert {path: path.read_bytes() for path in before} == before
    written = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
    expected = {path.relative_to(drawings).as_posix() for path in before} - {"broken.png", "few.gif"} | {"few.gif.png"}
    assert written == expected
    for name in expected - {"few.gif.png"}:
        with Image.open(drawings / name) as one, Image.open(out / name) as other:
            assert (one.size, one.mode) == (other.size, other.mode)
    with Image.open(drawings / "below" / "grey.png") as picture, Image.open(out / "below" / "grey.png") as cleaned:
        pixels = np.asarray(picture, np.float32) / 255
        np.testing.assert_array_equal(np.asarray(cleaned), (aerun.denoise(run, pixels) * 255).round())
    again = {path: path.read_bytes() for path in out.rglob("*.*")}
    call(run, drawings, out, "--overwrite")
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == again
    call(run, drawings / "3.png", tmp_path / "alone.png")
    assert (tmp_path / "alone.png").read_bytes() == (out / "3.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{none}", "{drawings}", "{out}"], "none"),
        (["{run}", "{empty}", "{out}"], "contains no image file"),
        (["{run}", "{drawings}/7.png", "{out}"], "there is no such file or folder"),
        (["{run}", "{drawings}/broken.png", "{out}"], "broken.png: cannot be decoded"),
        (["{run}", "{drawings}", "{again}"], r"and \d more: already exist; pass --overwrite"),
        (["{run}", "{drawings}/1.png", "{again}"], "1.png: already exists; pass --overwrite"),
        (
            ["{run}", "{drawings}", "{drawings}"],
            "drawings: is IN itself, and originals are never replaced",
        ),
        (["{run}", "{drawings}", "{drawings}", "--overwrite"], "drawings: is IN itself"),
        (["{run}", "{drawings}", "{link}", "--overwrite"], "link: is IN itself"),
        (["{run}", "{drawings}", "{hard}", "--overwrite"], r"hard/1\.png: is in IN, and originals are never replaced"),
        (
            ["{run}", "{drawings}/1.png", "{drawings}", "--overwrite"],
            r"1\.png: is in IN, and originals are never replaced",
        ),
        (["{run}", "{drawings}/1.png", "{drawings}/1.png", "--overwrite"], "originals are never replaced"),
        (
            ["{run}", "{drawings}", "{again}", "--clean", "{again}", "--overwrite"],
            "is in --clean, and originals",
        ),
        (["{run}", "{drawings}", "{drawings}/1.png"], "1.png: is a file"),
        (["{run}", "{drawings}/1.png", "{out}/a.gif"], "a.gif: must be a folder, or end in .bmp, "),
        (["{run}", "{drawings}", "{out}", "--clean", "{empty}"], "contains no image file"),
        (["{run}", "{drawings}", "{out}", "--clean", "{other}"], "has no original of any"),
        (
            ["{run}", "{drawings}", "{out}", "--overwrite", "--resume"],
            "--overwrite --resume: ",
        ),
        (["{run}", "{drawings}", "{drawings}", "--resume"], "is IN itself"),
        (["{run}", "{drawings}", "{out}", "--clean", "{damaged}"], r"damaged/1\.png: cannot be decoded"),
        (
            ["{run}", "{drawings}", "{out}", "--clean", "{wrong}"],
            r"1\.png: .* size: 28x40 and 40x28; so do 1 other",
        ),
        (["{run}"], "see --help"),
        (["{vectors}", "{drawings}", "{out}"], "its inputs \\(6\\) and outputs \\(6\\) must be gray or color images"),
    ],
)
def test_invalid_arguments_are_one_line_and_write_nothing(
    run: Path,
    trained: Callable[..., Path],
    drawings: Path,
    tmp_path: Path,
    caplog: Any,
    words: list[str],
    expected: str,
) -> None:
    places = {"run": run, "drawings": drawings, "out": tmp_path / "out"}
    places |= {name: tmp_path / name for name in ("none", "empty", "other")}
    for name in ("empty", "other"):
        places[name].mkdir()
    MODES["L.png"].save(places["other"] / "z.png")
    if "{vectors}" in words:
        places["vectors"] = trained("dataset=random", "dataset.shape=[6]", "model.code_size=3")
    shutil.copytree(drawings, places.setdefault("again", tmp_path / "again"))
    places |= {"link": tmp_path / "link", "hard": tmp_path / "hard"}
    places["link"].symlink_to(drawings)
    places["hard"].mkdir()
    os.link(drawings / "1.png", places["hard"] / "1.png")
    for name in ("damaged", "wrong"):
        places[name] = tmp_path / name
        places[name].mkdir()
    (places["damaged"] / "1.png").write_bytes(b"nothing")
    for name in ("1.png", "3.png"):
        with Image.open(drawings / name) as picture:
            picture.transpose(Image.Transpose.ROTATE_90).save(places["wrong"] / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AerunError, match=expected) as caught:
        call(*(word.format(**places) for word in words))
    assert "\n" not in str(caught.value) and str(caught.value) not in caplog.text  # reported once
    assert sorted(tmp_path.rglob("*")) == before


def scores(**psnrs: float) -> Scores:
    found = Scores()
    for way, psnr in psnrs.items():
        found.add({"run": RUN, "input": INPUT}.get(way, way), "", "a", Score(psnr, psnr / 100))
    return found


def test_the_verdict_names_better_methods() -> None:
    won = scores(run=30, input=20, median=25).verdict()
    assert (
        won.startswith("The run beats all other methods in PSNR: +5.00 dB over the next, median") and "in SSIM" in won
    )
    lost = scores(run=24, input=20, median=25, means=24).verdict()
    assert lost.startswith("The run does not beat median (25.00 dB), means (24.00 dB); it reaches 24.00 dB")
    assert "does not beat input as it is" in scores(run=19, input=20).verdict()


def test_the_setting_with_the_best_mean_counts() -> None:
    found = Scores()
    for setting, values in {"3x3": (20, 30), "5x5": (24, 28), "7x7": (31, 10)}.items():
        for name, value in zip("ab", values, strict=True):
            found.add("median", setting, name, Score(value, 0.5))
    assert found.best("median")[0] == "5x5" and found.means("median") == Score(26, 0.5)


def test_scores_of_the_run_and_of_filters(run: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    for name in ("dirty", "clean"):
        (tmp_path / name).mkdir()
    clean_pixels = np.full((40, 36), 200, np.uint8)
    dirty = clean_pixels.copy()
    dirty[::7, ::9] = 0  # single specks on uniform gray, which a median filter removes completely
    Image.fromarray(dirty).save(tmp_path / "dirty" / "a.png")
    Image.fromarray(clean_pixels).convert("RGB").save(tmp_path / "clean" / "a.webp", lossless=True)
    words = (run, tmp_path / "dirty", tmp_path / "out", "--clean", tmp_path / "clean")
    call(*words, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["cleaned"] == {"a.png": str(tmp_path / "out" / "a.png")}
    expected = -10 * math.log10(np.mean(np.square(dirty / 255 - clean_pixels / 255)))
    assert found["means"][INPUT]["psnr"] == pytest.approx(expected, abs=1e-4)
    assert found["means"]["median filter"] | {"pictures": 0} == {
        "setting": "3x3",
        "psnr": 100,
        "ssim": 1,
        "pictures": 0,
    }
    assert {"bilateral filter", "non-local means", RUN} <= found["means"].keys()
    call(*words, "--resume", "--json")
    again = json.loads(capsys.readouterr().out)
    assert again["means"] == found["means"] and (again["cleaned"], again["there"]) == ({}, found["cleaned"])
    call(*words, "--overwrite")
    output = capsys.readouterr().out
    assert "The run does not beat" in output and "median filter (100.00 dB)" in output


def test_gray_images_are_scored_against_gray_originals(run: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    (tmp_path / "dirty").mkdir()
    Image.fromarray(np.full((30, 30), 90, np.uint8)).save(tmp_path / "dirty" / "a.png")
    call(run, tmp_path / "dirty", tmp_path / "out", "--clean", tmp_path / "dirty", "--json")
    found = json.loads(capsys.readouterr().out)["means"]
    assert len(found) == 5 and found["median filter"]["psnr"] == found["bilateral filter"]["psnr"] == 100


def test_a_run_trained_without_noise_is_a_warning(
    trained: Callable[..., Path], drawings: Path, tmp_path: Path, caplog: Any
) -> None:
    call(trained(), drawings / "0.png", tmp_path / "out.png")
    assert "was trained without noise" in caplog.text and (tmp_path / "out.png").exists()


def test_missing_scikit_image_is_an_error_with_the_remedy(
    run: Path, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AerunError, match=r"scikit-image: pip install 'aerun\[denoise\]'"):
        call(run, drawings, tmp_path / "out", "--clean", drawings)
    assert not (tmp_path / "out").exists()
