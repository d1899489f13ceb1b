"""Frames: single pictures, and animated GIFs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from aerun.base.files import make_folder, write_bytes
from aerun.use.image_files import write_png


def write_frames(folder: Path, frames: Sequence[np.ndarray]) -> None:
    """Pixels [H,W] or [H,W,3], uint8, as 0000.png, 0001.png and so on."""
    for number, pixels in enumerate(frames):
        write_png(folder / frame_name(number, len(frames)), pixels if pixels.ndim == 3 else pixels[..., None])


def frame_name(number: int, count: int) -> str:
    """Of one frame among so many."""
    return f"{number:0{max(4, len(str(count - 1)))}}.png"


def write_gif(path: Path, frames: Sequence[np.ndarray], seconds: float = 0.12) -> None:
    """An endless GIF of pixels [H,W] or [H,W,3], uint8; equal frames in a row are one that stays for longer.

    Greys are kept, of colours 256 a frame.
    """
    first, *rest = [Image.fromarray(pixels) for pixels in frames]
    content = io.BytesIO()
    first.save(content, "gif", save_all=True, append_images=rest, duration=round(1000 * seconds), loop=0)
    make_folder(path.parent)
    write_bytes(path, content.getvalue())


def there_and_back(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Frames that end where they began, without showing an end twice."""
    return [*frames, *frames[-2:0:-1]]
