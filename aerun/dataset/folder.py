"""A folder tree of picture files with mixed formats, sizes and modes."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from aerun.contracts import Count, Range, Size
from aerun.dataset.base import StoredDataset
from aerun.dataset.cache import cached_rows, files_key
from aerun.dataset.data import Arrays
from aerun.dataset.decoder import Decoder, Fit, color_of
from aerun.dataset.folder_layout import TEST, TRAIN, arrange_mvtec, folder_labels
from aerun.dataset.memory_limit import check_memory
from aerun.dataset.paths import existing_path
from aerun.dataset.picture_files import find_pictures, max_megapixels, suffixes
from aerun.dataset.picture_notes import PictureNotes, warn_if_blank
from aerun.dataset.rows import Rows
from aerun.dataset.splitting import holdout
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from aerun.dataset.folder_layout import Take

DECODING_VERSION = 2  # increased when the same file is decoded to other pixels or notes
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImageFolder(StoredDataset):
    """PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF and JPEG 2000 below ``root``, as ``channels`` x ``size`` images.

    Only the first frame or page of a file is used; hidden files and folders are passed over, and other files counted.
    ``size`` is a side, or [height, width]. ``fit``: ``crop`` scales the picture to cover the size and cuts out its
    center, ``pad`` scales it to fit and fills the rest with ``background``, ``stretch`` ignores its proportions,
    ``unscaled`` cuts out its center as it is, with ``background`` around smaller pictures. Transparent pixels are
    blended with ``background``, a color as CSS writes it; EXIF orientation is applied.
    ``white_value``: white of gray pictures of more than 8 bits; null for 65535, or what a TIFF says. A file that cannot
    be decoded, or that is a link to outside the folder, is reported by name, then skipped or fatal by ``on_error``.
    Labels are the top-level subfolders, if every picture is in one.

    All pictures of ``test_root``, if given, are the test part, instead of a share ``test`` of those below ``root``.
    ``layout=mvtec``: ``root`` has the folders ``train``, ``test`` and ``ground_truth`` of MVTec AD, see
    ``aerun.dataset.folder_layout``.
    """

    root: str
    size: Size | list[Size]
    channels: Literal[1, 3]
    fit: Fit
    on_error: Literal["skip", "fail"]
    test: Annotated[float, Range(0, 1, low_open=True, high_open=True)]
    # Configurations of older runs lack the keys below.
    background: str = "white"
    white_value: Count | None = None
    test_root: str | None = None
    layout: Literal["none", "mvtec"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout != "none":
            others = {"test_root": self.test_root, "classes": self.classes, "exclude": self.exclude}
            for key, value in others.items():
                if value is not None:
                    raise ValueError(f"{key}={value}: layout={self.layout} says which pictures are which")
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

    def check(self) -> None:
        super().check()
        root = existing_path(self.root)
        if self.test_root is not None:
            places = [path.resolve() for path in (root, existing_path(self.test_root, "dataset.test_root"))]
            if any(one.is_relative_to(other) for one, other in (places, places[::-1])):
                raise DataError(
                    f"dataset.test_root={self.test_root}: this folder and dataset.root={self.root} share pictures, "
                    "which would be trained on and tested; name two folders, neither within the other"
                )
        missing = [name for name in self._parts if not (root / name).is_dir()]
        if missing:
            raise DataError(f"dataset.root={self.root}: layout={self.layout} needs the folder {missing[0]} in it")

    @property
    def _parts(self) -> tuple[str, ...]:
        """The folders below ``root`` with the pictures; empty for all of it."""
        return (TRAIN, TEST) if self.layout == "mvtec" else ()

    def read(self) -> Arrays:
        arrays = self._arrange(cached=False)
        assert arrays is not None
        return arrays

    def read_cached(self) -> Arrays | None:
        return self._arrange(cached=True)

    def _arrange(self, cached: bool) -> Arrays | None:
        """All pictures, split into their parts. None without a cache."""
        import numpy as np

        found, root = self._decodable(cached), existing_path(self.root)
        if found is None:
            return None
        paths, take = found
        if self.layout == "mvtec":
            return arrange_mvtec(root, paths, take, self.decoder)
        if self.test_root is None:
            rows = holdout(len(paths), self.test, self.split_seed)
            parts, roots, takes = [[paths[i] for i in part] for part in rows], [root, root], [take, take]
        else:
            others = dataclasses.replace(self, root=self.test_root, test_root=None)._decodable(cached)
            if others is None:
                return None
            rows = np.arange(len(paths)), np.arange(len(others[0]))
            parts, takes = [paths, others[0]], [take, others[1]]
            roots = [root, existing_path(self.test_root, "dataset.test_root")]
        arrays = Arrays(takes[0](rows[0]), takes[1](rows[1]), test_files=parts[1])
        if (labeled := folder_labels(parts, roots)) is not None:
            arrays.classes, (arrays.train_labels, arrays.test_labels) = labeled
        return arrays

    def _decodable(self, cached: bool) -> tuple[list[Path], Take] | None:
        """The pictures that can be decoded, and a function that returns those at ascending indices. None without a
        cache, if ``cached``."""
        import numpy as np

        paths, notes = self.list_files(), PictureNotes()
        size = len(paths) * math.prod(self.shape)
        if cached:
            key = decoded_key(existing_path(self.root), paths, self.decoder)
            file = cached_rows(key, lambda: self.decode(paths, notes), notes.as_metadata, size)
            if file is None:
                return None
            notes = PictureNotes.from_metadata(file.metadata)
            take: Take = lambda rows: Rows(file, rows)  # noqa: E731
        else:
            # Images are in memory twice while they are split into training and test images.
            check_memory(2 * size, f"{len(paths)}x{'x'.join(map(str, self.shape))}")
            images, count = np.empty((len(paths), *self.shape), np.uint8), 0
            for chunk in self.decode(paths, notes):
                images[count : count + len(chunk)] = chunk
                count += len(chunk)
            take = lambda rows: images[rows]  # noqa: E731
        self.report(paths, notes)
        kept = np.array([index for index in range(len(paths)) if index not in notes.bad])
        return [paths[index] for index in kept], lambda rows: take(kept[rows])

    def list_files(self) -> list[Path]:
        """Return the picture files, sorted, and log how many others there are. DataError if there are no pictures."""
        root = existing_path(self.root)
        if not root.is_dir():
            raise DataError(f"dataset.root={self.root}: is a file, not a folder; for .npy and .npz use dataset=array")
        paths = []
        for folder in [root / name for name in self._parts] or [root]:
            found = find_pictures(folder)
            if not found.paths:
                others = f"; it has {found.others}" if found.others else ""
                allowed = ", ".join(sorted(suffixes()))
                place = self.root if folder == root else folder
                raise DataError(f"dataset.root={place}: no picture ({allowed}) in it or below it{others}")
            found.log_left_out(folder)
            paths += found.paths
        return paths

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
