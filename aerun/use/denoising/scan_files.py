"""Image files at their own resolution and depth: read into planes, and written in the same format."""

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
ORIENTATION_TAG = 0x0112  # of EXIF
SIDEWAYS_ORIENTATIONS = (5, 6, 7, 8)  # its values that exchange width and height
KEPT_METADATA = ("icc_profile", "dpi", "exif")
# Pillow's options by suffix: lossless where the format allows it.
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
    """One image: ``values`` float32 [C,H,W] in [0,1], with one or three channels, and ``alpha`` [H,W] if transparent.

    ``levels``: the largest value of the file's depth, 255 or 65535; ``metadata``: color profile, resolution, EXIF.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    levels: int
    metadata: dict[str, Any]

    def over_white(self) -> np.ndarray:
        """The values shown on a white background."""
        if self.alpha is None:
            return self.values
        shown: np.ndarray = self.values * self.alpha + (1 - self.alpha)
        return shown

    def visible_values(self) -> np.ndarray:
        """The values, with white for fully transparent pixels, where files contain arbitrary values."""
        return self.values if self.alpha is None else np.where(self.alpha == 0, np.float32(1), self.values)

    def with_values(self, values: np.ndarray) -> Scan:
        """The same image with other values; alpha and fully transparent pixels stay."""
        return replace(self, values=values if self.alpha is None else np.where(self.alpha == 0, self.values, values))


def read_scan(path: Path) -> Scan:
    """Read the first frame or page, with the EXIF orientation applied. Raises Pillow's errors for a damaged file.

    Palettes, CMYK and other modes become RGB. Gray images keep 16 bits; Pillow reads color with 8 bits per channel.
    """
    from PIL import Image

    with allow_large_images(), Image.open(path) as opened:
        if has_pages(opened):
            log.warning("%s: has several pages; only the first is cleaned", path)
        image = apply_orientation(opened)
        check_bit_depth(image)
        metadata = {key: image.info[key] for key in KEPT_METADATA if image.info.get(key)}
        if not all(0 < value < math.inf for value in metadata.get("dpi", ())):
            del metadata["dpi"]
        if image.mode in DEEP_GRAY_MODES:
            deep = np.asarray(image).astype(np.float32).clip(0, 65535) / 65535
            return Scan(deep[None], None, 65535, metadata)
        if image.mode not in ("1", "L", "LA", "RGB", "RGBA", "P", "PA"):
            metadata.pop("icc_profile", None)  # it describes the original mode
        is_gray = image.mode in ("1", "L", "LA")
        if image.has_transparency_data:
            *planes, alpha = _planes(image.convert("LA" if is_gray and "transparency" not in image.info else "RGBA"))
            if is_gray:
                planes = planes[:1]
            return Scan(np.stack(planes), alpha, 255, metadata)
        return Scan(np.stack(_planes(image.convert("L" if is_gray else "RGB"))), None, 255, metadata)


def size_of(path: Path, thorough: bool = False) -> tuple[int, int]:
    """Width and height as ``read_scan`` returns them, from the file's header. Raises Pillow's errors.

    ``thorough`` also finds the orientation of a PNG that stores it after its pixels.
    """
    from PIL import Image

    with allow_large_images(), Image.open(path) as opened:
        if thorough or opened.format != "PNG" or "exif" in opened.info:
            is_sideways = opened.format != "TIFF" and opened.getexif().get(ORIENTATION_TAG) in SIDEWAYS_ORIENTATIONS
        else:
            is_sideways = False
        return (opened.height, opened.width) if is_sideways else (opened.width, opened.height)


def _planes(image: Any) -> list[np.ndarray]:
    pixels = np.asarray(image, np.float32) / 255
    return [pixels] if pixels.ndim == 2 else list(pixels.transpose(2, 0, 1))


def output_name(name: str) -> str:
    """The name of the cleaned file: the same name, or with .png appended for a GIF, which holds too few colors."""
    return name if Path(name).suffix.lower() in SAVE_OPTIONS else f"{name}.png"


def write_scan(path: Path, scan: Scan) -> None:
    """Write in the format of the suffix. Creates the folder. StorageError if writing fails."""
    from PIL import Image

    options = dict(SAVE_OPTIONS[path.suffix.lower()])
    levels = scan.levels if options["format"] in ("png", "tiff") else 255
    planes = scan.values if scan.alpha is None else np.concatenate([scan.values, scan.alpha[None]])
    if options["format"] == "jpeg" and scan.alpha is not None:
        planes = scan.over_white()
    pixels = (planes.clip(0, 1) * levels).round().astype(np.uint16 if levels > 255 else np.uint8)
    pixels = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, **options, **scan.metadata)
    make_folder(path.parent)
    write_bytes(path, content.getvalue())
