"""What compression saves: bytes before and after, next to what lossless formats would make of the same pictures."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aerun.base.files import format_size
from aerun.dataset.picture_files import open_picture, pillow_settings
from aerun.use.compression.picture import LARGEST_WEBP, Picture

ROWS = 256  # compared at once


@dataclass
class Sizes:
    """By name, in bytes: the files as they were and as they are ``written``; by lossless format those that it would
    make; in dB the PSNR of what is read again, shown on white. ``pixels`` of all pictures."""

    before: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    lossless: dict[str, dict[str, int]] = field(default_factory=dict)
    psnr: dict[str, float] = field(default_factory=dict)
    pixels: int = 0

    def line(self) -> str:
        """Bytes before and after, and the bits of a pixel."""
        before, after = (sum(sizes.values()) for sizes in (self.before, self.written))
        bits = 8 * after / self.pixels
        return f"{format_size(before)} -> {format_size(after)} ({after / before:.1%}), {bits:.3f} bits per pixel"

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return asdict(self)

    def table(self) -> str:
        """A row each for the files, the lossless formats and the run."""
        before = sum(self.before.values())
        rows = [("as they are", before, "")]
        rows += [(f"lossless {name}", sum(of.values()), "") for name, of in self.lossless.items()]
        middle = float(np.median(list(self.psnr.values())))
        rows.append(("the run", sum(self.written.values()), f"PSNR {middle:.1f} dB (median)"))
        width = max(len(name) for name, _, _ in rows)
        lines = [f"{name:<{width}}  {format_size(size):>8}  {size / before:6.1%}  {note}" for name, size, note in rows]
        return "\n".join(line.rstrip() for line in lines)


def mean_psnr(first: Picture, second: Picture) -> float:
    """PSNR in dB of two pictures of one size, shown on white; 100 for equal ones."""
    total, rows = 0.0, first.pixels.shape[0]
    for start in range(0, rows, ROWS):
        part = slice(start, start + ROWS)
        total += float(np.square(_on_white(first, part) - _on_white(second, part)).sum())
    return float(-10 * np.log10(max(total / first.pixels.size, 1e-10)))


def _on_white(picture: Picture, rows: slice) -> np.ndarray:
    """Values [n,W,C] in [0,1] of some rows."""
    values = picture.pixels[rows].astype(np.float32) / 255
    if picture.alpha is None:
        return values
    alpha = picture.alpha[rows, :, None].astype(np.float32) / 255
    return values * alpha + (1 - alpha)


def lossless_formats() -> dict[str, Callable[[Picture, Path], int]]:
    """By name, what each format that is installed makes of a picture and its file, in bytes: of a JPEG, JPEG XL stores
    the file itself, which can be restored to the last byte. PNG where WebP is too small."""
    formats: dict[str, Callable[[Picture, Path], int]] = {"WebP": _webp}
    try:
        import pillow_jxl  # noqa: F401  registers the format
    except ImportError:
        pass
    else:
        formats["JPEG XL"] = _jpeg_xl
    return formats


def _jpeg_xl(picture: Picture, path: Path) -> int:
    with pillow_settings(), open_picture(path) as opened:
        if opened.format == "JPEG":
            return _saved(opened, format="JXL", lossless_jpeg=True)
    return _saved(picture.as_image(), format="JXL", lossless=True)


def _webp(picture: Picture, path: Path) -> int:
    if max(picture.pixels.shape) > LARGEST_WEBP:
        return _saved(picture.as_image(), format="PNG", optimize=True)
    return _saved(picture.as_image(), format="WEBP", lossless=True, quality=100, method=6)


def _saved(image: Image.Image, **options: Any) -> int:
    content = io.BytesIO()
    image.save(content, **options)
    return len(content.getvalue())
