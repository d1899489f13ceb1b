"""Folders of pictures: every mode and format, fitting, labels, and files with misleading names."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aerun.dataset import ImageFolder
from aerun.dataset.decoder import Decoder
from aerun.errors import DataError
from tests.keys import PLAIN

KEYS: dict[str, Any] = {
    **PLAIN,
    "size": 16,
    "channels": 3,
    "fit": "crop",
    "on_error": "skip",
    "test": 0.2,
}
CPU = torch.device("cpu")
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def folder(root: Path, **keys: Any) -> ImageFolder:
    return ImageFolder(root=str(root), **{**KEYS, **keys})


def plain(size: tuple[int, int], color: Any, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, color)


def halves(size: tuple[int, int], left: Any, right: Any, mode: str = "RGB") -> Image.Image:
    """A picture of (width, height) with a left half and a right half."""
    picture = Image.new(mode, size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture


def grays(root: Path, values: list[int], names: str = "{}.png") -> None:
    """Create pictures, each of a different uniform gray."""
    for value in values:
        path = root / names.format(value)
        path.parent.mkdir(parents=True, exist_ok=True)
        plain((16, 16), (value,) * 3).save(path)


def read(root: Path, **keys: Any) -> np.ndarray:
    """All pictures of a folder, uint8 [N,C,H,W], training part first."""
    arrays = folder(root, **keys).read()
    return np.concatenate([arrays.train, arrays.test])


def decode(picture: Image.Image, tmp_path: Path, name: str = "x.png", save: dict[str, Any] | None = None, **keys: Any):
    """One picture through a file: uint8 [C,H,W]."""
    picture.save(tmp_path / name, **(save or {}))
    made = folder(tmp_path, **keys)
    return Decoder(made.shape, made.fit).decode(tmp_path / name)


def blend(value: int, alpha: int) -> float:
    return (value * alpha + 255 * (255 - alpha)) / 255


# mode, color, name, RGB over white, error allowed (1 for rounding, 3 for JPEG)
MODES = [
    ("1", 255, "x.png", WHITE, 0),
    ("1", 0, "x.bmp", (0, 0, 0), 0),
    ("1", 255, "x.gif", WHITE, 0),
    ("L", 100, "x.png", (100,) * 3, 0),
    ("L", 100, "x.bmp", (100,) * 3, 0),
    ("L", 100, "x.jpg", (100,) * 3, 3),
    ("LA", (100, 128), "x.png", (blend(100, 128),) * 3, 1),
    ("LA", (0, 0), "x.webp", WHITE, 0),
    ("RGB", (10, 120, 230), "x.png", (10, 120, 230), 0),
    ("RGB", (10, 120, 230), "x.bmp", (10, 120, 230), 0),
    ("RGB", (10, 120, 230), "x.jpeg", (10, 120, 230), 3),
    ("RGBA", (200, 0, 50, 51), "x.png", (blend(200, 51), blend(0, 51), blend(50, 51)), 1),
    ("RGBA", (200, 0, 50, 0), "x.png", WHITE, 0),
    ("RGBA", (200, 0, 50, 255), "x.webp", (200, 0, 50), 0),
    ("CMYK", (0, 255, 255, 0), "x.jpg", RED, 3),
    ("CMYK", (0, 0, 0, 255), "x.jpg", (0, 0, 0), 3),
    ("I;16", 100 * 257, "x.png", (100,) * 3, 0),
    ("I;16", 65535, "x.png", WHITE, 0),
    ("I;16", 0, "x.png", (0, 0, 0), 0),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("mode", "color", "name", "expected", "error"), MODES)
def test_every_mode_is_shown_over_white(
    mode: str, color: Any, name: str, expected: tuple[float, ...], error: int, channels: int, tmp_path: Path
) -> None:
    save = {"lossless": True} if name.endswith("webp") else {"quality": 100} if ".jp" in name else {}
    image = decode(plain((20, 12), color, mode), tmp_path, name, save, channels=channels)
    assert image.shape == (channels, 16, 16) and image.dtype == np.uint8
    if channels == 1:
        expected, error = (0.299 * expected[0] + 0.587 * expected[1] + 0.114 * expected[2],), error + 1
    for channel, value in zip(image, expected, strict=True):
        assert np.abs(channel - value).max() <= error


@pytest.mark.parametrize("name", ["x.png", "x.gif"])
def test_a_transparent_palette_color_is_white(name: str, tmp_path: Path) -> None:
    picture = halves((16, 16), 0, 1, "P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    image = decode(picture, tmp_path, name, {"transparency": 0})
    assert (image[:, :, :8] == 255).all()
    assert (image[:, :, 8:] == np.array([40, 50, 60])[:, None, None]).all()


def test_partly_transparent_palette_colors_are_blended(tmp_path: Path) -> None:
    picture = halves((16, 16), 0, 1, "P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    image = decode(picture, tmp_path, save={"transparency": bytes([102, 255])})
    for channel, value in zip(image, (10, 20, 30), strict=True):
        assert np.abs(channel[:, :8] - blend(value, 102)).max() <= 1


def test_a_transparent_rgb_color_is_white(tmp_path: Path) -> None:
    image = decode(halves((16, 16), RED, BLUE), tmp_path, save={"transparency": RED})
    assert (image[:, :, :8] == 255).all() and (image[2, :, 8:] == 255).all() and (image[0, :, 8:] == 0).all()


def test_a_transparent_16_bit_gray_is_white(tmp_path: Path) -> None:
    image = decode(plain((16, 16), 1000, "I;16"), tmp_path, save={"transparency": 1000})
    assert (image == 255).all()


def test_16_bit_grays_are_scaled_not_cut_off(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    assert (decode(Image.fromarray(ramp), tmp_path, channels=1)[0] == np.arange(256).reshape(16, 16)).all()


def test_what_is_hidden_by_transparency_does_not_bleed_in(tmp_path: Path) -> None:
    picture = halves((64, 64), (0, 0, 0, 0), (255, 255, 255, 255), "RGBA")
    assert (decode(picture, tmp_path) == 255).all()


def test_the_first_frame_of_a_gif_is_taken(tmp_path: Path) -> None:
    frames = [plain((16, 16), color) for color in (RED, BLUE)]
    image = decode(frames[0], tmp_path, "x.gif", {"save_all": True, "append_images": frames[1:]})
    assert (image[0] == 255).all() and (image[2] == 0).all()


# EXIF 2.3, tag 0x0112: where the stored left half is to be shown.
@pytest.mark.parametrize(("orientation", "side"), [(1, "left"), (2, "right"), (3, "right"), (6, "top"), (8, "bottom")])
@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_exif_orientation_is_applied(orientation: int, side: str, name: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    save = {"exif": exif, "quality": 100, "subsampling": 0}
    image = decode(halves((32, 32), RED, BLUE), tmp_path, name, save, size=32).astype(int)
    parts = {"left": image[:, :, :14], "right": image[:, :, 18:], "top": image[:, :14], "bottom": image[:, 18:]}
    assert np.abs(parts[side] - np.array(RED)[:, None, None]).max() <= 3


def test_crop_cuts_the_middle_out_of_a_wide_picture(tmp_path: Path) -> None:
    picture = plain((64, 16), WHITE)
    picture.paste(halves((16, 16), RED, BLUE), (24, 0))
    image = decode(picture, tmp_path, fit="crop")
    assert (image == np.asarray(halves((16, 16), RED, BLUE)).transpose(2, 0, 1)).all()


def test_crop_cuts_the_middle_out_of_a_high_picture(tmp_path: Path) -> None:
    picture = plain((32, 128), WHITE)
    picture.paste(RED, (0, 48, 32, 80))
    image = decode(picture, tmp_path, fit="crop").astype(int)
    assert np.abs(image[:, 4:12] - np.array(RED)[:, None, None]).max() == 0


def test_pad_shows_the_whole_picture_between_white_bars(tmp_path: Path) -> None:
    image = decode(halves((16, 8), RED, BLUE), tmp_path, fit="pad")
    assert (image[:, :4] == 255).all() and (image[:, 12:] == 255).all()
    assert (image[:, 4:12] == np.asarray(halves((16, 8), RED, BLUE)).transpose(2, 0, 1)).all()


def test_pad_of_a_gray_picture_is_white_left_and_right(tmp_path: Path) -> None:
    image = decode(plain((4, 16), 10, "L"), tmp_path, fit="pad", channels=1)
    assert (image[0, :, 6:10] == 10).all() and (image[0, :, :6] == 255).all() and (image[0, :, 10:] == 255).all()


def test_stretch_ignores_proportions(tmp_path: Path) -> None:
    image = decode(halves((200, 16), RED, BLUE), tmp_path, fit="stretch").astype(int)
    assert np.abs(image[:, :, :6] - np.array(RED)[:, None, None]).max() <= 1
    assert np.abs(image[:, :, 10:] - np.array(BLUE)[:, None, None]).max() <= 1


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_picture_of_the_size_itself_is_unchanged(fit: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    image = decode(Image.fromarray(pixels), tmp_path, fit=fit, size=[48, 64])
    assert (image == pixels.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(7, 3), (3, 7), (1, 1), (90, 33), (1, 200)])
def test_size_is_height_then_width(fit: str, size: tuple[int, int], tmp_path: Path) -> None:
    assert decode(plain(size, RED), tmp_path, fit=fit, size=[48, 64]).shape == (3, 48, 64)


def test_pictures_of_all_sizes_and_formats_make_one_data_set(tmp_path: Path) -> None:
    for index, ending in enumerate(["png", "jpg", "webp", "gif", "bmp", "JPEG", "PNG", "Jpg"]):
        plain((10 + 7 * index, 40 - 3 * index), (30 * index,) * 3).save(tmp_path / f"{index}.{ending}")
    (tmp_path / "notes.txt").write_text("not a picture")
    data = folder(tmp_path, size=[20, 24]).load(CPU)
    assert data.train.inputs.dtype == torch.uint8 and data.input_shape == (3, 20, 24)
    assert len(data.train) + len(data.test) == 8
    assert data.train.labels is None and data.classes is None


def test_top_level_folders_are_labels(tmp_path: Path) -> None:
    grays(tmp_path, list(range(0, 10)), "cats/{}.png")
    grays(tmp_path, list(range(100, 110)), "dogs/young/small/{}.png")
    grays(tmp_path, list(range(200, 210)), "birds/{}.png")
    data = folder(tmp_path).load(CPU)
    assert data.classes == ["birds", "cats", "dogs"]
    assert data.train.labels is not None and data.test.labels is not None
    for split in (data.train, data.test):
        for image, label in zip(split.inputs, split.labels, strict=True):
            assert data.classes[label] == {0: "cats", 1: "dogs", 2: "birds"}[int(image[0, 0, 0]) // 100]


def test_a_picture_outside_the_folders_leaves_no_labels(tmp_path: Path) -> None:
    grays(tmp_path, [1, 2, 3], "cats/{}.png")
    grays(tmp_path, [4])
    data = folder(tmp_path).load(CPU)
    assert data.train.labels is None and data.test.labels is None and data.classes is None


def test_training_and_test_parts_are_disjoint_and_complete(tmp_path: Path) -> None:
    grays(tmp_path, list(range(0, 250, 5)))
    arrays = folder(tmp_path, test=0.3).read()
    train, test = set(arrays.train[:, 0, 0, 0].tolist()), set(arrays.test[:, 0, 0, 0].tolist())
    assert (len(train), len(test)) == (35, 15)
    assert train | test == set(range(0, 250, 5))


def test_order_and_split_do_not_depend_on_when_files_were_made(tmp_path: Path) -> None:
    grays(tmp_path / "one", list(range(40)), "{:03}.png")
    grays(tmp_path / "two", list(range(39, -1, -1)), "{:03}.png")
    one, two = (folder(tmp_path / name).read() for name in ("one", "two"))
    assert (one.train == two.train).all() and (one.test == two.test).all()
    values = one.train[:, 0, 0, 0].tolist()
    assert values == sorted(values)


def test_split_seed_draws_the_test_part(tmp_path: Path) -> None:
    grays(tmp_path, list(range(40)))
    first, second = (folder(tmp_path, split_seed=seed).read().test[:, 0, 0, 0].tolist() for seed in (0, 1))
    assert first != second


def cut_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


BAD = {"text.png": b"this is no picture", "cut.jpg": cut_jpeg(), "empty.gif": b"", "header.png": b"\x89PNG\r\n\x1a\n"}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_reported_and_left_out(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grays(tmp_path, [10, 20, 30])
    (tmp_path / name).write_bytes(BAD[name])
    with caplog.at_level(logging.WARNING):
        images = read(tmp_path)
    assert sorted(images[:, 0, 0, 0].tolist()) == [10, 20, 30]
    failures = [line for line in caplog.messages if "cannot be decoded" in line]
    assert [str(tmp_path / name) in line for line in failures] == [True]


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_fatal_if_asked(name: str, tmp_path: Path) -> None:
    grays(tmp_path, [10, 20, 30])
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(DataError) as caught:
        read(tmp_path, on_error="fail")
    assert str(tmp_path / name) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_labels_belong_to_their_pictures_where_files_are_left_out(tmp_path: Path) -> None:
    for index in range(6):
        grays(tmp_path, [index], f"{index}/picture{{}}.png")
        (tmp_path / str(index) / "bad.png").write_bytes(b"")
    (tmp_path / "only bad").mkdir()
    (tmp_path / "only bad" / "bad.png").write_bytes(b"")
    data = folder(tmp_path).load(CPU)
    assert data.classes == list("012345")
    assert data.train.labels is not None
    assert data.train.labels.tolist() == data.train.inputs[:, 0, 0, 0].tolist()
    for arrays in (folder(tmp_path).read(), folder(tmp_path).read_cached()):
        assert arrays is not None and arrays.test_files is not None
        shown = [int(path.parent.name) for path in arrays.test_files]
        assert shown == [int(image.max()) for image in np.asarray(arrays.test[:])]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_jpeg_with_wrong_exif_bytes_does_not_stop_the_run(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0  # orientation and resolution
    buffer = io.BytesIO()
    plain((16, 16), RED).save(buffer, "JPEG", exif=exif)
    whole = buffer.getvalue()
    start = whole.index(b"Exif")
    grays(tmp_path, [10, 20, 30])
    for position in range(start + 14, start + 50):
        for value in (0, 1, 13, 255):
            damaged = whole[:position] + bytes([value]) + whole[position + 1 :]
            (tmp_path / f"{position}-{value}.jpg").write_bytes(damaged)
    assert len(read(tmp_path)) >= 3


def test_only_bad_files_are_refused(tmp_path: Path) -> None:
    for name, content in BAD.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="none of its 4 pictures"):
        read(tmp_path)


def test_one_picture_cannot_be_split(tmp_path: Path) -> None:
    grays(tmp_path, [1])
    with pytest.raises(DataError, match="1 images"):
        read(tmp_path)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="no picture") as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_file_as_root_is_refused(tmp_path: Path) -> None:
    grays(tmp_path, [1])
    with pytest.raises(DataError, match=r"is a file.*dataset=array"):
        read(tmp_path / "1.png")


def test_a_root_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.root=.*nowhere"):
        read(tmp_path / "nowhere")


def test_names_may_hold_any_letters(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("größe", "猫 と 犬", "a=b,c", "[x]*?", "new\nline"):
        grays(tmp_path, [10, 20, 30], f"{name}/{{}} ñ.png")
    (tmp_path / "größe" / "schlecht ✗.png").write_bytes(b"")
    data = folder(tmp_path).load(CPU)
    assert len(data.train) + len(data.test) == 15
    assert data.classes == sorted(["größe", "猫 と 犬", "a=b,c", "[x]*?", "new\nline"])
    assert "schlecht ✗.png" in caplog.text


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    grays(tmp_path, [10, 20, 30], "a/{}.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(read(tmp_path)) == 3


def test_a_link_to_nothing_is_left_out(tmp_path: Path) -> None:
    grays(tmp_path, [10, 20, 30])
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    assert len(read(tmp_path)) == 3
    data = folder(tmp_path).load(CPU)  # through the cache
    assert len(data.train) + len(data.test) == 3


def test_size_must_be_one_or_two_numbers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"size=\[1, 2, 3\]"):
        folder(tmp_path, size=[1, 2, 3])


def drawing(ink: int, number: int) -> Image.Image:
    """A line of gray ``ink`` on a transparent ground."""
    page = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    page.paste((ink, ink, ink, 255), (2 + number, 4, 6 + number, 28))
    return page


@pytest.mark.parametrize(("background", "color"), [("white", WHITE), ("black", (0, 0, 0)), ("#102030", (16, 32, 48))])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_and_bars_show_the_background(
    background: str, color: tuple[int, int, int], channels: int, tmp_path: Path
) -> None:
    picture = Image.new("RGBA", (16, 8), (200, 0, 50, 0))
    picture.paste((200, 0, 50, 255), (8, 0, 16, 8))
    picture.save(tmp_path / "x.png")
    deep = Image.fromarray(np.repeat(np.uint16([[500, 65535]]), 8, 1).repeat(8, 0))
    deep.save(tmp_path / "y.png", transparency=500)
    palette = picture.convert("RGB").quantize(2)
    palette.save(tmp_path / "z.png", transparency=palette.getpixel((0, 0)))
    expected = color if channels == 3 else (round(0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]),)
    decoder = folder(tmp_path, channels=channels, background=background, fit="pad").decoder
    for name in ("x.png", "y.png", "z.png"):
        image = decoder.decode(tmp_path / name)
        for channel, value in zip(image.astype(int), expected, strict=True):
            bars = np.concatenate([channel[:4], channel[12:]])
            assert np.abs(bars - value).max() <= 1 and np.abs(channel[4:12, :7] - value).max() <= 1


def test_a_background_that_is_no_color_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"background=whit: must be a color, by name"):
        folder(tmp_path, background="whit")


def test_pictures_that_become_blank_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8):
        drawing(255, number).save(tmp_path / f"{number}.png")
    for again in range(2):  # decoded, then from the cache
        caplog.clear()
        folder(tmp_path).load(CPU)
        (line,) = caplog.messages
        assert line.startswith("all 8 images are blank, every pixel of one color; transparent pixels become white")
        assert str(tmp_path / "0.png") in line and "and 3 more" in line, again
    caplog.clear()
    folder(tmp_path, background="black").load(CPU)
    assert not caplog.messages


def test_gray_that_fills_little_of_16_bits_is_named_and_scaled_by_a_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for number in range(6):
        Image.fromarray(ramp * 16 + number).save(tmp_path / f"{number}.png")
    for again in range(2):
        caplog.clear()
        folder(tmp_path, channels=1).load(CPU)
        (line,) = caplog.messages
        assert "5.png: 6 gray pictures" in line and "brightest value is 4,085 of 65,535" in line, again
        assert "dataset.white_value=4095 makes that value white" in line
    caplog.clear()
    data = folder(tmp_path, channels=1, white_value=4095).load(CPU)
    assert not caplog.messages
    images = np.concatenate([data.train.inputs.numpy(), data.test.inputs.numpy()]).astype(int)
    assert np.abs(images - np.arange(256).reshape(16, 16)).max() <= 1


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_of_unknown_range_are_read_with_a_key(kind: Any, tmp_path: Path) -> None:
    ramp = np.arange(256).reshape(16, 16)
    Image.fromarray((ramp * 1000).astype(kind)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"of unknown range; scale .*, or train with dataset\.white_value"):
        folder(tmp_path, channels=1).decoder.decode(tmp_path / "x.tif")
    image = folder(tmp_path, channels=1, white_value=255_000).decoder.decode(tmp_path / "x.tif")
    assert (image[0] == ramp).all()


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_deep_gray_of_either_byte_order_is_read(order: str, tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.frombytes("I;16B" if order == ">u2" else "I;16", (16, 16), ramp.astype(order).tobytes()).save(
        tmp_path / "x.tif"
    )
    for number in range(3):
        (tmp_path / f"{number}.tif").write_bytes((tmp_path / "x.tif").read_bytes())
    assert (read(tmp_path, channels=1)[:, 0] == np.arange(256).reshape(16, 16)).all()


def test_bright_16_bit_gray_is_no_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(6):
        Image.fromarray((np.arange(256).reshape(16, 16) * (40 * number)).astype(np.uint16)).save(
            tmp_path / f"{number}.png"
        )
    folder(tmp_path, channels=1).load(CPU)
    assert not [line for line in caplog.messages if "brightest" in line]
