"""Bring fingerprints up to date with a folder in which pictures were added, changed, moved or removed."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aerun.errors import DataError
from aerun.use.collection.embedding import embed, embed_files, labels_from_folders
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.looks import SIDE, joined
from aerun.use.image_files import find_images, read_inputs
from aerun.use.outputs import plural

if TYPE_CHECKING:
    from aerun.use.opened_run import OpenedRun

log = logging.getLogger(__name__)


class Changes(NamedTuple):
    """Numbers of pictures: ``added`` and ``changed`` ones were encoded, ``moved`` ones renamed."""

    kept: int
    added: int
    changed: int
    moved: int
    removed: int


def update(run: OpenedRun, known: Fingerprints, folder: Path | None = None) -> tuple[Fingerprints, Changes]:
    """Fingerprints of what is in the folder now; only new and changed pictures are encoded.

    ``folder``: where the pictures are, by default where they were. A picture has changed if its size in bytes or its
    time of change has; it was moved if exactly one that is gone and one that is new have the same of both, and also the
    same file name if the time is in whole seconds, which many files of an archive share. Fingerprints of older
    versions, without them, are made again. DataError if they are not of a folder, or of another run.
    """
    known.require_same_run(run)
    if not known.root:
        raise DataError(f"{known.title}: its images are no files of a folder, so there is nothing to update")
    root = (folder or Path(known.root)).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"{root}: is no folder; --update needs the folder of all pictures")
    looks = known.looks
    if looks is None or looks.side != SIDE or looks.textures is None or looks.files is None:
        log.warning("%s: made by an older version; all pictures are encoded again", known.title)
        made = embed(run, root, views=known.views)
        old = set(known.names)
        again = len(old.intersection(made.names))
        return made, Changes(0, len(made) - again, again, 0, len(old) - again)
    found = find_images(root)
    kept, moved = _rows_kept(known.names, looks.files, found)
    encoded = _encode(run, root, [image for image in found if image[0] not in kept], known.views)
    number = {name: len(known) + row for row, name in enumerate(encoded.names)} | kept
    names = [name for name, _ in found if name in number]
    changed = len(set(known.names).intersection(encoded.names))
    result = _join(known, encoded, names, np.array([number[name] for name in names], int), str(root))
    added = len(encoded) - changed
    gone = len(known) - len(kept) - changed
    return result, Changes(len(kept) - moved, added, changed, moved, gone)


def _rows_kept(
    names: Sequence[str], files: np.ndarray, found: Sequence[tuple[str, Path]]
) -> tuple[dict[str, int], int]:
    """The rows of pictures that are as they were, by their names now, and how many of them were moved."""
    row_of = {name: row for row, name in enumerate(names)}
    stamps = {name: _stamp(path) for name, path in found}
    old_stamps = [tuple(stamp) for stamp in files[:, :2].tolist()]
    kept = {name: row_of[name] for name in stamps if name in row_of and stamps[name] == old_stamps[row_of[name]]}
    gone, new = dict[tuple[int, ...], list[int]](), dict[tuple[int, ...], list[str]]()
    for name, row in row_of.items():
        if name not in stamps:
            gone.setdefault(old_stamps[row], []).append(row)
    for name, stamp in stamps.items():
        if name not in row_of:
            new.setdefault(stamp, []).append(name)
    moved = dict[str, int]()
    for key, there in new.items():
        rows = gone.get(key, [])
        if len(there) == len(rows) == 1:
            is_certain = key[1] % 10**9 != 0 or Path(there[0]).name == Path(names[rows[0]]).name
            moved |= {there[0]: rows[0]} if is_certain else {}
    return kept | moved, len(moved)


def _stamp(path: Path) -> tuple[int, int]:
    """Bytes and time of change; zeros for a link to nothing, or a file that has just gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _encode(run: OpenedRun, root: Path, images: Sequence[tuple[str, Path]], views: int) -> Fingerprints:
    """Of these pictures; none if there are none, or if none can be decoded."""
    try:
        if images:
            return embed_files(run, root, images, read_inputs(run, images, root), views)
    except DataError as error:
        log.warning("%s; %s not added", error, plural(len(images), "picture"))
    return Fingerprints([], np.empty(0), run.fingerprint)


def _join(known: Fingerprints, encoded: Fingerprints, names: list[str], rows: np.ndarray, root: str) -> Fingerprints:
    """``names`` with these rows of the two, one after the other."""
    if not names:
        raise DataError(f"{root}: none of its pictures can be decoded")
    parts = [known, encoded] if len(encoded) else [known]
    labels, classes = labels_from_folders(names)
    blank = set(known.blank) | {len(known) + row for row in encoded.blank}
    looks = joined([part.looks for part in parts if part.looks is not None])
    quantized = known.quantized
    if quantized is not None:
        indices = np.concatenate([part.quantized.indices for part in parts if part.quantized is not None])
        each = indices.reshape(-1, known.views, indices.shape[1])[rows]
        quantized = dataclasses.replace(quantized, indices=each.reshape(-1, indices.shape[1]))
    return dataclasses.replace(
        known,
        names=names,
        codes=np.concatenate([part.codes for part in parts])[rows],
        root=root,
        labels=labels,
        classes=classes,
        blank=[place for place, row in enumerate(rows.tolist()) if row in blank],
        looks=looks.rows(rows),
        quantized=quantized,
    )
