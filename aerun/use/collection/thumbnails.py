"""The images behind fingerprints: as thumbnails for contact sheets, and as inputs."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerun.dataset.decoder import apply_orientation, flatten
from aerun.dataset.picture_files import open_picture, pillow_settings
from aerun.errors import DataError
from aerun.use.collection.embedding import PARTS, load_split
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.contact_sheet import Tile
from aerun.use.image_files import read_cached_inputs, read_inputs, to_uint8

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun

TILE_PIXELS = 96
PLACEHOLDER_GRAY = 200
log = logging.getLogger(__name__)


class Thumbnails:
    """Thumbnails of a collection, read when asked for; a gray placeholder for an image that is gone.

    ``asked`` and ``unreadable``: rows whose thumbnails were asked for, and those of them that cannot be read.
    """

    def __init__(self, run: OpenedRun, fingerprints: Fingerprints) -> None:
        self.run, self.fingerprints = run, fingerprints
        self.asked, self.unreadable = set[int](), set[int]()

    def __call__(self, row: int) -> np.ndarray:
        """uint8 [C,H,W]."""
        self.asked.add(row)
        pixels = self._read(row)
        if pixels is None:
            self.unreadable.add(row)
        return placeholder() if pixels is None else pixels

    def warn_of_missing(self) -> None:
        """Say which of the thumbnails could not be read, and what to do if the images were moved."""
        if self.unreadable:
            first = self.fingerprints.names[min(self.unreadable)]
            root = self.fingerprints.root
            remedy = f"; if {root} was moved, name the new folder: --folder FOLDER" if root else ""
            log.warning(
                "%d of %d images shown cannot be read and are gray, the first is %s%s",
                len(self.unreadable),
                len(self.asked),
                first,
                remedy,
            )

    def _read(self, row: int) -> np.ndarray | None:
        if self.fingerprints.split:
            return self._split_thumbnail(row)
        if not self.fingerprints.root:
            return None
        return self.of_file(Path(self.fingerprints.root) / self.fingerprints.names[row])

    def of_file(self, path: Path) -> np.ndarray | None:
        """An image file as the run sees it: uint8 [3,h,w]; None if it cannot be read."""
        decoder = self.run.decoder()
        return read_thumbnail(path, decoder.background, decoder.white_value)

    @cached_property
    def _split_images(self) -> Tensor | None:
        try:
            return load_split_images(self.run, self.fingerprints)
        except DataError:
            return None

    def _split_thumbnail(self, row: int) -> np.ndarray | None:
        images = self._split_images
        if images is None or row >= len(images):
            return None
        image = images[row : row + 1][0]
        return np.asarray(to_uint8(image) if image.dtype.is_floating_point else image.numpy())

    def tile(self, row: int, caption: str = "", marked: bool = False) -> Tile:
        """The thumbnail with a caption, followed by the file's name."""
        name = self.fingerprints.names[row]
        shown = Path(name).name if self.fingerprints.root else name
        return Tile(self(row), f"{caption}\n{shown}" if caption else shown, marked)


def read_thumbnail(
    path: Path, background: str = "white", white_value: int | None = None, pixels: int = TILE_PIXELS
) -> np.ndarray | None:
    """An image file as uint8 [3,h,w], at most so many ``pixels`` wide and high; None if it cannot be read."""
    from PIL import Image

    try:
        with pillow_settings(), open_picture(path, draft=2 * pixels) as opened:
            image = flatten(apply_orientation(opened, white_value), background).convert("RGB")
            image.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
            return np.asarray(image).transpose(2, 0, 1)
    except Exception:  # for damaged files Pillow raises nearly anything
        return None


def placeholder() -> np.ndarray:
    """A gray tile."""
    return np.full((1, TILE_PIXELS, TILE_PIXELS), PLACEHOLDER_GRAY, np.uint8)


def load_split_images(run: OpenedRun, fingerprints: Fingerprints) -> Tensor:
    """The images [N,C,H,W] of fingerprints of a split. DataError if the split has changed since."""
    part = next((name for name in PARTS if name == fingerprints.split), None)
    if part is None:
        raise DataError(f"{fingerprints.file}: '{fingerprints.split}' is not a split. Allowed: {', '.join(PARTS)}")
    images = load_split(run, part)[0].inputs
    if len(images) != len(fingerprints):
        raise DataError(
            f"{fingerprints.file}: has {len(fingerprints)} codes, but the run's {part} split has {len(images)} images"
        )
    return images[:]


def sample_inputs(run: OpenedRun, fingerprints: Fingerprints, most: int) -> tuple[np.ndarray, Tensor]:
    """At most ``most`` rows, evenly spaced, and their inputs [n,C,H,W]. As ``read_rows``."""
    rows = np.unique(np.linspace(0, len(fingerprints) - 1, min(most, len(fingerprints))).round().astype(int))
    return read_rows(run, fingerprints, rows)


def read_rows(run: OpenedRun, fingerprints: Fingerprints, rows: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """The readable ones among ``rows`` [n], which are distinct, and their inputs [n,C,H,W].

    Missing files are skipped with a warning. DataError if all are missing.
    """
    import torch

    if fingerprints.split:
        return rows, load_split_images(run, fingerprints)[rows]
    if not fingerprints.root:
        raise DataError(f"{fingerprints.title}: does not name the folder of its images, which are needed here")
    root = Path(fingerprints.root)
    if not any((root / fingerprints.names[row]).exists() for row in rows):
        raise DataError(fingerprints.describe_missing(fingerprints.missing()))
    cached = read_cached_inputs(run, root, [fingerprints.names[row] for row in rows])
    if cached is not None:
        number = {fingerprints.names[row]: row for row in rows}
        return np.array([number[name] for name in cached[0]]), cached[1]
    chunks = list(read_inputs(run, [(str(row), root / fingerprints.names[row]) for row in rows]))
    found = np.array([int(name) for names, _ in chunks for name in names])
    return found, torch.cat([images for _, images in chunks])
