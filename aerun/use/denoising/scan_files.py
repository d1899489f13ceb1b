"""Picture files at their own resolution and depth: read into planes, and written as what they were."""

from __future__ import annotations

import io
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aerun.base.files import make_folder, write_bytes
from aerun.dataset.decoder import DEEP_GRAY_MODES, allow_large_images, apply_orientation, check_bit_depth, has_pages

log = logging.getLogger(__name__)
ORIENTATION_TAG, SIDEWAYS_ORIENTATIONS = (
    0x0112,
    (5, 6, 7, 8),
)  # the tag of EXIF, and its values that exchange width and height
KEPT_METADATA = ("icc_profile", "dpi", "exif")
# How a picture is written, by its file's ending: without loss where the format can.
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"format": "png"},
    ".bmp": {"format": "bmp"},
    ".webp": {"format": "webp", "lossless": True},
    ".jpg": {"format": "jpeg", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "jpeg", "quality": 95, "subsampling": 0},
    ".tif": {"format": "tiff", "compression": "tiff_adobe_deflate"},
    ".tiff": {"format": "tiff", "compression": "tiff_adobe_deflate"},
}


@dataclass(frozen=True)
class Scan:
    """``values`` float32 [C,H,W] in [0,1], of one channel or three; ``alpha`` [H,W], where there is transparency;
    ``levels``: the largest value in the file, 255 or 65535; ``about``: colour profile, resolution, EXIF."""

    values: np.ndarray
    alpha: np.ndarray | None
    levels: int
    about: dict[str, Any]

    def over_white(self) -> np.ndarray:
        """The values as they look on white paper."""
        if self.alpha is None:
            return self.values
        seen: np.ndarray = self.values * self.alpha + (1 - self.alpha)
        return seen

    def visible_values(self) -> np.ndarray:
        """The values, white where nothing can be seen: files hold anything there."""
        return self.values if self.alpha is None else np.where(self.alpha == 0, np.float32(1), self.values)

    def with_values(self, values: np.ndarray) -> Scan:
        """The same picture of other values; alpha, and whatever is invisible, stay."""
        return replace(self, values=values if self.alpha is None else np.where(self.alpha == 0, self.values, values))


def read_scan(path: Path) -> Scan:
    """The picture (the first frame or page), EXIF orientation applied. Raises what Pillow raises for a damaged file.

    Palettes become colours; CMYK and others become RGB. Grey pictures of 16 bits keep them; Pillow reads colour
    pictures with 8 bits a channel whatever they have.
    """
    from PIL import Image

    with allow_large_images(), Image.open(path) as opened:
        if has_pages(opened):
            log.warning("%s: has several pages; the first is cleaned", path)
        picture = apply_orientation(opened)
        check_bit_depth(picture)
        about = {key: picture.info[key] for key in KEPT_METADATA if picture.info.get(key)}
        if not all(0 < value < math.inf for value in about.get("dpi", ())):
            del about["dpi"]
        if picture.mode in DEEP_GRAY_MODES:
            deep = np.asarray(picture).astype(np.float32).clip(0, 65535) / 65535
            return Scan(deep[None], None, 65535, about)
        if picture.mode not in ("1", "L", "LA", "RGB", "RGBA", "P", "PA"):
            about.pop("icc_profile", None)  # it describes the other colours
        grey = picture.mode in ("1", "L", "LA")
        if picture.has_transparency_data:
            *planes, alpha = _planes(picture.convert("LA" if grey and "transparency" not in picture.info else "RGBA"))
            if grey:
                planes = planes[:1]
            return Scan(np.stack(planes), alpha, 255, about)
        return Scan(np.stack(_planes(picture.convert("L" if grey else "RGB"))), None, 255, about)


def size_of(path: Path, thorough: bool = False) -> tuple[int, int]:
    """Width and height of a picture as ``read_scan`` turns it, from its header. Raises whatever Pillow raises.

    A PNG may say after its pixels that it is to be turned: ``thorough`` reads that far.
    """
    from PIL import Image

    with allow_large_images(), Image.open(path) as opened:
        if thorough or opened.format != "PNG" or "exif" in opened.info:
            turned = opened.format != "TIFF" and opened.getexif().get(ORIENTATION_TAG) in SIDEWAYS_ORIENTATIONS
        else:
            turned = False
        return (opened.height, opened.width) if turned else (opened.width, opened.height)


def _planes(picture: Any) -> list[np.ndarray]:
    pixels = np.asarray(picture, np.float32) / 255
    return [pixels] if pixels.ndim == 2 else list(pixels.transpose(2, 0, 1))


def output_name(name: str) -> str:
    """What a picture is written as: its own name, or of a format that holds few colours a PNG's beside it."""
    return name if Path(name).suffix.lower() in SAVE_OPTIONS else f"{name}.png"


def write_scan(path: Path, scan: Scan) -> None:
    """The picture into a file, in the format of its ending; its folder is made. StorageError if it cannot be."""
    from PIL import Image

    way = dict(SAVE_OPTIONS[path.suffix.lower()])
    levels = scan.levels if way["format"] in ("png", "tiff") else 255
    planes = scan.values if scan.alpha is None else np.concatenate([scan.values, scan.alpha[None]])
    if way["format"] == "jpeg" and scan.alpha is not None:
        planes = scan.over_white()
    pixels = (planes.clip(0, 1) * levels).round().astype(np.uint16 if levels > 255 else np.uint8)
    pixels = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, **way, **scan.about)
    make_folder(path.parent)
    write_bytes(path, content.getvalue())
