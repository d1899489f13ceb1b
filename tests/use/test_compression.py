"""The picture codec: what is written is read, exactly as the model computes it, and nothing else is ever read."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import aerun
from aerun.cli import compress as compress_command
from aerun.cli import decompress as decompress_command
from aerun.errors import DataError
from aerun.latent.entropy_models import HyperpriorModel
from aerun.use.compression import tiles as tiles_module
from aerun.use.compression.compress import PictureCodec
from aerun.use.compression.numbers import Reader, as_bytes, as_signed, as_unsigned
from aerun.use.compression.picture import Picture, as_picture, read_packed
from aerun.use.opened_run import OpenedRun, open_run

Trained = Callable[..., Path]
SMALL = (
    *("model=fully_conv", "model.width=4", "model.widest=6", "model.blocks=1", "model.code_channels=12"),
    *("dataset=random", "dataset.images=24", "dataset.shape=[3,32,32]", "dataset.train_limit=16", "trainer.device=cpu"),
)
GRAY = tuple("dataset.shape=[1,32,32]" if word == "dataset.shape=[3,32,32]" else word for word in SMALL)
LATENTS = {
    "hyperprior": (*SMALL, "latent=hyperprior", "latent.channels=4", "latent.context=3"),
    "factorized": (*SMALL, "latent=factorized"),
}
latents = pytest.mark.parametrize("latent", LATENTS)
MODES = ("RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "I;16")


@pytest.fixture
def run(trained: Trained) -> OpenedRun:
    return open_run(trained(*LATENTS["hyperprior"]), "cpu")


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Waves and noise."""
    random = np.random.default_rng(seed)
    waves = 127 + 100 * np.sin(np.arange(height)[:, None, None] / 7 + np.arange(width)[:, None] / 9 + np.arange(4))
    pixels = (waves + random.normal(0, 5, waves.shape)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        return Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    return (
        image if mode == "RGBA" else image.convert("RGB").convert(mode) if mode in ("P", "1") else image.convert(mode)
    )


@latents
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (33, 17), (1, 300), (130, 70)])
@pytest.mark.parametrize("mode", MODES)
def test_every_picture_comes_back_in_its_size_and_kind(
    trained: Trained, latent: str, size: tuple[int, int], mode: str
) -> None:
    codec = PictureCodec(open_run(trained(*LATENTS[latent]), "cpu"))
    given = picture(*size, mode)
    for quality in (1, 4):
        back = aerun.decompress(codec.run, aerun.compress(codec.run, given, quality))
        assert back.size == given.size
        gray = mode in ("L", "LA", "1", "I;16")
        has_alpha = mode in ("RGBA", "LA") and np.asarray(given)[..., -1].min() < 255
        assert back.mode == ("L" if gray else "RGB") + ("A" if has_alpha else "")
        if has_alpha:
            np.testing.assert_array_equal(np.asarray(back)[..., -1], np.asarray(given)[..., -1])


@latents
@pytest.mark.parametrize("quality", [1, 4])
def test_what_is_read_is_what_the_model_makes_of_its_code(trained: Trained, latent: str, quality: int) -> None:
    """In the units in which values are rounded, a code that was read is within 1/2 of the encoder's."""
    codec = PictureCodec(open_run(trained(*LATENTS[latent]), "cpu"))
    pixels = np.asarray(picture(50, 40))
    [tile] = codec.networks.tiles(40, 50)
    features = codec.networks.encode(pixels, tile)
    content, numbers = codec.coder.write(features, quality - 1)
    code, again = codec.coder.read(content, tile.size, quality - 1)
    np.testing.assert_array_equal(numbers, again)
    gains = (codec.coder.latent.log_gain, codec.coder.latent.log_inverse)
    gain, inverse = (values[quality - 1].exp()[:, None, None] for values in gains)
    assert (code.double() / inverse - features.double() * gain).abs().max() <= 0.5 + 1e-4
    wanted = (codec.networks.model.decode_batch(code[None])[0, :, :40, :50].clamp(0, 1) * 255).round()
    back = codec.decompress(codec.compress(Picture(pixels), quality))
    np.testing.assert_array_equal(back.pixels, wanted.byte().permute(1, 2, 0).numpy())


@latents
def test_the_bytes_are_the_bits_of_the_loss(trained: Trained, latent: str) -> None:
    """Values from far left to far right, so that the bounds of a file leave no probability out: the range coder writes
    what the objective counted, but for rounded distributions and whole words."""
    codec = PictureCodec(open_run(trained(*LATENTS[latent]), "cpu"))
    model, quality = codec.coder.latent, codec.coder.latent.quality
    values = 3 * torch.randn(1, 12, 60, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[0, :, 0, :4] = torch.tensor([40.0, 40.0, -40.0, -40.0])
    if isinstance(model, HyperpriorModel):

        def distribution(number: int, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
            channels, _ = model.passes(values.shape[2:])[number]
            return torch.zeros_like(values[:, channels]), torch.full_like(values[:, channels], 3.0)

        model.distribution = distribution  # type: ignore[method-assign]
        model.describe = lambda given, _: 0 * given[:, :4, ::4, ::4]  # type: ignore[method-assign]
    features = model.unscaled(values, torch.tensor([quality - 1]))
    [bits] = [term.value.item() for term in model(features, None)[1] if term.name == "bits"]
    content, _ = codec.coder.write(features[0], quality - 1)
    assert 0.99 * bits <= 8 * len(content) <= 1.01 * bits + 100


def test_tiles_are_the_whole(run: OpenedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.asarray(picture(300, 200))
    networks = PictureCodec(run).networks
    [whole] = networks.tiles(200, 300)
    features = networks.encode(pixels, whole)
    monkeypatch.setattr(tiles_module, "TILE", 64)
    places = list(networks.tiles(200, 300))
    assert len(places) > 10
    joined, drawn = torch.zeros_like(features), np.zeros((200, 304, 3), np.uint8)
    for tile in places:
        top, bottom, left, right = tile.inner
        joined[:, top:bottom, left:right] = networks.encode(pixels, tile)
    torch.testing.assert_close(joined, features, rtol=0, atol=1e-5)
    for tile in places:
        top, bottom, left, right = (networks.stride * side for side in tile.inner)
        drawn[top:bottom, left:right] = networks.decode(features, tile)
    difference = drawn.astype(int) - networks.decode(features, whole).astype(int)
    assert np.abs(difference).max() <= 1  # the last bit of a sum may round the other way


def test_a_picture_of_many_tiles_comes_back(run: OpenedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles_module, "TILE", 64)
    given = picture(300, 200)
    back = aerun.decompress(run, aerun.compress(run, given, 4))
    error = np.asarray(back).astype(float) - np.asarray(given)
    one = run.reconstruct(run.as_inputs(given.crop((0, 0, 32, 32)))).numpy()  # the model's own error, of one image
    own = one[0].transpose(1, 2, 0) * 255 - np.asarray(given.crop((0, 0, 32, 32)))
    assert np.square(error).mean() < 2 * np.square(own).mean() + 10


def test_invisible_pixels_cost_nothing(run: OpenedRun) -> None:
    pixels = np.asarray(picture(64, 64, "RGBA")).copy()
    pixels[..., 3] = 0
    other = pixels.copy()
    other[..., :3] = 255
    assert aerun.compress(run, Image.fromarray(pixels)) == aerun.compress(run, Image.fromarray(other))


def test_no_changed_byte_is_read_as_a_picture(run: OpenedRun) -> None:
    content = aerun.compress(run, picture(9, 7, "RGBA"))
    for place in range(len(content)):
        for changed in (content[place] ^ 1, content[place] ^ 0xFF):
            with pytest.raises(DataError):
                aerun.decompress(run, content[:place] + bytes([changed]) + content[place + 1 :])
    for length in range(len(content)):
        with pytest.raises(DataError):
            aerun.decompress(run, content[:length])
    with pytest.raises(DataError):
        aerun.decompress(run, content + b"\0")


def test_even_with_a_fitting_check_sum_damage_is_an_error_or_a_picture_of_that_size(run: OpenedRun) -> None:
    content = aerun.compress(run, picture(9, 7))[:-4]
    wrong = 0
    for place in range(4, len(content)):
        changed = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        try:
            back = aerun.decompress(run, changed + zlib.crc32(changed).to_bytes(4, "little"))
        except DataError as error:
            assert "\n" not in str(error)
            wrong += 1
        else:
            assert back.width * back.height > 0
    assert wrong >= len(content) - 8  # all but, say, the bit for gray


def test_what_cannot_be_read_is_named(run: OpenedRun, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    content = aerun.compress(run, picture(9, 7))
    other = open_run(trained(*LATENTS["factorized"]), "cpu")
    huge = content[:10] + as_unsigned(20_000) + as_unsigned(20_000) + content[12:-4]
    cases = {
        "is of version 7 of the format; this aerun reads version 1": b"AEC\x07" + content[4:],
        "is not a picture that aerun-compress wrote": b"\x89PNG" + content[4:],
        "400 megapixels, more than are opened": huge + zlib.crc32(huge).to_bytes(4, "little"),
        "is damaged or cut off": content[:-1],
    }
    for message, changed in cases.items():
        with pytest.raises(DataError, match=message):
            aerun.decompress(run, changed)
    with pytest.raises(DataError, match="was written with another run than"):
        aerun.decompress(other, content)
    with pytest.raises(DataError, match=r"quality=9: .* has the qualities 1 to 4"):
        aerun.compress(run, picture(9, 7), 9)
    with pytest.raises(DataError, match="is no codec; train one with experiment=codec"):
        aerun.compress(open_run(trained(), "cpu"), picture(9, 7))
    gray = open_run(trained(*GRAY, "latent=hyperprior", "latent.channels=4", "latent.context=3"), "cpu")
    assert aerun.decompress(gray, aerun.compress(gray, picture(9, 7, "L"))).mode == "L"
    with pytest.raises(DataError, match=r"is in color, and .* was trained on gray"):
        aerun.compress(gray, picture(9, 7))


def test_a_picture_is_read_as_it_is_shown(run: OpenedRun, tmp_path: Path) -> None:
    """The orientation of EXIF, white of 12 bits, gray in three channels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(40, 24).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as turned:
        assert aerun.decompress(run, aerun.compress(run, turned)).size == (24, 40)
    deep = Image.fromarray(np.asarray(picture(24, 24, "L")).astype(np.uint16) * 16)
    assert as_picture(deep).pixels.max() < 16
    assert np.abs(as_picture(deep, 4095).pixels[..., 0].astype(int) - np.asarray(picture(24, 24, "L"))).max() <= 1
    for mode in ("RGB", "RGBA", "P", "CMYK"):
        assert aerun.decompress(run, aerun.compress(run, picture(24, 24, "L").convert(mode))).mode[0] == "L"


def test_what_no_file_can_hold_is_refused(run: OpenedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in ((0, 5), (1_000_001, 1)):
        with pytest.raises(DataError, match=r"its size is .*; sides must be from 1 to 1,000,000"):
            aerun.compress(run, Image.new("L", size))
    monkeypatch.setattr("aerun.use.compression.entropy_coding.LARGEST", 3)
    with pytest.raises(DataError, match="steps beyond 3, more than a file holds"):
        aerun.compress(run, picture(40, 40), 4)


@latents
def test_a_loaded_model_compresses_also_in_half_precision(trained: Trained, latent: str) -> None:
    folder = trained(*LATENTS[latent])
    model = aerun.load(folder)
    content = aerun.compress(model, picture(20, 12))
    assert content == aerun.compress(folder, picture(20, 12))
    half = model.half()
    assert half.latent.log_gain.dtype is torch.float32  # type: ignore[union-attr]
    images = torch.rand(2, 3, 32, 32).half()
    assert half.reconstruct(images).dtype is torch.float16
    assert aerun.decompress(folder, content).size == (20, 12)


@latents
def test_a_codec_is_exported(trained: Trained, latent: str, tmp_path: Path) -> None:
    folder = trained(*LATENTS[latent])
    aerun.export(folder, tmp_path / "out", ["torch"])
    graph = torch.export.load(tmp_path / "out" / "autoencoder.pt2").module()
    for count in (1, 5):
        images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(graph(images), aerun.load(folder).reconstruct(images))


def test_numbers_come_back() -> None:
    values = [0, 1, 127, 128, 300, 16_000]
    reader = Reader(b"".join(as_unsigned(value) + as_signed(value) + as_signed(-value) for value in values))
    for value in values:
        assert (reader.unsigned(16_000), reader.signed(16_000), reader.signed(16_000)) == (value, value, -value)
    assert reader.at_end
    assert Reader(as_bytes(b"abc")).bytes() == b"abc"
    for content in (b"", b"\x80", b"\xff" * 30, as_unsigned(16_001)):
        with pytest.raises(DataError):
            Reader(content).unsigned(16_000)


def command(module: object, monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["aerun", *map(str, words)])
    code: int = module.main()  # type: ignore[attr-defined]
    return code


def test_a_folder_there_and_back(
    run: OpenedRun,
    drawings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (drawings / "photo.jpg").write_bytes((drawings / "0.png").read_bytes())  # the content decides
    small, back = tmp_path / "small", tmp_path / "back"
    assert command(compress_command, monkeypatch, run.folder, drawings, small, "--quality", 4, "--compare") == 0
    printed = capsys.readouterr().out
    assert "6 of 7 pictures" in printed and "lossless WebP" in printed and "PSNR" in printed
    assert "broken.png: cannot be decoded" in caplog.text
    assert sorted(path.name for path in small.rglob("*.aec")) == [
        *("0.png.aec", "1.png.aec", "2.png.aec", "3.png.aec", "grey.png.aec", "photo.jpg.aec")
    ]
    assert command(decompress_command, monkeypatch, run.folder, small, back) == 0
    assert "6 of 6 pictures" in capsys.readouterr().out
    for name in ("0.png", "below/grey.png", "photo.jpg.png"):
        source = drawings / name.removesuffix(".png") if name == "photo.jpg.png" else drawings / name
        with Image.open(back / name) as read, Image.open(source) as given:
            assert read.size == given.size
            assert read.format == "PNG"
    assert command(compress_command, monkeypatch, run.folder, drawings, small) == 1
    assert "already exist; pass --overwrite" in capsys.readouterr().err
    assert command(compress_command, monkeypatch, run.folder, drawings) == 1
    assert "OUT: is missing" in capsys.readouterr().err
    assert command(compress_command, monkeypatch, run.folder, drawings / "broken.png", tmp_path / "x.aec") == 1
    assert "broken.png: cannot be decoded" in capsys.readouterr().err
    assert command(decompress_command, monkeypatch, run.folder, drawings / "0.png", tmp_path / "y.png") == 1
    assert "0.png: is not a picture that aerun-compress wrote" in capsys.readouterr().err
    (small / "0.png").write_bytes(b"the original")
    assert command(decompress_command, monkeypatch, run.folder, small, small, "--overwrite") == 1
    assert "0.png: is in IN, where originals are" in capsys.readouterr().err
    os.mkfifo(small / "pipe.AEC")
    assert command(decompress_command, monkeypatch, run.folder, small, tmp_path / "more") == 0
    assert "pipe.AEC: cannot be read" in caplog.text and "6 of 7 pictures" in capsys.readouterr().out
    assert not (tmp_path / "x.aec").exists() and not (tmp_path / "y.png").exists()


def test_a_file_says_what_it_is(run: OpenedRun) -> None:
    codec = PictureCodec(run)
    packed = read_packed(aerun.compress(run, picture(9, 7, "LA"), 3))
    assert (packed.width, packed.height, packed.quality, packed.kind, len(packed.tiles)) == (9, 7, 2, 3, 1)
    assert packed.digest == bytes.fromhex(run.fingerprint)[:4]
    assert codec.weight_bytes > 0
