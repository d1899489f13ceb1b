"""What a cleaned file keeps of its image: everything that is seen, or a line says what is lost."""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from aerun.errors import DataError
from aerun.use.denoising.scan_files import SAVE_OPTIONS, output_name, read_scan, size_of, write_scan
from tests.test_picture_files import damaged, with_metadata

SIDE = 24
Y, X = np.mgrid[:SIDE, :SIDE] / SIDE
SHADES = [0.3 + 0.5 * Y, 0.8 - 0.6 * X, 0.5 + 0.3 * np.sin(5 * X * Y)]
COLOR = (np.stack(SHADES, -1) * 255).round().astype(np.uint8)
ALPHA = np.where(Y < 0.3, 0, np.where(X < 0.3, 120, 255)).astype(np.uint8)
DEEP = (SHADES[1] * 65535).round().astype(np.uint16)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MODES = {
    "RGB": Image.fromarray(COLOR),
    "RGBA": Image.fromarray(np.dstack([COLOR, ALPHA])),
    "L": Image.fromarray(COLOR[..., 1]),
    "LA": Image.fromarray(np.dstack([COLOR[..., 1], ALPHA])),
    "1": Image.fromarray(COLOR[..., 1] > 100),
    "P": Image.fromarray(COLOR).quantize(60),
    "CMYK": Image.fromarray(COLOR).convert("CMYK"),
    "I;16": Image.fromarray(DEEP),
}
FORMS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "gif": "GIF", "jp2": "JPEG2000"}


def over_white(path: Path) -> np.ndarray:
    """What a viewer shows, in [0,1] [H,W,3]."""
    with Image.open(path) as opened:
        if opened.mode.startswith("I"):
            gray = np.asarray(opened).astype(np.float64) / 65535
            return np.stack([gray] * 3, -1)
        seen = opened.convert("RGBA")
    page = Image.new("RGBA", seen.size, "white")
    return np.asarray(Image.alpha_composite(page, seen).convert("RGB")) / 255


def cleaned(source: Path, target: Path | None = None) -> tuple[Path, list[str]]:
    """A file written without cleaning, and what is said to be lost."""
    target = target or source.parent / "out" / output_name(source.name)
    scan = read_scan(source)
    return target, write_scan(target, scan.with_values(scan.visible_values()))


def info(path: Path) -> dict[str, Any]:
    with Image.open(path) as opened:
        opened.load()
        return dict(opened.info)


@pytest.mark.parametrize(("suffix", "mode"), list(itertools.product(FORMS, MODES)))
def test_a_written_image_is_seen_as_the_read_one(suffix: str, mode: str, tmp_path: Path) -> None:
    """Every mode that Pillow writes in every format: the same over white, resolution and profile kept, or a line."""
    source = tmp_path / f"x.{suffix}"
    how: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    try:
        MODES[mode].save(source, FORMS[suffix], dpi=(300, 300), icc_profile=PROFILE, **how)
    except (OSError, ValueError):
        pytest.skip("Pillow does not write this mode in this format")
    target, losses = cleaned(source)
    said = " ".join(losses)
    before, after = info(source), info(target)
    np.testing.assert_allclose(over_white(target), over_white(source), atol=0.06 if suffix == "jpg" else 1.1 / 255)
    if "dpi" in before:
        np.testing.assert_allclose(*(np.array(about["dpi"], float) for about in (after, before)), atol=0.05)
    if "icc_profile" in before:
        assert after.get("icc_profile") == PROFILE or "profile" in said
    with Image.open(source) as one, Image.open(target) as other:
        assert other.has_transparency_data == one.has_transparency_data or "transparency" in said
        assert other.mode.startswith("I") == one.mode.startswith("I") or "more than 8 bits" in said


def bmp_with_alpha(path: Path) -> None:
    """32 bits with an alpha mask (BITMAPV4HEADER), which Pillow reads and does not write."""
    pixels = np.dstack([COLOR, ALPHA])[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<IIII", 0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, SIDE, SIDE, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    path.write_bytes(
        b"BM" + struct.pack("<IHHI", 14 + 108 + len(pixels), 0, 0, 14 + 108) + header + masks + bytes(52) + pixels
    )


@pytest.mark.parametrize("target", ["x.bmp", "x.jpg"])
def test_transparency_that_a_format_lacks_is_blended_with_white(target: str, tmp_path: Path) -> None:
    bmp_with_alpha(tmp_path / "a.bmp")
    assert over_white(tmp_path / "a.bmp")[0, -1].min() == 1
    path, losses = cleaned(tmp_path / "a.bmp", tmp_path / target)
    np.testing.assert_allclose(over_white(path), over_white(tmp_path / "a.bmp"), atol=0.06)
    assert any("transparency" in loss for loss in losses)


def png_16(path: Path, kind: int, values: np.ndarray, chunks: bytes = b"") -> None:
    """A PNG of 16 bits per channel; ``kind`` 0 is gray, 2 color."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 16, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def tiff_deep(path: Path, bits: int, photometric: int, samples: int = 1) -> None:
    """A TIFF of 12 or 16 bits per channel at 300 dots per inch; ``photometric`` 0: white is zero."""
    planes = SHADES[:samples] if samples > 1 else SHADES[1:2]
    values = (np.stack(planes, -1) * (2**bits - 1)).round().astype(int).ravel()
    values = 2**bits - 1 - values if photometric == 0 else values
    if bits == 16:
        pixels = values.astype("<u2").tobytes()
    else:
        pairs = values.reshape(-1, 2).tolist()
        pixels = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    extra = struct.pack("<3H", bits, bits, bits) + bytes(2) if samples == 3 else b""
    place = 8 + 2 + 12 * 12 + 4
    short, long, ratio = 3, 4, 5
    tags = [(256, short, 1, SIDE), (257, short, 1, SIDE)]
    tags += [(258, short, 3, place + 16) if samples == 3 else (258, short, 1, bits)]
    tags += [(259, short, 1, 1), (262, short, 1, photometric), (273, long, 1, place + 16 + len(extra))]
    tags += [(277, short, 1, samples), (278, short, 1, SIDE), (279, long, 1, len(pixels))]
    tags += [(282, ratio, 1, place), (283, ratio, 1, place + 8), (296, short, 1, 2)]
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + struct.pack("<I", 0)
    path.write_bytes(head + struct.pack("<4I", 300, 1, 300, 1) + extra + pixels)


@pytest.mark.parametrize(("bits", "photometric"), [(16, 1), (16, 0), (12, 1)])
def test_deep_gray_keeps_values_and_resolution(bits: int, photometric: int, tmp_path: Path) -> None:
    tiff_deep(tmp_path / "x.tif", bits, photometric)
    path, losses = cleaned(tmp_path / "x.tif")
    with Image.open(path) as written:
        assert written.mode == "I;16" and written.info["dpi"] == (300, 300)
        np.testing.assert_allclose(np.asarray(written) / 65535, SHADES[1], atol=2 / 2**bits)
    assert losses == []


def test_lost_bits_are_named(tmp_path: Path) -> None:
    color = (np.stack(SHADES, -1) * 65535).round().astype(np.uint16)
    png_16(tmp_path / "color.png", 2, color.reshape(SIDE, -1))
    tiff_deep(tmp_path / "color.tif", 16, 2, samples=3)
    Image.fromarray(DEEP).save(tmp_path / "gray.png")
    expected = "more than 8 bits per channel become 8"
    for name in ("color.png", "color.tif"):
        path, losses = cleaned(tmp_path / name)
        assert losses == [expected], name
        np.testing.assert_allclose(over_white(path), np.stack(SHADES, -1), atol=1.1 / 255)
    assert cleaned(tmp_path / "gray.png")[1] == []
    assert cleaned(tmp_path / "gray.png", tmp_path / "gray.webp")[1] == ["more than 8 bits of gray become 8"]


def test_deep_gray_with_a_transparent_value_is_white_there(tmp_path: Path) -> None:
    values = DEEP.copy()
    values[:4] = 777
    Image.fromarray(values).save(tmp_path / "x.png", transparency=777)
    path, losses = cleaned(tmp_path / "x.png")
    with Image.open(path) as written:
        assert (np.asarray(written)[:4] == 65535).all() and (np.asarray(written)[4:] == values[4:]).all()
    assert losses == ["transparency of 16-bit gray becomes white"]


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_frames_that_are_lost_are_named(form: str, tmp_path: Path) -> None:
    if form == "AVIF" and form not in Image.SAVE_ALL:
        pytest.skip("Pillow without AVIF")
    frames = [Image.fromarray(COLOR), Image.fromarray(255 - COLOR)]
    frames[0].save(tmp_path / "x", form, save_all=True, append_images=frames[1:])
    kind = "pages" if form == "TIFF" else "frames"
    assert cleaned(tmp_path / "x")[1] == [f"has several {kind}; only the first is cleaned"]


def test_cmyk_is_converted_by_its_profile_or_a_line_says_not(tmp_path: Path) -> None:
    MODES["CMYK"].save(tmp_path / "x.jpg", icc_profile=PROFILE)  # a profile of another kind
    path, losses = cleaned(tmp_path / "x.jpg")
    assert losses == ["CMYK becomes RGB by a formula, without a color profile"]
    assert "icc_profile" not in info(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_every_written_file_is_read_again(form: str, tmp_path: Path) -> None:
    """Damaged metadata of any kind are not passed on: the cleaned file opens, and shows what the read one showed."""
    content, places = with_metadata(form)
    draw, suffix = random.Random(1), {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[form]
    source, target = tmp_path / f"x.{suffix}", tmp_path / f"y.{suffix}"
    for start, stop in places:
        for _ in range(30):
            source.write_bytes(damaged(content, start, stop, draw))
            scan = read_scan(source)
            write_scan(target, scan)
            again = read_scan(target)
            assert again.losses == [] and again.metadata.keys() >= scan.metadata.keys()
            np.testing.assert_allclose(again.values, scan.values, atol=0.3 if form == "JPEG" else 0)
            assert size_of(target) == size_of(target, thorough=True) == tuple(scan.values.shape[:0:-1])
            with Image.open(target) as written:
                written.load()
                dict(written.getexif())


def test_damaged_exif_and_profile_are_left_out_by_name(tmp_path: Path) -> None:
    garbage = b"Exif\0\0garbagegarbage"
    Image.fromarray(COLOR).save(tmp_path / "x.png", exif=garbage, icc_profile=b"a profile")
    path, losses = cleaned(tmp_path / "x.png")
    assert losses == ["its color profile is damaged and left out", "its EXIF data are damaged and left out"]
    assert not {"exif", "icc_profile"} & info(path).keys()


def test_exif_is_kept_without_its_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    Image.fromarray(COLOR[:10]).save(tmp_path / "x.jpg", exif=exif)
    assert size_of(tmp_path / "x.jpg") == (10, SIDE)
    path, losses = cleaned(tmp_path / "x.jpg")
    with Image.open(path) as written:
        assert written.size == (10, SIDE)
        assert dict(written.getexif()).keys() == {0x010F, 0x8769}
        assert written.getexif().get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
    assert losses == []


def test_an_image_too_large_for_its_format_is_one_line(tmp_path: Path) -> None:
    Image.new("L", (17000, 1)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.webp: an image of 17000x1 cannot be written in this format"):
        write_scan(tmp_path / "x.webp", read_scan(tmp_path / "x.png"))


def test_metadata_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "long " * 20000
    Image.fromarray(COLOR).save(tmp_path / "x.png", exif=exif)
    assert cleaned(tmp_path / "x.png", tmp_path / "x.jpg")[1] == [
        "profile, resolution and EXIF do not fit the format and are left out"
    ]


def test_suffixes_are_written_in_their_own_format(tmp_path: Path) -> None:
    MODES["RGB"].save(tmp_path / "x.png")
    for suffix in SAVE_OPTIONS:
        cleaned(tmp_path / "x.png", tmp_path / f"y{suffix}")
        with Image.open(tmp_path / f"y{suffix}") as written:
            assert written.format == Image.registered_extensions()[suffix]
    assert output_name("a.gif") == "a.gif.png" and output_name("b.avif") == "b.avif.png"
