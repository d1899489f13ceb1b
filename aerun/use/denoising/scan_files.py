"""Image files at their own resolution and depth: read into planes, and written in the same format."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aerun.base.files import make_folder, write_bytes
from aerun.dataset.decoder import DEEP_GRAY_MODES, apply_orientation, check_bit_depth, color_of, is_sideways
from aerun.dataset.picture_files import open_picture, pillow_settings
from aerun.dataset.picture_notes import WHITE_16_BITS
from aerun.errors import DataError
from aerun.use.denoising.scan_metadata import kept_metadata, stored_bits, to_srgb

GRAY_MODES = ("1", "L", "LA")
PLAIN_MODES = (*GRAY_MODES, "RGB", "RGBA", "P", "PA")  # a color profile of these describes gray or RGB
# Pillow's options by suffix: lossless where the format allows it.
_JPEG: dict[str, Any] = {"format": "jpeg", "quality": 95, "subsampling": 0}
_TIFF: dict[str, Any] = {"format": "tiff", "compression": "tiff_adobe_deflate"}
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"format": "png"},
    ".bmp": {"format": "bmp"},
    ".webp": {"format": "webp", "lossless": True},
    **{".jpg": _JPEG, ".jpeg": _JPEG, ".jpe": _JPEG, ".jfif": _JPEG},
    **{".tif": _TIFF, ".tiff": _TIFF},
}
DEEP_FORMATS, OPAQUE_FORMATS = ("png", "tiff"), ("jpeg", "bmp")


@dataclass(frozen=True)
class Scan:
    """One image: ``values`` float32 [C,H,W] in [0,1], with one or three channels, and ``alpha`` [H,W] if transparent.

    ``levels``: the file's value of white, 255, or up to 65535 for gray of more than 8 bits; ``metadata``: color
    profile, resolution, EXIF; ``losses``: what of the file is not in these values, in words.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    levels: int
    metadata: dict[str, Any]
    losses: list[str] = field(default_factory=list)

    def over_white(self) -> np.ndarray:
        """The values shown on a white background."""
        if self.alpha is None:
            return self.values
        shown: np.ndarray = self.values * self.alpha + (1 - self.alpha)
        return shown

    def visible_values(self, background: str = "white") -> np.ndarray:
        """The values, with ``background`` for fully transparent pixels, where files contain arbitrary values."""
        if self.alpha is None:
            return self.values
        ground = Image.new("RGB", (1, 1), color_of(background)).convert("L" if len(self.values) == 1 else "RGB")
        return np.where(self.alpha == 0, np.stack(_planes(ground)), self.values)

    def with_values(self, values: np.ndarray) -> Scan:
        """The same image with other values; alpha and fully transparent pixels stay."""
        return replace(self, values=values if self.alpha is None else np.where(self.alpha == 0, self.values, values))


def read_scan(path: Path, white_value: int | None = None) -> Scan:
    """Read the first frame or page, with the EXIF orientation applied. Raises Pillow's errors for a damaged file.

    Palettes, CMYK and other modes become RGB. Gray images keep 16 bits; Pillow reads color with 8 bits per channel.
    ``white_value``: white of gray images of more than 8 bits, as for ``Decoder``.
    """
    with pillow_settings(), open_picture(path) as opened:
        metadata, losses = kept_metadata(opened)
        if getattr(opened, "is_animated", False):
            kind = "pages" if opened.format == "TIFF" else "frames"
            losses.insert(0, f"has several {kind}; only the first is cleaned")
            opened.load()  # counting the frames of a GIF forgets the first
        image, profile = apply_orientation(opened, white_value), metadata.get("icc_profile")
        check_bit_depth(image)
        if image.mode in DEEP_GRAY_MODES:
            return _deep_scan(image, min(white_value or WHITE_16_BITS, WHITE_16_BITS), metadata, losses)
        if stored_bits(path, opened) > 8:
            losses.append("more than 8 bits per channel become 8")
        if image.mode not in PLAIN_MODES:
            metadata.pop("icc_profile", None)
            image = to_srgb(image, profile, losses)
    is_gray = image.mode in GRAY_MODES
    if not image.has_transparency_data:
        return Scan(np.stack(_planes(image.convert("L" if is_gray else "RGB"))), None, 255, metadata, losses)
    *planes, alpha = _planes(image.convert("LA" if is_gray and "transparency" not in image.info else "RGBA"))
    return Scan(np.stack(planes[:1] if is_gray else planes), alpha, 255, metadata, losses)


def _deep_scan(image: Image.Image, levels: int, metadata: dict[str, Any], losses: list[str]) -> Scan:
    values = np.asarray(image).astype(np.float32).clip(0, WHITE_16_BITS) / WHITE_16_BITS
    if "transparency" in image.info:
        values[np.asarray(image) == image.info["transparency"]] = 1
        losses.append("transparency of 16-bit gray becomes white")
    return Scan(values[None], None, levels, metadata, losses)


def size_of(path: Path, thorough: bool = False) -> tuple[int, int]:
    """Width and height as ``read_scan`` returns them, from the file's header. Raises Pillow's errors.

    ``thorough`` also finds the orientation of a PNG that stores it after its pixels.
    """
    with pillow_settings(), open_picture(path, load=False) as opened:
        is_known = thorough or opened.format != "PNG" or "exif" in opened.info
        return (opened.height, opened.width) if is_known and is_sideways(opened) else (opened.width, opened.height)


def _planes(image: Image.Image) -> list[np.ndarray]:
    pixels = np.asarray(image, np.float32) / 255
    return [pixels] if pixels.ndim == 2 else list(pixels.transpose(2, 0, 1))


def output_name(name: str) -> str:
    """The name of the cleaned file: the same name, or with .png appended for a format that aerun does not write."""
    return name if Path(name).suffix.lower() in SAVE_OPTIONS else f"{name}.png"


def write_scan(path: Path, scan: Scan) -> list[str]:
    """Write in the format of the suffix, creating the folder. Returns what the written file has lost, in words.

    DataError if the format cannot hold an image of this size, StorageError if writing fails.
    """
    options, losses = dict(SAVE_OPTIONS[path.suffix.lower()]), list(scan.losses)
    levels = scan.levels if options["format"] in DEEP_FORMATS else 255
    if levels < scan.levels:
        losses.append("more than 8 bits of gray become 8")
    planes = scan.values if scan.alpha is None else np.concatenate([scan.values, scan.alpha[None]])
    if scan.alpha is not None and options["format"] in OPAQUE_FORMATS:
        planes = scan.over_white()
        losses.append(f"transparency is blended with white: {path.suffix} files are written without")
    pixels = (planes.clip(0, 1) * levels).round().astype(np.uint16 if levels > 255 else np.uint8)
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    try:
        content = _encode(image, options | scan.metadata)
    except Exception:  # Pillow raises nearly anything for metadata that do not fit
        try:
            content = _encode(image, options)
        except Exception as error:
            size = f"{image.width}x{image.height}"
            raise DataError(f"{path}: an image of {size} cannot be written in this format ({error})") from error
        losses.append("profile, resolution and EXIF do not fit the format and are left out")
    make_folder(path.parent)
    write_bytes(path, content)
    return losses


def _encode(image: Image.Image, options: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    image.save(content, **options)
    return content.getvalue()
