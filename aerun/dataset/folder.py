"""A folder tree of pictures of mixed formats, sizes and modes."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from aerun.dataset.base import Arrays, Dataset, check_room, existing, holdout
from aerun.errors import DataError
from aerun.spec import Range, Size

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

NAMED = 20  # pictures that cannot be decoded are named up to so many
ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"}
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """Every PNG, JPEG, WebP, GIF (first frame) and BMP below ``root``, as ``channels`` x ``size`` images.

    ``size`` is a side, or [height, width]. ``fit``: ``crop`` scales the picture to cover the size and cuts the
    middle out, ``pad`` scales it to fit and fills with white, ``stretch`` ignores its proportions. Transparency
    is shown over white, EXIF orientation is applied. A file that does not decode, or that is a link out of the
    folder, is reported by name, then skipped or fatal by ``on_error``. Labels are the top-level subfolders, if
    every picture is in one.
    """

    root: str
    size: Size | list[Size]
    channels: Literal[1, 3]
    fit: Literal["crop", "pad", "stretch"]
    on_error: Literal["skip", "fail"]
    test: Annotated[float, Range(0, 1, low_open=True, high_open=True)]

    def __post_init__(self) -> None:
        if isinstance(self.size, list) and len(self.size) != 2:
            raise ValueError(f"size={self.size}: must be a side, or [height, width]")

    def read(self) -> Arrays:
        import numpy as np

        root = existing(self.root)
        if not root.is_dir():
            raise DataError(f"dataset.root={self.root}: is a file, not a folder; a .npy or .npz file is dataset=array")
        paths = list_pictures(root)
        if not paths:
            raise DataError(f"dataset.root={self.root}: has no picture ({', '.join(sorted(ENDINGS))}) in it or below")
        images, kept = self.decode_all(paths)
        train_rows, test_rows = holdout(len(images), self.test, self.split_seed)
        arrays = Arrays(images[train_rows], images[test_rows])
        tops = [path.relative_to(root).parts for path in kept]
        if all(len(parts) > 1 for parts in tops):
            arrays.classes = sorted({parts[0] for parts in tops})
            labels = np.array([arrays.classes.index(parts[0]) for parts in tops], np.int64)
            arrays.train_labels, arrays.test_labels = labels[train_rows], labels[test_rows]
        return arrays

    def decode_all(self, paths: list[Path]) -> tuple[np.ndarray, list[Path]]:
        """The pictures that decode, stacked [N,C,H,W], and their paths; the others as ``on_error`` says."""
        import numpy as np
        from PIL import Image
        from tqdm import tqdm

        root = Path(self.root).expanduser().resolve()
        height, width = self.size if isinstance(self.size, list) else (self.size, self.size)
        # Once as they are decoded, and once stacked.
        check_room(2 * len(paths) * self.channels * height * width, f"{len(paths)}x{self.channels}x{height}x{width}")

        def attempt(path: Path) -> np.ndarray | Exception:
            try:
                if path.is_symlink() and not path.resolve().is_relative_to(root):
                    raise ValueError("it links to a file outside dataset.root")
                return self.decode(path)
            except Exception as error:  # damaged metadata make Pillow raise nearly anything
                return error

        # Pillow decodes and resizes outside the interpreter lock, so threads are enough. It warns of pictures half as
        # large as those that it refuses; a collection of large scans should not fill the screen with that.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            bar = tqdm(pool.map(attempt, paths), "pictures", len(paths), leave=False, disable=not sys.stderr.isatty())
            results = list(zip(paths, bar, strict=True))
        bad = [(path, error) for path, error in results if isinstance(error, Exception)]
        for path, error in bad[:NAMED]:
            message = f"{path}: cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})"
            if self.on_error == "fail":
                raise DataError(f"{message}; dataset.on_error=skip leaves such files out")
            log.warning("%s; left out", message)
        if len(bad) > NAMED:
            log.warning("%d more pictures cannot be decoded and are left out", len(bad) - NAMED)
        good = [(path, image) for path, image in results if not isinstance(image, Exception)]
        if not good:
            raise DataError(f"dataset.root={self.root}: none of its {len(paths)} pictures can be decoded")
        return np.stack([image for _, image in good]), [path for path, _ in good]

    def decode(self, path: Path) -> np.ndarray:
        """The picture as uint8 [channels, height, width]."""
        import numpy as np
        from PIL import Image, ImageOps

        height, width = self.size if isinstance(self.size, list) else (self.size, self.size)
        with Image.open(path) as opened:
            picture = over_white(ImageOps.exif_transpose(opened)).convert("L" if self.channels == 1 else "RGB")
        resample = Image.Resampling.LANCZOS
        if self.fit == "crop":
            picture = ImageOps.fit(picture, (width, height), resample)
        elif self.fit == "pad":
            white = 255 if self.channels == 1 else (255, 255, 255)
            picture = ImageOps.pad(picture, (width, height), resample, color=white)
        else:
            picture = picture.resize((width, height), resample)
        pixels = np.asarray(picture, np.uint8)
        return np.ascontiguousarray(pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1))


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
