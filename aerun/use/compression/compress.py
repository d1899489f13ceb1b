"""Pictures to bytes and back, by a run."""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from aerun.errors import DataError
from aerun.use.compression.entropy_coding import EntropyCoder
from aerun.use.compression.picture import (
    CHECK_BYTES,
    DIGEST_BYTES,
    GRAY,
    TRANSPARENT,
    Packed,
    Picture,
    as_picture,
    pack_alpha,
    read_packed,
    unpack_alpha,
)
from aerun.use.compression.tiles import Networks
from aerun.use.opened_run import OpenedRun, Run, as_opened

if TYPE_CHECKING:
    from PIL.Image import Image


def compress(run: Run, picture: Image, quality: int | None = None) -> bytes:
    """A PIL image of any size and mode -> the bytes of a file that ``decompress`` reads with the same run.

    ``quality``: from 1, the smallest files, to the number of ``latent.weights``; None: ``latent.quality`` of the run.
    DataError for a run that is no codec (``experiment=codec``), and for color where the run was trained on gray.
    """
    codec = PictureCodec(as_opened(run))
    try:
        given = as_picture(picture, codec.white_value)
    except ValueError as error:
        raise DataError(f"the picture cannot be compressed: {error}") from error
    return codec.compress(given, quality)


def decompress(run: Run, content: bytes) -> Image:
    """The bytes of a file that ``compress`` or ``aerun-compress`` wrote with this run -> a PIL image.

    Its mode is L, LA, RGB or RGBA. DataError for bytes that are damaged, cut off, or written with another run.
    """
    return PictureCodec(as_opened(run)).decompress(content).as_image()


class PictureCodec:
    """Compresses and decompresses by one run."""

    def __init__(self, run: OpenedRun) -> None:
        self.run, self.networks = run, Networks(run)
        self.coder = EntropyCoder(self.networks.latent)

    @property
    def qualities(self) -> int:
        """How many qualities there are."""
        return self.networks.latent.qualities

    @cached_property
    def digest(self) -> bytes:
        """What a file keeps of the run's fingerprint."""
        return bytes.fromhex(self.run.fingerprint)[:DIGEST_BYTES]

    @property
    def white_value(self) -> int | None:
        """White of gray pictures of more than 8 bits: the run's ``dataset.white_value``."""
        found: int | None = self.run.config["dataset"].get("white_value")
        return found

    @property
    def weight_bytes(self) -> int:
        """Of the weights that a reader needs: the decoder and the entropy model."""
        parts = self.networks.model.decoder, self.networks.latent
        return sum(weight.nbytes for part in parts for weight in part.state_dict().values())

    def check_quality(self, quality: int | None) -> int:
        """The quality from 0; None is that of the run. DataError for one that it does not have."""
        quality = self.networks.latent.quality if quality is None else quality
        if not 1 <= quality <= self.qualities:
            raise DataError(f"quality={quality}: {self.run.folder} has the qualities 1 to {self.qualities}")
        return quality - 1

    def compress(self, picture: Picture, quality: int | None = None) -> bytes:
        """The bytes of a file. DataError for a quality that the run does not have, and for color in a gray run."""
        number = self.check_quality(quality)
        height, width, channels = picture.pixels.shape
        if channels > self.networks.channels:
            raise DataError(f"is in color, and {self.run.folder} was trained on gray pictures")
        pixels = picture.pixels
        if channels < self.networks.channels:
            pixels = np.broadcast_to(pixels, (height, width, self.networks.channels))
        tiles, check = list[bytes](), 0
        for tile in self.networks.tiles(height, width):
            content, numbers = self.coder.write(self.networks.encode(pixels, tile), number)
            tiles.append(content)
            check = _add_to(check, numbers)
        alpha = b"" if picture.alpha is None else pack_alpha(picture.alpha)
        sum_of_codes = check.to_bytes(4, "little")[:CHECK_BYTES]
        return Packed(self.digest, picture.kind, number, width, height, alpha, tiles, sum_of_codes).as_file()

    def decompress(self, content: bytes) -> Picture:
        """The picture. DataError for damaged bytes, and for those of another run."""
        packed = read_packed(content)
        if packed.digest != self.digest:
            raise DataError(f"was written with another run than {self.run.folder}")
        height, width = packed.height, packed.width
        places = list(self.networks.tiles(height, width))
        if packed.quality >= self.qualities or len(places) != len(packed.tiles):
            raise DataError("is damaged: it names a quality that the run does not have, or has too few tiles")
        code, check = torch.empty(self.networks.latent.code_shape[0], *self.networks.code_size(height, width)), 0
        for tile, bits in zip(places, packed.tiles, strict=True):
            top, bottom, left, right = tile.inner
            code[:, top:bottom, left:right], numbers = self.coder.read(bits, tile.size, packed.quality)
            check = _add_to(check, numbers)
        if check.to_bytes(4, "little")[:CHECK_BYTES] != packed.check:
            raise DataError(
                "cannot be read on this machine: the distributions of its codes are not those of the writer"
            )
        pixels = np.empty((height, width, self.networks.channels), np.uint8)
        for tile in places:
            top, _, left, _ = (self.networks.stride * side for side in tile.inner)
            part = self.networks.decode(code, tile)[: height - top, : width - left]
            pixels[top : top + part.shape[0], left : left + part.shape[1]] = part
        if packed.kind & GRAY and pixels.shape[2] > 1:
            pixels = pixels.astype(np.float32).mean(2, keepdims=True).round().astype(np.uint8)
        alpha = unpack_alpha(packed.alpha, width, height) if packed.kind & TRANSPARENT else None
        return Picture(pixels, alpha)


def _add_to(check: int, numbers: np.ndarray) -> int:
    return zlib.crc32(numbers.astype("<i4").tobytes(), check)
