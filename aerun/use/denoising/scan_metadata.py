"""Of an image file: metadata that are passed on, the depth of its channels, and its colors as sRGB."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

from aerun.dataset.decoder import BITS, ORIENTATION_TAG

MAX_DPI = 65535  # in JPEG files
HEADER_BYTES = 4096


def kept_metadata(picture: Image.Image) -> tuple[dict[str, Any], list[str]]:
    """Return the color profile, resolution and EXIF data that parse, without orientation; and what is left out."""
    kept, losses = dict[str, Any](), list[str]()
    if profile := picture.info.get("icc_profile"):
        try:
            ImageCms.ImageCmsProfile(io.BytesIO(profile))
            kept["icc_profile"] = profile
        except Exception:
            losses.append("its color profile is damaged and left out")
    if _is_resolution(dpi := picture.info.get("dpi")):
        kept["dpi"] = dpi
    if "exif" in picture.info:
        try:
            if block := _exif_block(picture):
                kept["exif"] = block
        except Exception:  # Pillow raises nearly anything for damaged metadata
            losses.append("its EXIF data are damaged and left out")
    return kept, losses


def _is_resolution(dpi: Any) -> bool:
    return isinstance(dpi, tuple) and len(dpi) == 2 and all(1 <= value <= MAX_DPI for value in dpi)


def _exif_block(picture: Image.Image) -> bytes:
    """The EXIF data without orientation, written again and read again; empty without tags. Raises for damaged data."""
    found = Image.Exif()  # a copy: the picture's own is still needed
    found.load(picture.getexif().tobytes())
    if ORIENTATION_TAG in found:
        del found[ORIENTATION_TAG]
    block: bytes = found.tobytes() if len(found) else b""
    found.load(block)
    return block


def stored_bits(path: Path, picture: Image.Image) -> int:
    """Bits per channel in the file, where its header says; otherwise 8. Pillow reads color with 8."""
    tags = getattr(picture, "tag_v2", None)
    if tags is not None:
        return max(tags.get(BITS, (8,)))
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    found = -1
    if picture.format == "PNG":
        return header[24]
    if picture.format in ("AVIF", "HEIF") and (found := header.find(b"pixi")) >= 0:
        found += 9  # behind version, flags and number of channels
        return header[found] if found < len(header) else 8
    if picture.format == "JPEG2000":
        is_stream = header.startswith(b"\xff\x4f\xff\x51")
        found = 42 if is_stream else header.find(b"ihdr") + 14
        return (header[found] & 0x7F) + 1 if 14 <= found < len(header) else 8
    return 8


def to_srgb(image: Image.Image, profile: bytes | None, losses: list[str]) -> Image.Image:
    """Convert CMYK and other modes to RGB: by the color ``profile`` if that fits the mode, else by Pillow's formula.

    Adds to ``losses`` what happened.
    """
    if profile is not None and image.mode in ("CMYK", "LAB"):
        try:
            source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            assert converted is not None
        except (ImageCms.PyCMSError, AssertionError):
            pass
        else:
            losses.append(f"{image.mode} becomes RGB by its color profile, which is left out")
            return converted
    losses.append(f"{image.mode} becomes RGB by a formula, without a color profile")
    return image if image.has_transparency_data else image.convert("RGB")
