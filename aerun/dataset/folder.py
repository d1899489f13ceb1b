"""A folder tree of picture files with mixed formats, sizes and modes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from aerun.contracts import Count, Range, Size
from aerun.dataset.base import StoredDataset
from aerun.dataset.cache import cached_rows, files_key
from aerun.dataset.data import Arrays
from aerun.dataset.decoder import Decoder, color_of
from aerun.dataset.memory_limit import check_memory
from aerun.dataset.paths import existing_path
from aerun.dataset.picture_files import find_pictures, max_megapixels, suffixes
from aerun.dataset.picture_notes import PictureNotes, warn_if_blank
from aerun.dataset.rows import Rows
from aerun.dataset.splitting import holdout
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

DECODING_VERSION = 2  # increased when the same file is decoded to other pixels or notes
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImageFolder(StoredDataset):
    """PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF and JPEG 2000 below ``root``, as ``channels`` x ``size`` images.

    Only the first frame or page of a file is used; hidden files and folders are passed over, and other files counted.
    ``size`` is a side, or [height, width]. ``fit``: ``crop`` scales the picture to cover the size and cuts out its
    center, ``pad`` scales it to fit and fills the rest with ``background``, ``stretch`` ignores its proportions.
    Transparent pixels are blended with ``background``, a color as CSS writes it; EXIF orientation is applied.
    ``white_value``: white of gray pictures of more than 8 bits; null for 65535, or what a TIFF says. A file that cannot
    be decoded, or that is a link to outside the folder, is reported by name, then skipped or fatal by ``on_error``.
    Labels are the top-level subfolders, if every picture is in one.
    """

    root: str
    size: Size | list[Size]
    channels: Literal[1, 3]
    fit: Literal["crop", "pad", "stretch"]
    on_error: Literal["skip", "fail"]
    test: Annotated[float, Range(0, 1, low_open=True, high_open=True)]
    # Configurations of older runs lack the keys below.
    background: str = "white"
    white_value: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.background != "white":
            try:
                color_of(self.background)
            except ValueError as error:
                raise ValueError(
                    f"background={self.background}: must be a color, by name (black) or as '#8080ff'"
                ) from error
        if isinstance(self.size, list) and len(self.size) != 2:
            raise ValueError(f"size={self.size}: must be a side, or [height, width]")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, [channels, height, width]."""
        height, width = self.size if isinstance(self.size, list) else (self.size, self.size)
        return self.channels, height, width

    @property
    def decoder(self) -> Decoder:
        """Reads one picture file."""
        return Decoder(self.shape, self.fit, self.background, self.white_value)

    def read(self) -> Arrays:
        import numpy as np

        paths, notes = self.list_files(), PictureNotes()
        # Images are in memory twice while they are split into training and test images.
        check_memory(2 * len(paths) * math.prod(self.shape), f"{len(paths)}x{'x'.join(map(str, self.shape))}")
        images, count = np.empty((len(paths), *self.shape), np.uint8), 0
        for chunk in self.decode(paths, notes):
            images[count : count + len(chunk)] = chunk
            count += len(chunk)
        self.report(paths, notes)
        return self._split_arrays(paths, notes.bad, lambda rows: images[rows])

    def read_cached(self) -> Arrays | None:
        paths, notes = self.list_files(), PictureNotes()
        key = decoded_key(existing_path(self.root), paths, self.decoder)
        size = len(paths) * math.prod(self.shape)
        file = cached_rows(key, lambda: self.decode(paths, notes), notes.as_metadata, size)
        if file is None:
            return None
        notes = PictureNotes.from_metadata(file.metadata)
        self.report(paths, notes)
        return self._split_arrays(paths, notes.bad, lambda rows: Rows(file, rows))

    def list_files(self) -> list[Path]:
        """Return the picture files, sorted, and log how many others there are. DataError if there are no pictures."""
        root = existing_path(self.root)
        if not root.is_dir():
            raise DataError(f"dataset.root={self.root}: is a file, not a folder; for .npy and .npz use dataset=array")
        found = find_pictures(root)
        if not found.paths:
            others = f"; it has {found.others}" if found.others else ""
            allowed = ", ".join(sorted(suffixes()))
            raise DataError(f"dataset.root={self.root}: no picture ({allowed}) in it or below it{others}")
        found.log_left_out(root)
        return found.paths

    def _split_arrays(
        self, paths: list[Path], bad: dict[int, str], take: Callable[[np.ndarray], np.ndarray | Rows]
    ) -> Arrays:
        """Split the decodable pictures into training and test; ``take`` returns the images at ascending indices."""
        import numpy as np

        root = existing_path(self.root)
        kept = np.array([index for index in range(len(paths)) if index not in bad])
        train_rows, test_rows = holdout(len(kept), self.test, self.split_seed)
        arrays = Arrays(take(kept[train_rows]), take(kept[test_rows]))
        arrays.test_files = [paths[index] for index in kept[test_rows]]
        tops = [paths[index].relative_to(root).parts for index in kept]
        if all(len(parts) > 1 for parts in tops):
            arrays.classes = sorted({parts[0] for parts in tops})
            numbers = {name: number for number, name in enumerate(arrays.classes)}
            labels = np.array([numbers[parts[0]] for parts in tops], np.int64)
            arrays.train_labels, arrays.test_labels = labels[train_rows], labels[test_rows]
        return arrays

    def decode(self, paths: list[Path], notes: PictureNotes) -> Iterator[np.ndarray]:
        """Yield the pictures in chunks [n,C,H,W]. Undecodable ones are black; ``notes`` receives what is noticed."""
        for chunk in self.decoder.chunks(paths, notes, existing_path(self.root)):
            if notes.bad and (self.on_error == "fail" or len(notes.bad) == len(paths)):
                self.report(paths, notes)
            yield chunk

    def report(self, paths: list[Path], notes: PictureNotes) -> None:
        """Log the pictures that are undecodable, blank or nearly black, by name.

        DataError with ``on_error=fail``, or if no picture can be decoded.
        """
        named = notes.named_failures()
        for index, reason in named:
            message = f"{paths[index]}: cannot be decoded ({reason})"
            if self.on_error == "fail":
                raise DataError(f"{message}; dataset.on_error=skip leaves such files out")
            log.warning("%s; left out", message)
        if len(notes.bad) > len(named):
            log.warning("%d more pictures cannot be decoded and are left out", len(notes.bad) - len(named))
        if len(notes.bad) == len(paths):
            raise DataError(f"dataset.root={self.root}: none of its {len(paths)} pictures can be decoded")
        notes.warn_if_dark(paths)
        warn_if_blank([str(paths[index]) for index in notes.blank], len(paths) - len(notes.bad), self.background)


def decoded_key(root: Path, paths: list[Path], decoder: Decoder) -> str:
    """Return the cache key of a folder's decoded pictures."""
    from PIL import __version__

    return files_key(f"pictures {DECODING_VERSION} {decoder} {max_megapixels()} Pillow {__version__}", root, paths)
