"""A folder tree of picture files with mixed formats, sizes and modes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from aerun.config.schema import Range, Size
from aerun.dataset.base import StoredDataset
from aerun.dataset.cache import cached_rows, files_key
from aerun.dataset.data import Arrays
from aerun.dataset.decoder import SUFFIXES, Decoder, list_pictures
from aerun.dataset.memory_limit import check_memory
from aerun.dataset.paths import existing_path
from aerun.dataset.rows import Rows
from aerun.dataset.splitting import holdout
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

MAX_NAMED_FILES = 20  # undecodable pictures listed by name
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImageFolder(StoredDataset):
    """PNG, JPEG, WebP, GIF (first frame), BMP and TIFF (first page) below ``root``, as ``channels`` x ``size`` images.

    ``size`` is a side, or [height, width]. ``fit``: ``crop`` scales the picture to cover the size and cuts out its
    center, ``pad`` scales it to fit and fills the rest with white, ``stretch`` ignores its proportions. Transparent
    pixels are blended with white; EXIF orientation is applied. A file that cannot be decoded, or that is a link to
    outside the folder, is reported by name, then skipped or fatal by ``on_error``. Labels are the top-level subfolders,
    if every picture is in one.
    """

    root: str
    size: Size | list[Size]
    channels: Literal[1, 3]
    fit: Literal["crop", "pad", "stretch"]
    on_error: Literal["skip", "fail"]
    test: Annotated[float, Range(0, 1, low_open=True, high_open=True)]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.size, list) and len(self.size) != 2:
            raise ValueError(f"size={self.size}: must be a side, or [height, width]")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, [channels, height, width]."""
        height, width = self.size if isinstance(self.size, list) else (self.size, self.size)
        return self.channels, height, width

    def read(self) -> Arrays:
        import numpy as np

        paths, bad = self.list_files(), dict[int, str]()
        # Images are in memory twice while they are split into training and test images.
        check_memory(2 * len(paths) * math.prod(self.shape), f"{len(paths)}x{'x'.join(map(str, self.shape))}")
        images, count = np.empty((len(paths), *self.shape), np.uint8), 0
        for chunk in self.decode(paths, bad):
            images[count : count + len(chunk)] = chunk
            count += len(chunk)
        self.report(paths, bad)
        return self._split_arrays(paths, bad, lambda rows: images[rows])

    def read_cached(self) -> Arrays | None:
        paths, bad = self.list_files(), dict[int, str]()
        key = decoded_key(existing_path(self.root), paths, Decoder(self.shape, self.fit))
        size = len(paths) * math.prod(self.shape)
        file = cached_rows(key, lambda: self.decode(paths, bad), lambda: {"bad": list(bad.items())}, size)
        if file is None:
            return None
        bad = dict(file.metadata["bad"])
        self.report(paths, bad)
        return self._split_arrays(paths, bad, lambda rows: Rows(file, rows))

    def list_files(self) -> list[Path]:
        """Return the picture files, sorted. DataError if there are none."""
        root = existing_path(self.root)
        if not root.is_dir():
            raise DataError(f"dataset.root={self.root}: is a file, not a folder; for .npy and .npz use dataset=array")
        paths = list_pictures(root)
        if not paths:
            raise DataError(f"dataset.root={self.root}: no picture ({', '.join(sorted(SUFFIXES))}) in it or below it")
        return paths

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

    def decode(self, paths: list[Path], bad: dict[int, str]) -> Iterator[np.ndarray]:
        """Yield the pictures in chunks [n,C,H,W]. Undecodable ones are black; ``bad`` receives index and reason."""
        for chunk in Decoder(self.shape, self.fit).chunks(paths, bad, existing_path(self.root)):
            if self.on_error == "fail" or len(bad) == len(paths):
                self.report(paths, bad)
            yield chunk

    def report(self, paths: list[Path], bad: dict[int, str]) -> None:
        """Log the undecodable pictures by name. DataError with ``on_error=fail``, or if no picture can be decoded."""
        for index, reason in list(bad.items())[:MAX_NAMED_FILES]:
            message = f"{paths[index]}: cannot be decoded ({reason})"
            if self.on_error == "fail":
                raise DataError(f"{message}; dataset.on_error=skip leaves such files out")
            log.warning("%s; left out", message)
        if len(bad) > MAX_NAMED_FILES:
            log.warning("%d more pictures cannot be decoded and are left out", len(bad) - MAX_NAMED_FILES)
        if len(bad) == len(paths):
            raise DataError(f"dataset.root={self.root}: none of its {len(paths)} pictures can be decoded")


def decoded_key(root: Path, paths: list[Path], decoder: Decoder) -> str:
    """Return the cache key of a folder's decoded pictures."""
    from PIL import __version__

    return files_key(f"pictures {decoder.shape} {decoder.fit} Pillow {__version__}", root, paths)
