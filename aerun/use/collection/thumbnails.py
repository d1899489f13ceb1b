"""The pictures of a collection again, from its fingerprints: for sheets, and as inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerun.dataset.decoder import allow_large_images, apply_orientation, flatten_on_white
from aerun.errors import DataError
from aerun.use.collection.embedding import PARTS, load_split
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.contact_sheet import Tile
from aerun.use.image_files import read_cached_inputs, read_inputs, to_uint8

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun

TILE_PIXELS = 96


class Thumbnails:
    """Small pictures of the rows of a collection, read as they are asked for; grey where the file is gone."""

    def __init__(self, run: OpenedRun, fingerprints: Fingerprints) -> None:
        self.run, self.fingerprints = run, fingerprints
        self._data: Tensor | None = None

    def __call__(self, row: int) -> np.ndarray:
        """uint8 [C,H,W]."""
        if self.fingerprints.split:
            return self._split_thumbnail(row)
        if not self.fingerprints.root:
            return placeholder()
        return read_thumbnail(Path(self.fingerprints.root) / self.fingerprints.names[row])

    def _split_thumbnail(self, row: int) -> np.ndarray:
        if self._data is None:
            try:
                self._data = load_split_images(self.run, self.fingerprints)
            except DataError:
                import torch

                self._data = torch.empty(0)
        if row >= len(self._data):
            return placeholder()
        image = self._data[row : row + 1][0]
        return np.asarray(image.numpy() if image.dtype.is_floating_point is False else to_uint8(image))

    def tile(self, row: int, caption: str = "", marked: bool = False) -> Tile:
        """With a caption: the file's name, and what is given."""
        name = Path(self.fingerprints.names[row]).name if self.fingerprints.root else self.fingerprints.names[row]
        return Tile(self(row), f"{caption}\n{name}" if caption else name, marked)


def read_thumbnail(path: Path) -> np.ndarray:
    """A picture file as uint8 [3,h,w], no larger than a tile; grey if it cannot be read."""
    from PIL import Image

    try:
        with allow_large_images(), Image.open(path) as opened:
            opened.draft("RGB", (2 * TILE_PIXELS, 2 * TILE_PIXELS))  # JPEG decodes small at once
            picture = flatten_on_white(apply_orientation(opened)).convert("RGB")
            picture.thumbnail((TILE_PIXELS, TILE_PIXELS), Image.Resampling.LANCZOS)
            return np.asarray(picture).transpose(2, 0, 1)
    except Exception:  # damaged files make Pillow raise nearly anything
        return placeholder()


def placeholder() -> np.ndarray:
    """A grey tile."""
    return np.full((1, TILE_PIXELS, TILE_PIXELS), 200, np.uint8)


def load_split_images(run: OpenedRun, fingerprints: Fingerprints) -> Tensor:
    """The images [N,C,H,W] of fingerprints of the run's own data. DataError if those have changed since."""
    part = next((name for name in PARTS if name == fingerprints.split), None)
    if part is None:
        raise DataError(f"{fingerprints.file}: '{fingerprints.split}' is no part of a run's data")
    images = load_split(run, part)[0].inputs
    if len(images) != len(fingerprints):
        raise DataError(f"{fingerprints.file}: has {len(fingerprints)} codes, the run's data now {len(images)} images")
    return images[:]


def sample_inputs(run: OpenedRun, fingerprints: Fingerprints, most: int) -> tuple[np.ndarray, Tensor]:
    """Rows, at most ``most``, evenly spaced, and their images [n,C,H,W] as the run takes them.

    Files that are gone are left out with a warning; DataError if all are.
    """
    rows = np.unique(np.linspace(0, len(fingerprints) - 1, min(most, len(fingerprints))).round().astype(int))
    return read_rows(run, fingerprints, rows)


def read_rows(run: OpenedRun, fingerprints: Fingerprints, rows: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """Those of ``rows`` [n], each once, whose pictures can be read, and their images [n,C,H,W] as the run takes them.

    Files that are gone are left out with a warning; DataError if all are.
    """
    import torch

    if fingerprints.split:
        return rows, load_split_images(run, fingerprints)[rows]
    if not fingerprints.root:
        raise DataError(f"{fingerprints.file or 'these codes'}: no folder is known where their pictures are")
    root = Path(fingerprints.root)
    kept = read_cached_inputs(run, root, [fingerprints.names[row] for row in rows])
    if kept is not None:
        number = {fingerprints.names[row]: row for row in rows}
        return np.array([number[name] for name in kept[0]]), kept[1]
    pictures = [(str(row), root / fingerprints.names[row]) for row in rows]
    chunks = list(read_inputs(run, pictures))
    found = np.array([int(name) for names, _ in chunks for name in names])
    return found, torch.cat([images for _, images in chunks])
