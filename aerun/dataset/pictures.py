"""Picture files, of any size and mode, as arrays of one shape."""

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

from aerun.base.progress_bar import counting
from aerun.dataset.store import CHUNK

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

PAGED = {".tif", ".tiff"}
ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", *PAGED}
DEEP = ("I;16", "I;16B", "I;16L", "I")  # Pillow's modes of grey with more than 8 bits
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF, and a value of the second
MEGA = 1e6
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoder:
    """Makes of a picture file uint8 ``shape`` [C,H,W], of one channel or three.

    ``fit``: ``crop`` scales the picture to cover the size and cuts the middle out, ``pad`` scales it to fit and fills
    with white, ``stretch`` ignores its proportions. Transparency is shown over white, EXIF orientation is applied.
    """

    shape: tuple[int, int, int]
    fit: Literal["crop", "pad", "stretch"]

    def chunks(self, paths: list[Path], bad: dict[int, str], root: Path | None = None) -> Iterator[np.ndarray]:
        """The pictures in chunks [n,C,H,W]; of those that do not decode, which are black, ``bad`` gets the reasons.

        With ``root`` a link to a file outside of it counts as one that does not decode.
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
                if path.suffix.lower() in PAGED and _has_pages(path):
                    paged.append(path)
                return self.decode(path)
            except Exception as error:  # damaged metadata make Pillow raise nearly anything
                return error

        # Pillow decodes and resizes outside the interpreter lock, so threads are enough.
        with ThreadPoolExecutor(threads) as pool, any_size(), counting("pictures", len(paths)) as bar:
            for start in range(0, len(paths), size):
                part = paths[start : start + size]
                chunk = np.zeros((len(part), *self.shape), np.uint8)
                for index, result in enumerate(pool.map(attempt, part)):
                    bar.update()
                    if isinstance(result, Exception):
                        bad[start + index] = reason(result)
                    else:
                        chunk[index] = result
                yield chunk
        if paged:
            others = f"; so with {len(paged) - 1} more" if len(paged) > 1 else ""
            log.warning("%s: has several pages, of which the first is taken%s", min(paged), others)

    def decode(self, path: Path) -> np.ndarray:
        """The picture in a file, of several pages the first, as uint8 [channels, height, width]."""
        from PIL import Image

        with Image.open(path) as opened:
            return self.fitted(over_white(upright(opened)))

    def fitted(self, picture: Image.Image) -> np.ndarray:
        """A picture without transparency as uint8 [channels, height, width]."""
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
def any_size() -> Iterator[None]:
    """Without Pillow's warnings of pictures half as large as those that it refuses: a collection of large scans should
    not fill the screen with them."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def list_pictures(root: Path) -> list[Path]:
    """Files below ``root`` with a picture's ending, sorted; links to folders are not followed."""
    found = [
        Path(folder) / name
        for folder, _, names in os.walk(root)
        for name in names
        if Path(name).suffix.lower() in ENDINGS
    ]
    return sorted(found)


def over_white(picture: Image.Image) -> Image.Image:
    """The picture with transparency, in whatever mode it is stored, shown over white."""
    from PIL import Image

    check_depth(picture)
    if picture.mode in DEEP:
        import numpy as np

        grey = np.asarray(picture).astype(np.float64)
        if "transparency" in picture.info:
            grey[grey == picture.info["transparency"]] = 65535
        return Image.fromarray((grey / 257).round().clip(0, 255).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(page, picture).convert("RGB")


def upright(picture: Image.Image) -> Image.Image:
    """A picture as its file says that it is seen: EXIF orientation applied, and deep grey TIFFs, which Pillow reads as
    they are stored, with white at 65535."""
    from PIL import Image, ImageOps

    tags = getattr(picture, "tag_v2", {}) if picture.mode in DEEP else {}
    bits, is_inverse = tags.get(BITS, (16,))[0], tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    picture = ImageOps.exif_transpose(picture)
    if bits >= 16 and not is_inverse:
        return picture
    import numpy as np

    largest = 2 ** min(bits, 16) - 1
    grey = np.asarray(picture).astype(np.float64) * (65535 / largest)
    return Image.fromarray((65535 - grey if is_inverse else grey).round().clip(0, 65535).astype(np.uint16))


def _has_pages(path: Path) -> bool:
    from PIL import Image

    with Image.open(path) as opened:
        return has_pages(opened)


def has_pages(picture: Image.Image) -> bool:
    """Whether it is a TIFF of several pages: a GIF's or WebP's further frames are known to be left out."""
    return picture.format == "TIFF" and bool(getattr(picture, "is_animated", False))


def check_depth(picture: Image.Image) -> None:
    """ValueError for values that nothing says the white of: floating point, and whole numbers of more than 16 bits."""
    if picture.mode == "F":
        raise ValueError("its values are floating-point numbers, of no known range")
    if picture.mode == "I" and picture.getextrema()[1] > 65535:  # type: ignore[operator]
        raise ValueError("its values are numbers of 32 bits, of no known range")


def reason(error: BaseException) -> str:
    """Why a picture is not decoded, in a line."""
    from PIL import Image

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError) and Image.MAX_IMAGE_PIXELS:
        pixels = re.search(r"\d+", text)  # Pillow says them in words only
        size = f"{int(pixels[0]) / MEGA:.0f} megapixels" if pixels else "too large"
        return f"{size}, more than Pillow opens ({2 * Image.MAX_IMAGE_PIXELS / MEGA:.0f})"
    return text
