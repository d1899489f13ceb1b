"""Decoding of picture files of any size and mode into arrays of one shape."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aerun.base.progress_bar import progress_bar
from aerun.dataset.row_file import CHUNK

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MULTIPAGE_SUFFIXES = {".tif", ".tiff"}
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", *MULTIPAGE_SUFFIXES}
DEEP_GRAY_MODES = ("I;16", "I;16B", "I;16L", "I")  # Pillow's modes of gray with more than 8 bits
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # two tags of TIFF, and a value of the second
MEGA = 1e6
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoder:
    """Decodes a picture file to uint8 of ``shape`` [C,H,W], with one or three channels.

    ``fit``: ``crop`` scales the picture to cover the size and cuts out its center, ``pad`` scales it to fit and fills
    the rest with white, ``stretch`` ignores its proportions. Transparent pixels are blended with white; EXIF
    orientation is applied.
    """

    shape: tuple[int, int, int]
    fit: Literal["crop", "pad", "stretch"]

    def chunks(self, paths: list[Path], bad: dict[int, str], root: Path | None = None) -> Iterator[np.ndarray]:
        """Yield the pictures in chunks [n,C,H,W]. Undecodable ones are black; ``bad`` receives index and reason.

        With ``root``, a link to a file outside of it counts as undecodable.
        """
        import numpy as np

        within = None if root is None else root.resolve()
        threads = os.cpu_count() or 1
        size = max(4 * threads, CHUNK // math.prod(self.shape))
        paged = list[Path]()

        def attempt(path: Path) -> np.ndarray | Exception:
            try:
                if within is not None and path.is_symlink() and not path.resolve().is_relative_to(within):
                    raise ValueError("it links to a file outside the folder")
                if path.suffix.lower() in MULTIPAGE_SUFFIXES and _has_pages(path):
                    paged.append(path)
                return self.decode(path)
            except Exception as error:  # Pillow raises nearly anything for damaged metadata
                return error

        # Pillow decodes and resizes outside the interpreter lock, so threads are enough.
        with ThreadPoolExecutor(threads) as pool, allow_large_images(), progress_bar("pictures", len(paths)) as bar:
            for start in range(0, len(paths), size):
                part = paths[start : start + size]
                chunk = np.zeros((len(part), *self.shape), np.uint8)
                for index, result in enumerate(pool.map(attempt, part)):
                    bar.update()
                    if isinstance(result, Exception):
                        bad[start + index] = failure_reason(result)
                    else:
                        chunk[index] = result
                yield chunk
        if paged:
            others = f" (and {len(paged) - 1} more files)" if len(paged) > 1 else ""
            log.warning("%s: has several pages; only the first is used%s", min(paged), others)

    def decode(self, path: Path) -> np.ndarray:
        """Decode the picture in a file (the first page if there are several) to uint8 [channels, height, width]."""
        from PIL import Image

        with Image.open(path) as opened:
            return self.fit_picture(flatten_on_white(apply_orientation(opened)))

    def fit_picture(self, picture: Image.Image) -> np.ndarray:
        """Convert a picture without transparency to uint8 [channels, height, width]."""
        import numpy as np
        from PIL import Image, ImageOps

        channels, height, width = self.shape
        picture = picture.convert("L" if channels == 1 else "RGB")
        resample = Image.Resampling.LANCZOS
        if self.fit == "crop":
            picture = ImageOps.fit(picture, (width, height), resample)
        elif self.fit == "pad":
            white = 255 if channels == 1 else (255, 255, 255)
            picture = ImageOps.pad(picture, (width, height), resample, color=white)
        else:
            picture = picture.resize((width, height), resample)
        pixels = np.asarray(picture, np.uint8)
        return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))


@contextlib.contextmanager
def allow_large_images() -> Iterator[None]:
    """Silence Pillow's warnings about large pictures that it still opens: a collection of large scans would fill the
    screen with them."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def list_pictures(root: Path) -> list[Path]:
    """Return the files below ``root`` with a picture's suffix, sorted; links to folders are not followed."""
    found = [
        Path(folder) / name
        for folder, _, names in os.walk(root)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]
    return sorted(found)


def flatten_on_white(picture: Image.Image) -> Image.Image:
    """Blend the transparent pixels of a picture, in whatever mode it is stored, with white."""
    from PIL import Image

    check_bit_depth(picture)
    if picture.mode in DEEP_GRAY_MODES:
        import numpy as np

        gray = np.asarray(picture).astype(np.float64)
        if "transparency" in picture.info:
            gray[gray == picture.info["transparency"]] = 65535
        return Image.fromarray((gray / 257).round().clip(0, 255).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(page, picture).convert("RGB")


def apply_orientation(picture: Image.Image) -> Image.Image:
    """Apply the EXIF orientation, and scale the values of deep gray TIFFs, which Pillow returns as stored, so that
    white is 65535."""
    from PIL import Image, ImageOps
    from PIL.TiffImagePlugin import TiffImageFile

    bits, is_inverse = 16, False
    if isinstance(picture, TiffImageFile) and picture.mode in DEEP_GRAY_MODES:
        bits, is_inverse = picture.tag_v2.get(BITS, (16,))[0], picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
    picture = ImageOps.exif_transpose(picture)
    if bits >= 16 and not is_inverse:
        return picture
    import numpy as np

    largest = 2 ** min(bits, 16) - 1
    gray = np.asarray(picture).astype(np.float64) * (65535 / largest)
    return Image.fromarray((65535 - gray if is_inverse else gray).round().clip(0, 65535).astype(np.uint16))


def _has_pages(path: Path) -> bool:
    from PIL import Image

    with Image.open(path) as opened:
        return has_pages(opened)


def has_pages(picture: Image.Image) -> bool:
    """Whether it is a TIFF with several pages (that only the first frame of a GIF or WebP is used is expected)."""
    from PIL.TiffImagePlugin import TiffImageFile

    return isinstance(picture, TiffImageFile) and picture.is_animated


def check_bit_depth(picture: Image.Image) -> None:
    """Raise ValueError if the value of white is unknown: floating point, and integers of more than 16 bits."""
    if picture.mode == "F":
        raise ValueError("its values are floating-point numbers of unknown range")
    if picture.mode == "I" and picture.getextrema()[1] > 65535:  # type: ignore[operator]
        raise ValueError("its values are 32-bit integers of unknown range")


def failure_reason(error: BaseException) -> str:
    """Return in one line why a picture could not be decoded."""
    from PIL import Image

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError) and Image.MAX_IMAGE_PIXELS:
        pixels = re.search(r"\d+", text)  # the number is only in Pillow's message
        size = f"{int(pixels[0]) / MEGA:.0f} megapixels" if pixels else "too large"
        return f"{size}, more than Pillow opens ({2 * Image.MAX_IMAGE_PIXELS / MEGA:.0f})"
    return text
