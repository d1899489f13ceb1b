"""A folder tree of pictures of mixed formats, sizes and modes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from aerun.config.schema import Range, Size
from aerun.dataset.base import Dataset
from aerun.dataset.cache import cached_rows, files_key
from aerun.dataset.data import Arrays
from aerun.dataset.memory import check_room
from aerun.dataset.pictures import ENDINGS, Decoder, list_pictures
from aerun.dataset.places import existing
from aerun.dataset.rows import Rows
from aerun.dataset.splitting import holdout
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

NAMED = 20  # pictures that cannot be decoded are named up to so many
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """PNG, JPEG, WebP, GIF (first frame), BMP and TIFF (first page) below ``root``, as ``channels`` x ``size`` images.

    ``size`` is a side, or [height, width]. ``fit``: ``crop`` scales the picture to cover the size and cuts the
    middle out, ``pad`` scales it to fit and fills with white, ``stretch`` ignores its proportions. Transparency
    is shown over white, EXIF orientation is applied. A file that does not decode, or that is a link out of the
    folder, is reported by name, then skipped or fatal by ``on_error``. Labels are the top-level subfolders, if
    every picture is in one.
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
        """Of an image."""
        height, width = self.size if isinstance(self.size, list) else (self.size, self.size)
        return self.channels, height, width

    def read(self) -> Arrays:
        import numpy as np

        paths, bad = self.pictures(), dict[int, str]()
        # Once as they are decoded, and once as they are parted.
        check_room(2 * len(paths) * math.prod(self.shape), f"{len(paths)}x{'x'.join(map(str, self.shape))}")
        images, count = np.empty((len(paths), *self.shape), np.uint8), 0
        for chunk in self.decoded(paths, bad):
            images[count : count + len(chunk)] = chunk
            count += len(chunk)
        self.report(paths, bad)
        return self._parted(paths, bad, lambda rows: images[rows])

    def cached(self) -> Arrays | None:
        paths, bad = self.pictures(), dict[int, str]()
        key = pictures_key(existing(self.root), paths, Decoder(self.shape, self.fit))
        size = len(paths) * math.prod(self.shape)
        file = cached_rows(key, lambda: self.decoded(paths, bad), lambda: {"bad": list(bad.items())}, size)
        if file is None:
            return None
        bad = dict(file.about["bad"])
        self.report(paths, bad)
        return self._parted(paths, bad, lambda rows: Rows(file, rows))

    def pictures(self) -> list[Path]:
        """The files to decode, sorted. DataError if there are none."""
        root = existing(self.root)
        if not root.is_dir():
            raise DataError(f"dataset.root={self.root}: is a file, not a folder; a .npy or .npz file is dataset=array")
        paths = list_pictures(root)
        if not paths:
            raise DataError(f"dataset.root={self.root}: has no picture ({', '.join(sorted(ENDINGS))}) in it or below")
        return paths

    def _parted(
        self, paths: list[Path], bad: dict[int, str], take: Callable[[np.ndarray], np.ndarray | Rows]
    ) -> Arrays:
        """The pictures that are not bad in two parts; ``take`` gives those of ascending numbers."""
        import numpy as np

        root = existing(self.root)
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

    def decoded(self, paths: list[Path], bad: dict[int, str]) -> Iterator[np.ndarray]:
        """The pictures in chunks [n,C,H,W]; of those that do not decode, which are black, ``bad`` gets the reasons."""
        for chunk in Decoder(self.shape, self.fit).chunks(paths, bad, existing(self.root)):
            if self.on_error == "fail" or len(bad) == len(paths):
                self.report(paths, bad)
            yield chunk

    def report(self, paths: list[Path], bad: dict[int, str]) -> None:
        """Name the pictures that do not decode. DataError for the first if that is asked for, or if it is all."""
        for index, reason in list(bad.items())[:NAMED]:
            message = f"{paths[index]}: cannot be decoded ({reason})"
            if self.on_error == "fail":
                raise DataError(f"{message}; dataset.on_error=skip leaves such files out")
            log.warning("%s; left out", message)
        if len(bad) > NAMED:
            log.warning("%d more pictures cannot be decoded and are left out", len(bad) - NAMED)
        if len(bad) == len(paths):
            raise DataError(f"dataset.root={self.root}: none of its {len(paths)} pictures can be decoded")


def pictures_key(root: Path, paths: list[Path], decoder: Decoder) -> str:
    """Of a folder's decoded pictures in the cache."""
    from PIL import __version__

    return files_key(f"pictures {decoder.shape} {decoder.fit} Pillow {__version__}", root, paths)
