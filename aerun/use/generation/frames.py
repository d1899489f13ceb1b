"""Sequences of images: as PNG files, and as animated GIFs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from aerun.base.files import make_folder, write_bytes
from aerun.use.image_files import write_png

MIN_DIGITS = 4  # of file names


def write_frames(folder: Path, frames: Sequence[np.ndarray]) -> None:
    """Write pixels [H,W] or [H,W,3], uint8, as 0000.png, 0001.png, ..."""
    for number, pixels in enumerate(frames):
        write_png(folder / frame_name(number, len(frames)), pixels if pixels.ndim == 3 else pixels[..., None])


def frame_name(number: int, count: int) -> str:
    """The file name of frame ``number`` of ``count``."""
    return f"{number:0{max(MIN_DIGITS, len(str(count - 1)))}}.png"


def write_gif(path: Path, frames: Sequence[np.ndarray], seconds: float = 0.12) -> None:
    """Write an endless GIF of pixels [H,W] or [H,W,3], uint8, each shown for ``seconds``.

    Equal consecutive frames become one longer frame. A frame has 256 grays, or at most 256 colors.
    """
    first, *rest = [Image.fromarray(pixels) for pixels in frames]
    content = io.BytesIO()
    first.save(content, "gif", save_all=True, append_images=rest, duration=round(1000 * seconds), loop=0)
    make_folder(path.parent)
    write_bytes(path, content.getvalue())


def there_and_back(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The frames forward and backward, without repeating either end."""
    return [*frames, *frames[-2:0:-1]]
