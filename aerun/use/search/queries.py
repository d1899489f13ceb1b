"""Search queries: images of the collection by name, and image files from anywhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerun.errors import DataError
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import read_thumbnail
from aerun.use.collection.views import CROP_SHARE, encode_views
from aerun.use.image_files import find_images, read_inputs

if TYPE_CHECKING:
    from aerun.use.opened_run import OpenedRun

NOT_IN_COLLECTION = -1
QUERY_PIXELS = 192  # of the longer side of a query, so that a page in a photo keeps enough of them
Picture = np.ndarray | int  # uint8 [C,H,W], or a row of the collection
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """``code`` [D], or [V,D] for several views; its ``row`` in the collection; its ``path``, if there is a file."""

    name: str
    code: np.ndarray
    row: int = NOT_IN_COLLECTION
    path: Path | None = None

    @property
    def excluded(self) -> list[int]:
        """The row of the query itself, which is not a result."""
        return [self.row] if self.row >= 0 else []


def find_queries(run: OpenedRun, fingerprints: Fingerprints, words: Sequence[str], views: int = 1) -> list[Query]:
    """The queries for each word: a name in the collection, an image file, or a folder with its subfolders.

    A file of the collection becomes its row, however its path is written; other files are read as the run's inputs.
    ``views`` > 1 also encodes each with a margin at that many positions less one; with 0 files are not encoded, and
    their codes are empty. DataError for other words.
    """
    rows = {name: row for row, name in enumerate(fingerprints.names)}
    found = list[tuple[str, int, Path | None]]()
    for word in words:
        if word in rows:
            path = Path(fingerprints.root) / word if fingerprints.root else None
            found.append((word, rows[word], path))
            continue
        if not Path(word).expanduser().exists():
            raise DataError(f"{word}: is neither the name of an image in the collection nor a file")
        for _, path in find_images(Path(word)):
            row = rows.get(_name_in_collection(path, fingerprints.root), NOT_IN_COLLECTION)
            found.append((fingerprints.names[row] if row >= 0 else str(path), row, path))
    to_encode = [
        (number, path)
        for number, (_, row, path) in enumerate(found)
        if views and path is not None and (row < 0 or (views > 1 and path.is_file()))
    ]
    codes = _encode_files(run, to_encode, views)
    return [
        Query(name, codes[number] if number in codes else _stored_code(fingerprints, row, views), row, path)
        for number, (name, row, path) in enumerate(found)
        if number in codes or row >= 0 or not views
    ]


def read_pictures(run: OpenedRun, queries: Sequence[Query]) -> tuple[list[Query], list[Picture]]:
    """The queries whose files can be read or that are in the collection, and their pictures, each uint8 [3,H,W], or the
    row of one whose file is gone.

    Others are skipped with a warning. DataError if none is left.
    """
    decoder = run.decoder()
    kept: list[Query] = []
    pictures: list[Picture] = []
    for query in queries:
        assert query.path is not None  # fingerprints with looks are of files
        picture = read_thumbnail(query.path, decoder.background, decoder.white_value, QUERY_PIXELS)
        if picture is None and query.row < 0:
            log.warning("%s: cannot be read, and is skipped", query.path)
        else:
            kept.append(query)
            pictures.append(query.row if picture is None else picture)
    if not kept:
        raise DataError("none of the images can be read")
    return kept, pictures


def _encode_files(run: OpenedRun, files: list[tuple[int, Path]], views: int) -> dict[int, np.ndarray]:
    """Codes [D] or [V,D] of numbered files, by number; undecodable files are left out."""
    if not files:
        return {}
    return {
        int(name): codes if views > 1 else codes[0]
        for names, images in read_inputs(run, [(str(number), path) for number, path in files])
        for name, codes in zip(names, encode_views(run.encode, images, views, 1 / CROP_SHARE), strict=True)
    }


def _stored_code(fingerprints: Fingerprints, row: int, views: int) -> np.ndarray:
    if not views:
        return np.empty(0, np.float32)
    code = fingerprints.whole_codes[row]
    return code if views == 1 else np.repeat(code[None], views, 0)


def _name_in_collection(path: Path, root: str) -> str:
    """The path relative to the collection's folder; empty if it is outside."""
    if not root:
        return ""
    for candidate in (path.absolute(), path.resolve()):
        if candidate.is_relative_to(root):
            return candidate.relative_to(root).as_posix()
    return ""
