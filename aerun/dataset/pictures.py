"""Picture files, of any size and mode, as arrays of one shape."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aerun.dataset.store import CHUNK
from aerun.progress import counting

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"}


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

        def attempt(path: Path) -> np.ndarray | Exception:
            try:
                if within is not None and path.is_symlink() and not path.resolve().is_relative_to(within):
                    raise ValueError("it links to a file outside the folder")
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
                        bad[start + index] = " ".join(str(result).split()) or type(result).__name__
                    else:
                        chunk[index] = result
                yield chunk

    def decode(self, path: Path) -> np.ndarray:
        """The picture in a file as uint8 [channels, height, width]."""
        from PIL import Image, ImageOps

        with Image.open(path) as opened:
            return self.fitted(over_white(ImageOps.exif_transpose(opened)))

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

    if picture.mode in ("I;16", "I;16B", "I;16L", "I"):
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
