"""Decoding of picture files of any size and mode into arrays of one shape."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aerun.base.progress_bar import progress_bar
from aerun.dataset.picture_files import failure_reason, open_picture, pillow_settings
from aerun.dataset.picture_notes import WHITE_16_BITS, PictureNotes, is_blank
from aerun.dataset.row_file import CHUNK

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MULTIPAGE_SUFFIXES = {".tif", ".tiff"}
DEEP_GRAY_MODES = ("I;16", "I;16B", "I;16L", "I")  # Pillow's modes of gray with more than 8 bits
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # two tags of TIFF, and a value of the second
ORIENTATION_TAG = 0x0112  # of EXIF
Fit = Literal["crop", "pad", "stretch", "unscaled"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoder:
    """Decodes a picture file to uint8 of ``shape`` [C,H,W], with one or three channels.

    ``fit``: ``crop`` scales the picture to cover the size and cuts out its center, ``pad`` scales it to fit and fills
    the rest with ``background``, ``stretch`` ignores its proportions, ``unscaled`` cuts out its center as it is, with
    ``background`` around smaller pictures. Transparent pixels are blended with ``background``, a color as CSS writes
    it; EXIF orientation is applied. ``white_value``: white of gray pictures of more than 8 bits; None for 65535, or
    what a TIFF says.
    """

    shape: tuple[int, int, int]
    fit: Fit
    background: str = "white"
    white_value: int | None = None

    def chunks(self, paths: list[Path], notes: PictureNotes, root: Path | None = None) -> Iterator[np.ndarray]:
        """Yield the pictures in chunks [n,C,H,W]. Undecodable ones are black; ``notes`` receives what is noticed.

        With ``root``, a link to a file outside of it counts as undecodable.
        """
        import numpy as np

        within = None if root is None else os.path.realpath(root)
        threads = os.cpu_count() or 1
        size = max(4 * threads, CHUNK // math.prod(self.shape))
        paged = list[Path]()

        def attempt(path: Path) -> tuple[np.ndarray, int | None] | Exception:
            try:
                if within is not None and path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(within):
                    raise ValueError("it links to a file outside the folder")
                return self._decode(path, paged.append)
            except Exception as error:  # Pillow raises nearly anything for damaged files
                return error

        # Pillow decodes and resizes outside the interpreter lock, so threads are enough.
        with ThreadPoolExecutor(threads) as pool, pillow_settings(), progress_bar("pictures", len(paths)) as bar:
            for start in range(0, len(paths), size):
                part = paths[start : start + size]
                chunk = np.zeros((len(part), *self.shape), np.uint8)
                for index, result in enumerate(pool.map(attempt, part)):
                    bar.update()
                    if isinstance(result, Exception):
                        notes.bad[start + index] = failure_reason(result)
                        continue
                    chunk[index], brightest = result
                    if brightest is not None:
                        notes.deep[start + index] = brightest
                blank = (start + np.flatnonzero(is_blank(chunk))).tolist()
                notes.blank += [index for index in blank if index not in notes.bad]
                yield chunk
        if paged:
            others = f" (and {len(paged) - 1} more files)" if len(paged) > 1 else ""
            log.warning("%s: has several pages; only the first is used%s", min(paged), others)

    def decode(self, path: Path) -> np.ndarray:
        """Decode the picture in a file (the first page if there are several) to uint8 [channels, height, width]."""
        with pillow_settings():
            return self._decode(path)[0]

    def _decode(self, path: Path, paged: Callable[[Path], None] = lambda _: None) -> tuple[np.ndarray, int | None]:
        """The pixels, and the brightest value of a picture in deep gray. Calls ``paged(path)`` for several pages."""
        with open_picture(path) as opened:
            if has_pages(opened):
                paged(path)
            picture = apply_orientation(opened, self.white_value)
        return self.fit_picture(flatten(picture, self.background)), brightest_value(picture)

    def fit_picture(self, picture: Image.Image) -> np.ndarray:
        """Convert a picture without transparency to uint8 [channels, height, width]."""
        import numpy as np
        from PIL import Image, ImageOps

        channels, height, width = self.shape
        picture = picture.convert("L" if channels == 1 else "RGB")
        resample = Image.Resampling.LANCZOS
        if self.fit == "crop":
            picture = ImageOps.fit(picture, (width, height), resample)
        elif self.fit in ("pad", "unscaled"):
            around = color_of(self.background)
            page: Any = Image.new("RGB", (1, 1), around).convert(picture.mode).getpixel((0, 0))
            if self.fit == "pad":
                picture = ImageOps.pad(picture, (width, height), resample, color=page)
            else:
                center = Image.new(picture.mode, (width, height), page)
                center.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
                picture = center
        else:
            picture = picture.resize((width, height), resample)
        pixels = np.asarray(picture, np.uint8)
        return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))


def color_of(name: str) -> tuple[int, int, int]:
    """Red, green and blue of a color as CSS writes it. ValueError for anything else."""
    from PIL import ImageColor

    red, green, blue, *_ = ImageColor.getrgb(name)
    return red, green, blue


def flatten(picture: Image.Image, background: str = "white") -> Image.Image:
    """Blend the transparent pixels of a picture, in whatever mode it is stored, with a color."""
    from PIL import Image

    check_bit_depth(picture)
    if picture.mode in DEEP_GRAY_MODES:
        import numpy as np

        gray = np.asarray(picture).astype(np.float64)
        shown = Image.fromarray((gray / 257).round().clip(0, 255).astype(np.uint8))
        if "transparency" in picture.info:
            page = Image.new("RGB", picture.size, color_of(background))
            page.paste(shown.convert("RGB"), mask=Image.fromarray(gray != picture.info["transparency"]))
            return page
        return shown
    if not picture.has_transparency_data:
        return picture
    page = Image.new("RGBA", picture.size, color_of(background))
    return Image.alpha_composite(page, picture.convert("RGBA")).convert("RGB")


def apply_orientation(picture: Image.Image, white_value: int | None = None) -> Image.Image:
    """Apply the EXIF orientation, and ``scale_gray``. Damaged EXIF data count as none."""
    turn, scaled = orientation(picture), scale_gray(picture, white_value)
    return scaled if turn is None else scaled.transpose(turn)


def scale_gray(picture: Image.Image, white_value: int | None = None) -> Image.Image:
    """Scale the values of gray of more than 8 bits so that white is 65535.

    White is ``white_value``, or what a TIFF says, whose values Pillow returns as stored. Without ``white_value``,
    values of more than 16 bits stay as they are. Other pictures are returned as given.
    """
    from PIL import Image
    from PIL.TiffImagePlugin import TiffImageFile

    bits, is_inverse, is_deep = 16, False, picture.mode in DEEP_GRAY_MODES
    if isinstance(picture, TiffImageFile) and is_deep:
        bits, is_inverse = picture.tag_v2.get(BITS, (16,))[0], picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
    is_white_given = white_value is not None and (is_deep or picture.mode == "F")
    if bits >= 16 and not is_inverse and not is_white_given:
        return picture
    import numpy as np

    largest = white_value or 2 ** min(bits, 16) - 1

    def scaled(values: np.ndarray | float) -> np.ndarray:
        gray = np.asarray(values).astype(np.float64) * (WHITE_16_BITS / largest)
        return (WHITE_16_BITS - gray if is_inverse else gray).round().clip(0, WHITE_16_BITS).astype(np.uint16)

    result = Image.fromarray(scaled(np.nan_to_num(np.asarray(picture))))
    if "transparency" in picture.info:
        result.info["transparency"] = int(scaled(picture.info["transparency"]))
    return result


def brightest_value(picture: Image.Image) -> int | None:
    """The brightest value of gray of more than 8 bits; None for other pictures."""
    import numpy as np

    return int(np.asarray(picture).max()) if picture.mode in DEEP_GRAY_MODES else None


def orientation(picture: Image.Image) -> Image.Transpose | None:
    """Return how the EXIF data say that the picture is to be turned; None for not at all, or if they are damaged."""
    from PIL.Image import Transpose

    turns = {
        **{2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM},
        **{5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90},
    }
    with contextlib.suppress(Exception):  # Pillow raises nearly anything for damaged metadata
        return turns.get(picture.getexif().get(ORIENTATION_TAG))  # type: ignore[arg-type]
    return None


def is_sideways(picture: Image.Image) -> bool:
    """Whether width and height are swapped when it is shown. Pillow turns a TIFF by itself."""
    from PIL.Image import Transpose

    sideways = (Transpose.TRANSPOSE, Transpose.TRANSVERSE, Transpose.ROTATE_90, Transpose.ROTATE_270)
    return picture.format != "TIFF" and orientation(picture) in sideways


def has_pages(picture: Image.Image) -> bool:
    """Whether it is a TIFF with several pages (that only the first frame of a GIF or WebP is used is expected)."""
    return picture.format == "TIFF" and bool(getattr(picture, "is_animated", False))


def check_bit_depth(picture: Image.Image) -> None:
    """Raise ValueError if the value of white is unknown: floating point, and integers of more than 16 bits."""
    remedy = "; scale them to 16 bits, or train with dataset.white_value, the value of white"
    if picture.mode == "F":
        raise ValueError(f"its values are floating-point numbers of unknown range{remedy}")
    if picture.mode == "I" and picture.getextrema()[1] > WHITE_16_BITS:  # type: ignore[operator]
        raise ValueError(f"its values are 32-bit integers of unknown range{remedy}")
