"""Which picture files are opened, in which formats, and that metadata never decide about pixels."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import os
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from aerun.dataset.decoder import Decoder
from aerun.dataset.picture_files import FORMATS, find_pictures, formats, open_picture, pillow_settings, suffixes
from aerun.dataset.picture_notes import PictureNotes
from aerun.errors import ConfigError
from tests.test_layers import MODULES

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[20:212:8, 40:232:8], 120), -1).astype(np.uint8)
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'></x:xmpmeta>"


def encoded(form: str, pixels: np.ndarray = PIXELS, **how: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form, **how)
    return content.getvalue()


def exif_block() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 1, "Maker", 72.0
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    return exif.tobytes()


def shown(path: Path) -> np.ndarray:
    return Decoder((3, 24, 24), "stretch").decode(path).transpose(1, 2, 0)


def test_pictures_are_opened_in_one_place_only() -> None:
    """Every other call of Image.open gets bytes that aerun itself has encoded."""
    calls = {
        (path.name, ast.unparse(node))
        for path, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    }
    assert calls == {
        ("picture_files.py", "Image.open(file, formats=formats())"),
        ("compression.py", "Image.open(io.BytesIO(content))"),
        ("picture.py", "Image.open(io.BytesIO(content), formats=('PNG', 'WEBP'))"),  # behind a check sum
        ("duplicate_threshold.py", "Image.open(content)"),
    }


def test_no_format_is_opened_but_the_documented_ones(tmp_path: Path) -> None:
    """Pillow's writers of all its formats, under a trusted suffix: the decoder takes those of FORMATS and no other."""
    Image.init()
    written = {}
    for form in Image.SAVE:
        with contextlib.suppress(OSError, ValueError):  # the writer needs a library, or another mode than RGB
            written[form] = encoded(form)
    assert {"EPS", "PCX", "PPM", "SGI", "TGA", "ICO", "IM"} <= written.keys()
    path = tmp_path / "x.png"
    for form, content in written.items():
        path.write_bytes(content)
        kind = "JPEG" if form == "MPO" else form  # an MPO of one picture is a JPEG
        if kind in FORMATS:
            with open_picture(path) as picture:
                assert picture.format == kind
        else:
            with pytest.raises(UnidentifiedImageError):
                open_picture(path)


def test_postscript_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, program = tmp_path / "started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "x.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    notes = PictureNotes()
    list(Decoder((3, 8, 8), "crop").chunks([tmp_path / "x.png"], notes))
    assert "not in one of the formats PNG, JPEG" in notes.bad[0] and not mark.exists()


def test_every_format_is_read_under_each_of_its_suffixes(tmp_path: Path) -> None:
    for form in set(formats()) - {"HEIF"}:
        content = encoded(form, SMOOTH)
        for suffix in FORMATS[form]:
            (tmp_path / f"{form}{suffix}").write_bytes(content)
    found = find_pictures(tmp_path)
    assert len(found.paths) == sum(len(FORMATS[form]) for form in set(formats()) - {"HEIF"}) and not found.left_out
    for path in found.paths:
        assert np.abs(shown(path).astype(int) - SMOOTH).mean() < 6, path.name


def test_heic_is_read_with_its_extra(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    assert "HEIF" in formats()
    (tmp_path / "x.heic").write_bytes(encoded("HEIF", SMOOTH))
    assert find_pictures(tmp_path).paths == [tmp_path / "x.heic"]
    assert np.abs(shown(tmp_path / "x.heic").astype(int) - SMOOTH).mean() < 6


def png_chunks(content: bytes) -> list[tuple[int, int]]:
    """Start and stop of the data of each chunk that is not about pixels."""
    found, place = [], 8
    while place < len(content):
        size = struct.unpack_from(">I", content, place)[0]
        if content[place + 4 : place + 8] not in (b"IHDR", b"IDAT", b"IEND"):
            found.append((place + 8, place + 8 + size))
        place += 12 + size
    return found


def jpeg_segments(content: bytes) -> list[tuple[int, int]]:
    """Start and stop of the data of each application segment and comment before the scan."""
    found, place = [], 2
    while content[place + 1] != 0xDA:
        size = struct.unpack_from(">H", content, place + 2)[0]
        if 0xE0 <= content[place + 1] <= 0xEF or content[place + 1] == 0xFE:
            found.append((place + 4, place + 2 + size))
        place += 2 + size
    return found


def webp_chunks(content: bytes) -> list[tuple[int, int]]:
    found, place = [], 12
    while place < len(content):
        size = struct.unpack_from("<I", content, place + 4)[0]
        if content[place : place + 4] in (b"EXIF", b"XMP ", b"ICCP"):
            found.append((place + 8, place + 8 + size))
        place += 8 + size + size % 2
    return found


def profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def with_metadata(form: str) -> tuple[bytes, list[tuple[int, int]]]:
    """A file with all metadata that Pillow writes, and where they are."""
    about: dict[str, Any] = {"exif": exif_block(), "icc_profile": profile()}
    if form == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Comment", "hello" * 10, zip=True)
        texts.add_itxt("Title", "hello", "en", "Titel")
        content = encoded("PNG", pnginfo=texts, dpi=(72, 72), **about)
        end = content.index(b"IEND") - 4  # metadata may also follow the pixels
        body = b"tEXt" + b"Author\0somebody"
        late = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        content = content[:end] + late + content[end:]
        return content, png_chunks(content)
    if form == "JPEG":
        content = encoded("JPEG", quality=95, comment=b"hi", dpi=(72, 72), xmp=XMP, **about)
        return content, jpeg_segments(content)
    if form == "MPO":
        content = encoded("MPO", save_all=True, append_images=[Image.fromarray(PIXELS)])
        return content, jpeg_segments(content)
    content = encoded("WEBP", lossless=True, xmp=XMP, **about)
    return content, webp_chunks(content)


def damaged(content: bytes, start: int, stop: int, draw: random.Random) -> bytes:
    """The bytes from ``start`` to ``stop`` changed here and there, or from some place on all random or all zero."""
    changed, kind = bytearray(content), draw.randrange(3)
    place = draw.randrange(start, stop)
    if kind == 0:
        for _ in range(draw.randint(1, 6)):
            changed[draw.randrange(start, stop)] = draw.choice([0, 1, 255, draw.randrange(256)])
    else:
        changed[place:stop] = bytes(draw.randrange(256) if kind == 1 else 0 for _ in range(stop - place))
    return bytes(changed)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "MPO", "WEBP"])
def test_damaged_metadata_never_cost_pixels(form: str, tmp_path: Path) -> None:
    """Any damage in any metadata, with right and with wrong checksums: the pixels are those of the whole file."""
    content, places = with_metadata(form)
    path, draw = tmp_path / "x.png", random.Random(0)
    path.write_bytes(content)
    expected = shown(path)
    assert len(places) >= (2 if form == "MPO" else 3)
    for start, stop in places:
        for attempt in range(60):
            changed = damaged(content, start, stop, draw)
            if form == "PNG" and attempt % 2:
                changed = (
                    changed[:stop] + struct.pack(">I", zlib.crc32(changed[start - 4 : stop])) + changed[stop + 4 :]
                )
            path.write_bytes(changed)
            turned = [np.rot90(expected, turns) for turns in range(4)]  # the orientation may have become another
            turned += [side[:, ::-1] for side in turned]
            assert any(np.array_equal(shown(path), side) for side in turned), (start, attempt)


def test_damaged_pixels_of_a_png_are_still_refused(tmp_path: Path) -> None:
    content, _ = with_metadata("PNG")
    place = content.index(b"IDAT") + 200
    (tmp_path / "x.png").write_bytes(content[:place] + bytes(40) + content[place + 40 :])
    with pytest.raises(Exception, match=r"broken|CRC|truncated|decod"):
        shown(tmp_path / "x.png")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "good.png").write_bytes(encoded("PNG"))
    paths, notes = find_pictures(tmp_path).paths, PictureNotes()
    (chunk,) = Decoder((3, 24, 24), "stretch").chunks(paths, notes, tmp_path)
    reasons = {paths[index].name: reason for index, reason in notes.bad.items()}
    assert reasons.keys() == {"pipe.png", "loop.png", "device.png", "gone.png"}
    assert reasons["pipe.png"] == "it is a pipe, not a regular file"
    np.testing.assert_array_equal(chunk[[path.name for path in paths].index("good.png")].transpose(1, 2, 0), PIXELS)


def test_what_is_passed_over_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = encoded("PNG")
    names = ["a/1.png", "a/2.JPEG", "a/3.jfif", "b.tga", "c.tga", "plain", ".hidden.png", "a/._1.png", "notes.txt"]
    names += [".ipynb_checkpoints/a/1.png", "__MACOSX/a/1.png", "@eaDir/1.png/thumb.jpg", ".git/config", "a/.DS_Store"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(whole)
    found = find_pictures(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == ["a/1.png", "a/2.JPEG", "a/3.jfif"]
    assert dict(found.left_out) == {".tga": 2, "without a suffix": 1, "hidden": 5, ".txt": 1}
    with caplog.at_level(logging.INFO):
        found.log_left_out(tmp_path)
    assert caplog.messages == [f"{tmp_path}: files left out: 5 hidden, 2 .tga, 1 .txt, 1 without a suffix"]
    assert find_pictures(tmp_path / ".ipynb_checkpoints").paths  # a hidden folder may be named


def test_files_that_are_no_pictures_are_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "labels.csv").touch()
    (tmp_path / "x.png").write_bytes(encoded("PNG"))
    with caplog.at_level(logging.INFO):
        find_pictures(tmp_path).log_left_out(tmp_path)
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_heic_files_that_are_left_out_name_the_extra(tmp_path: Path) -> None:
    (tmp_path / "x.heic").touch()
    found = find_pictures(tmp_path)
    assert ".heic" in suffixes() or found.others == "1 .heic (.heic needs pip install 'aerun[heif]')"


def test_one_cause_does_not_use_up_the_names() -> None:
    bad = {index: f"broken at byte {index}" for index in range(30)} | {30: "it is a pipe", 31: "empty", 32: "empty"}
    named = PictureNotes(bad=bad).named_failures()
    assert len(named) == 20 and {30, 31, 32} < {index for index, _ in named}
    assert named == sorted(named)


def test_the_largest_picture_is_set_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (3000, 2000)).save(tmp_path / "x.png")
    limit, decoder = Image.MAX_IMAGE_PIXELS, Decoder((1, 8, 8), "crop")
    for megapixels, refused in (("5.9", True), ("6", False)):
        monkeypatch.setenv("AERUN_MAX_MEGAPIXELS", megapixels)
        notes = PictureNotes()
        list(decoder.chunks([tmp_path / "x.png"], notes))
        assert bool(notes.bad) == refused
        assert not refused or notes.bad[0].startswith("6 megapixels, more than Pillow opens (6); ")
    monkeypatch.setenv("AERUN_MAX_MEGAPIXELS", "many")
    with pytest.raises(ConfigError, match="AERUN_MAX_MEGAPIXELS=many: must be a number"), pillow_settings():
        pass
    assert limit == Image.MAX_IMAGE_PIXELS
