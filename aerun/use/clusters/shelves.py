"""Clusters on disk: a contact sheet for each, a table, and links to the pictures, which stay where they are."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np

from aerun.errors import ConfigError, DataError
from aerun.files import storage_error, write_text
from aerun.use.clusters.organise import Clusters, table
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import Thumbnails
from aerun.use.pictures import write_picture
from aerun.use.sheet import Tile, contact_sheet

SHOWN, ROW = 48, 12  # pictures of a cluster's sheet, and of its row in the overview


def check_empty(folder: Path) -> None:
    """ConfigError if there is something in the folder: nothing of anybody's is overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already, and not empty; name another folder")


def check_linkable(fingerprints: Fingerprints) -> None:
    """DataError if the pictures are no files."""
    if not fingerprints.root:
        raise DataError(
            f"{fingerprints.file or 'these codes'}: links need the files of a folder, and these are of none"
        )


def write_table(path: Path, fingerprints: Fingerprints, found: Clusters) -> None:
    """A CSV: file, cluster, distance, and label where there are labels."""
    rows = table(fingerprints, found)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _make(path.parent)
    write_text(path, text.getvalue())


def cluster_name(number: int, count: int) -> str:
    """Of the cluster's sheet and of its folder of links."""
    return "none" if number < 0 else f"{number:0{len(str(max(count - 1, 0)))}d}"


def numbers(found: Clusters) -> list[int]:
    """Of the clusters, those in none last."""
    return [*range(found.count), *([-1] if (found.assigned < 0).any() else [])]


def cluster_sheet(thumbnails: Thumbnails, found: Clusters, number: int) -> np.ndarray:
    """Pixels [H,W,3]: the pictures of a cluster, those nearest to the centre first."""
    rows = found.members(number)
    tiles = [thumbnails.tile(row, f"{found.distances[row]:.3f}") for row in rows[:SHOWN].tolist()]
    what = "in no cluster" if number < 0 else f"cluster {cluster_name(number, found.count)}"
    return contact_sheet(tiles, ROW, title=f"{what}: {len(tiles)} of {len(rows)} pictures, nearest to the centre first")


def overview(thumbnails: Thumbnails, found: Clusters) -> np.ndarray:
    """Pixels [H,W,3]: a row for each cluster, of the pictures nearest to its centre."""
    tiles = list[Tile]()
    for number in numbers(found):
        rows = found.members(number)
        name = "none" if number < 0 else cluster_name(number, found.count)
        tiles += [
            Tile(thumbnails(row), f"{name}: {len(rows)}" if row == rows[0] else "") for row in rows[:ROW].tolist()
        ]
        if number != numbers(found)[-1]:
            tiles += [Tile(np.full((1, 1, 1), 255, np.uint8))] * (-len(tiles) % ROW)
    return contact_sheet(tiles, ROW, 64, title=f"{found.count} clusters, the largest first")


def write_sheets(folder: Path, thumbnails: Thumbnails, found: Clusters) -> None:
    """``overview.png``, and ``sheets/NUMBER.png`` for each cluster."""
    write_picture(folder / "overview.png", overview(thumbnails, found))
    for number in numbers(found):
        name = f"{cluster_name(number, found.count)}.png"
        write_picture(folder / "sheets" / name, cluster_sheet(thumbnails, found, number))


def write_links(folder: Path, fingerprints: Fingerprints, found: Clusters) -> None:
    """``links/NUMBER/``: relative links to the pictures of each cluster, whose names tell their folders."""
    root = Path(fingerprints.root)
    for number in numbers(found):
        place = folder / "links" / cluster_name(number, found.count)
        _make(place)
        for row in found.members(number).tolist():
            name = fingerprints.names[row]
            link = place / name.replace("/", "__")
            if link.is_symlink():  # a/b.png and a__b.png
                link = place / f"{row}__{link.name}"
            try:
                link.symlink_to(os.path.relpath(root / name, place.resolve()))
            except OSError as error:
                raise storage_error(error, link) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
