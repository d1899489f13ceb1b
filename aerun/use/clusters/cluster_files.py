"""Clusters on disk: a contact sheet for each, a table, and links to the pictures, which stay where they are."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np

from aerun.base.files import make_folder, storage_error, write_text
from aerun.errors import DataError
from aerun.use.clusters.clustering import Clusters, cluster_rows
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import Thumbnails
from aerun.use.contact_sheet import Tile, blank_tile, draw_contact_sheet
from aerun.use.image_files import write_png
from aerun.use.outputs import OutputFolder, replacing_folder
from aerun.use.words import plural

PICTURES_PER_SHEET, PICTURES_PER_ROW = 48, 12  # pictures of a cluster's sheet, and of its row in the overview
TABLE, OVERVIEW, SHEETS, LINKS = "clusters.csv", "overview.png", "sheets", "links"
HEADER = ["file", "cluster", "distance"]


def write_clusters(
    folder: Path, thumbnails: Thumbnails, found: Clusters, *, links: bool = False, overwrite: bool = False
) -> None:
    """``clusters.csv``, ``overview.png``, ``sheets/`` and, if wanted, ``links/``: all of them or nothing.

    ConfigError if the folder is not empty; with ``overwrite`` only if it holds more than an older result.
    """
    with replacing_folder(folder, CLUSTER_FOLDER, overwrite) as place:
        write_table(place / TABLE, thumbnails.fingerprints, found)
        write_sheets(place, thumbnails, found)
        if links:
            write_links(place, thumbnails.fingerprints, found)


def foreign_files(folder: Path) -> list[str]:
    """What is in a folder that ``write_clusters`` did not write, as its table tells; without one, everything."""
    strange, names = list[str](), _read_cluster_names(folder / TABLE)
    for path in sorted(folder.iterdir()):
        inside = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() and names else None
        if inside is not None and path.name == SHEETS:
            strange += [f"{SHEETS}/{sheet.name}" for sheet in inside if sheet.name not in {f"{n}.png" for n in names}]
        elif inside is not None and path.name == LINKS:
            for place in inside:
                known = place.name in names and place.is_dir() and not place.is_symlink()
                links = sorted(place.iterdir()) if known else [place]
                strange += [str(link.relative_to(folder)) for link in links if not known or not link.is_symlink()]
        elif not (names and path.is_file() and path.name in (TABLE, OVERVIEW)):
            strange.append(path.name)
    return strange


CLUSTER_FOLDER = OutputFolder("aerun-organise", foreign_files)


def _read_cluster_names(table: Path) -> set[str]:
    """The names of the clusters in a table; none if it is missing or another's."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if (reader.fieldnames or [])[: len(HEADER)] != HEADER:
                return set()
            found = {int(row["cluster"]) for row in reader}
    except (OSError, ValueError, TypeError, csv.Error):
        return set()
    return {cluster_name(number, max(found) + 1) for number in found}


def require_files(fingerprints: Fingerprints) -> None:
    """DataError if the pictures are no files."""
    if not fingerprints.root:
        raise DataError(
            f"{fingerprints.file or 'these codes'}: links need the files of a folder, and these are of none"
        )


def write_table(path: Path, fingerprints: Fingerprints, found: Clusters) -> None:
    """A CSV: file, cluster, distance, and label where there are labels."""
    rows = cluster_rows(fingerprints, found)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    make_folder(path.parent)
    write_text(path, text.getvalue())


def cluster_name(number: int, count: int) -> str:
    """Of the cluster's sheet and of its folder of links."""
    return "none" if number < 0 else f"{number:0{len(str(max(count - 1, 0)))}d}"


def cluster_numbers(found: Clusters) -> list[int]:
    """Of the clusters, those in none last."""
    return [*range(found.count), *([-1] if (found.assigned < 0).any() else [])]


def draw_cluster(thumbnails: Thumbnails, found: Clusters, number: int) -> np.ndarray:
    """Pixels [H,W,3]: pictures of a cluster, evenly from the one nearest to the centre to the farthest."""
    rows = found.members(number)
    captions = {row: "" if number < 0 else f"{found.distances[row]:.3f}" for row in rows.tolist()}
    tiles = [thumbnails.tile(row, captions[row]) for row in pick_evenly(rows, PICTURES_PER_SHEET)]
    what = "in no cluster" if number < 0 else f"cluster {cluster_name(number, found.count)}"
    order = "" if number < 0 else ", from the nearest to the centre to the farthest"
    count = plural(len(rows), "picture") if len(tiles) == len(rows) else f"{len(tiles)} of {len(rows):,} pictures"
    return draw_contact_sheet(
        tiles, PICTURES_PER_ROW, title=f"{what}: {count}{', evenly' * (len(tiles) < len(rows))}{order}"
    )


def pick_evenly(rows: np.ndarray, most: int) -> list[int]:
    """So many of rows[n] (or all), evenly over their order, the first and the last among them: the nearest to a centre
    are often copies of one picture."""
    places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
    return [int(row) for row in rows[places]]


def draw_overview(thumbnails: Thumbnails, found: Clusters) -> np.ndarray:
    """Pixels [H,W,3]: a row for each cluster, evenly from the picture nearest to its centre to the farthest."""
    tiles = list[Tile]()
    for number in cluster_numbers(found):
        rows = found.members(number)
        name = "none" if number < 0 else cluster_name(number, found.count)
        tiles += [
            Tile(thumbnails(row), f"{name}: {len(rows)}" if row == rows[0] else "")
            for row in pick_evenly(rows, PICTURES_PER_ROW)
        ]
        if number != cluster_numbers(found)[-1]:
            tiles += [blank_tile()] * (-len(tiles) % PICTURES_PER_ROW)
    title = f"{plural(found.count, 'cluster')}, the largest first; from the nearest to the centre to the farthest"
    return draw_contact_sheet(tiles, PICTURES_PER_ROW, 64, title=title)


def write_sheets(folder: Path, thumbnails: Thumbnails, found: Clusters) -> None:
    """``overview.png``, and ``sheets/NUMBER.png`` for each cluster."""
    write_png(folder / OVERVIEW, draw_overview(thumbnails, found))
    for number in cluster_numbers(found):
        name = f"{cluster_name(number, found.count)}.png"
        write_png(folder / SHEETS / name, draw_cluster(thumbnails, found, number))


def write_links(folder: Path, fingerprints: Fingerprints, found: Clusters) -> None:
    """``links/NUMBER/``: relative links to the pictures of each cluster, whose names tell their folders."""
    root = Path(fingerprints.root)
    for number in cluster_numbers(found):
        place = folder / LINKS / cluster_name(number, found.count)
        make_folder(place)
        for row in found.members(number).tolist():
            name = fingerprints.names[row]
            link = place / name.replace("/", "__")
            if link.is_symlink():  # a/b.png and a__b.png
                link = place / f"{row}__{link.name}"
            try:
                link.symlink_to(os.path.relpath(root / name, place.resolve()))
            except OSError as error:
                raise storage_error(error, link) from error
