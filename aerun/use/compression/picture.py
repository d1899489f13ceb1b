"""Pictures as a codec takes them, and the one file format that it writes.

A file is, in order: ``AEC`` and the number of the version, a byte each; 4 bytes of the digest of the run's weights; the
kind of picture, a byte; the quality from 0, a byte; width and height; of pictures with transparency the bytes of its
alpha channel, as a lossless picture; the bytes of each tile; 2 bytes of the check sum of all whole numbers in the
codes; and the check sum (CRC-32) of all that precedes. Numbers and lengths are those of ``numbers``.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aerun.dataset.decoder import DEEP_GRAY_MODES, apply_orientation, check_bit_depth
from aerun.dataset.picture_files import (
    MAX_MEGAPIXELS,
    MEGA,
    failure_reason,
    max_megapixels,
    open_picture,
    pillow_settings,
)
from aerun.errors import DataError
from aerun.use.compression.numbers import Reader, as_bytes, as_unsigned

MAGIC, VERSION = b"AEC", 1
DIGEST_BYTES, CHECK_BYTES, SUM_BYTES = 4, 2, 4
COLOR, GRAY, TRANSPARENT = 0, 1, 2  # bits of the kind
LARGEST_SIDE = 1_000_000
LARGEST_WEBP = 16383  # pixels of a side


@dataclass(frozen=True)
class Picture:
    """``pixels`` uint8 [H,W,3], or [H,W,1] of gray, and ``alpha`` [H,W] if any pixel is transparent."""

    pixels: np.ndarray
    alpha: np.ndarray | None = None

    @property
    def kind(self) -> int:
        """The bits of the file."""
        return (GRAY if self.pixels.shape[2] == 1 else COLOR) | (0 if self.alpha is None else TRANSPARENT)

    def as_image(self) -> Image.Image:
        """The picture for Pillow."""
        parts = [self.pixels] if self.alpha is None else [self.pixels, self.alpha[:, :, None]]
        joined = np.concatenate(parts, 2)
        return Image.fromarray(joined[:, :, 0] if joined.shape[2] == 1 else np.ascontiguousarray(joined))


def read_picture(path: Path, white_value: int | None = None) -> Picture:
    """The first frame or page, with its EXIF orientation applied, in 8 bits. Pixels that cannot be seen become white.
    DataError, without a name, for a file that cannot be decoded."""
    try:
        with pillow_settings(), open_picture(path) as opened:
            return as_picture(opened, white_value)
    except Exception as error:  # Pillow raises nearly anything
        raise DataError(f"cannot be decoded ({failure_reason(error)})") from error


def as_picture(image: Image.Image, white_value: int | None = None) -> Picture:
    """A picture in any of Pillow's modes, with its EXIF orientation applied; ``white_value`` as for ``Decoder``. It is
    gray if all its pixels are. ValueError for values of unknown range, and for sides that a file cannot hold."""
    if not 0 < min(image.size) <= max(image.size) <= LARGEST_SIDE:
        raise ValueError(f"its size is {image.width}x{image.height}; sides must be from 1 to {LARGEST_SIDE:,}")
    image = apply_orientation(image, white_value)
    check_bit_depth(image)
    if image.mode in DEEP_GRAY_MODES:
        gray = np.asarray(image).astype(np.float64)
        alpha = None
        if "transparency" in image.info:
            alpha = np.where(gray == image.info["transparency"], 0, 255).astype(np.uint8)
        return _seen((gray / 257).round().clip(0, 255).astype(np.uint8)[:, :, None], alpha)
    if not image.has_transparency_data:
        return _seen(np.asarray(image.convert("RGB")), None)
    pixels = np.asarray(image.convert("RGBA"))
    return _seen(pixels[:, :, :3], pixels[:, :, 3])


def _seen(pixels: np.ndarray, alpha: np.ndarray | None) -> Picture:
    if alpha is not None and alpha.min() < 255:
        pixels = np.where(alpha[:, :, None] == 0, np.uint8(255), pixels)
    else:
        alpha = None
    is_gray = all(np.array_equal(pixels[:, :, 0], pixels[:, :, other]) for other in range(1, pixels.shape[2]))
    return Picture(pixels[:, :, :1] if is_gray else pixels, alpha)


@dataclass(frozen=True)
class Packed:
    """The content of a file: see above. ``tiles``: the bytes of each; ``check``: of the codes' whole numbers."""

    digest: bytes
    kind: int
    quality: int
    width: int
    height: int
    alpha: bytes
    tiles: Sequence[bytes]
    check: bytes

    def as_file(self) -> bytes:
        """The bytes of the file."""
        parts = [MAGIC, bytes([VERSION]), self.digest, bytes([self.kind, self.quality])]
        parts += [as_unsigned(self.width), as_unsigned(self.height)]
        parts += [as_bytes(self.alpha)] if self.kind & TRANSPARENT else []
        content = b"".join([*parts, *map(as_bytes, self.tiles), self.check])
        return content + zlib.crc32(content).to_bytes(SUM_BYTES, "little")


def read_packed(content: bytes) -> Packed:
    """The content of a file. DataError, without a name, for one that is damaged, or of another version."""
    if content[: len(MAGIC)] != MAGIC:
        raise DataError("is not a picture that aerun-compress wrote")
    if len(content) > len(MAGIC) and content[len(MAGIC)] != VERSION:
        raise DataError(f"is of version {content[len(MAGIC)]} of the format; this aerun reads version {VERSION}")
    body, total = content[:-SUM_BYTES], content[-SUM_BYTES:]
    if len(body) < len(MAGIC) + 1 or zlib.crc32(body).to_bytes(SUM_BYTES, "little") != total:
        raise DataError("is damaged or cut off: its check sum does not fit")
    reader = Reader(body[:-CHECK_BYTES])
    reader.take(len(MAGIC) + 1)
    digest, (kind, quality) = reader.take(DIGEST_BYTES), reader.take(2)
    width, height = reader.unsigned(LARGEST_SIDE), reader.unsigned(LARGEST_SIDE)
    if kind > GRAY | TRANSPARENT or not width or not height:
        raise DataError("is damaged: it names a kind or a size that no picture has")
    _check_size(width, height)
    alpha, tiles = reader.bytes() if kind & TRANSPARENT else b"", list[bytes]()
    while not reader.at_end:
        tiles.append(reader.bytes())
    return Packed(digest, kind, quality, width, height, alpha, tiles, body[-CHECK_BYTES:])


def _check_size(width: int, height: int) -> None:
    """DataError for more pixels than are opened of other pictures."""
    limit = max_megapixels() or 2 * (Image.MAX_IMAGE_PIXELS or 0) / MEGA
    if limit and width * height > limit * MEGA:
        raise DataError(
            f"has {width * height / MEGA:.0f} megapixels, more than are opened ({limit:.0f}); the environment variable "
            f"{MAX_MEGAPIXELS} sets the limit"
        )


def pack_alpha(alpha: np.ndarray) -> bytes:
    """An alpha channel as the smaller of a lossless WebP and a PNG."""
    image, found = Image.fromarray(alpha), list[bytes]()
    options: list[dict[str, Any]] = [{"format": "png", "optimize": True}]
    if max(alpha.shape) <= LARGEST_WEBP:
        options.append({"format": "webp", "lossless": True, "method": 6})
    for option in options:
        content = io.BytesIO()
        image.save(content, **option)
        found.append(content.getvalue())
    return min(found, key=len)


def unpack_alpha(content: bytes, width: int, height: int) -> np.ndarray:
    """The alpha channel [H,W]. DataError for bytes that are no such picture."""
    try:
        with pillow_settings(), Image.open(io.BytesIO(content), formats=("PNG", "WEBP")) as image:
            alpha = np.asarray(image.convert("L"))
    except Exception as error:  # Pillow raises nearly anything
        raise DataError("is damaged: its transparency cannot be read") from error
    if alpha.shape != (height, width):
        raise DataError("is damaged: its transparency has another size")
    return alpha
