"""Clusters on disk: a table, a contact sheet for each cluster, and links to the images, which are not moved."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path

import numpy as np

from aerun.base.files import MAX_NAME_BYTES, end_of_name, format_csv, make_folder, storage_error, write_text
from aerun.errors import DataError
from aerun.use.clusters.clustering import Clusters, cluster_rows
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import Thumbnails
from aerun.use.contact_sheet import Tile, blank_tile, draw_contact_sheet
from aerun.use.image_files import write_png
from aerun.use.outputs import OutputFolder, plural, replacing_folder

IMAGES_PER_SHEET, IMAGES_PER_ROW = 48, 12
OVERVIEW_TILE_PIXELS = 64
TABLE, OVERVIEW, SHEETS, LINKS = "clusters.csv", "overview.png", "sheets", "links"
log = logging.getLogger(__name__)
HEADER = ["file", "cluster", "distance"]


def write_clusters(
    folder: Path, thumbnails: Thumbnails, clusters: Clusters, *, links: bool = False, overwrite: bool = False
) -> None:
    """Write ``clusters.csv``, ``overview.png``, ``sheets/`` and optionally ``links/``: all of them or nothing.

    ConfigError if the folder is not empty, or if with ``overwrite`` it contains more than an earlier result.
    """
    with replacing_folder(folder, CLUSTER_FOLDER, overwrite) as place:
        write_table(place / TABLE, thumbnails.fingerprints, clusters)
        write_sheets(place, thumbnails, clusters)
        if links:
            write_links(place, thumbnails.fingerprints, clusters)


def foreign_files(folder: Path) -> list[str]:
    """What is in the folder that ``write_clusters`` did not write, according to the table; without one, everything."""
    foreign, names = list[str](), _read_cluster_names(folder / TABLE)
    for path in sorted(folder.iterdir()):
        inside = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() and names else None
        if inside is not None and path.name == SHEETS:
            foreign += [f"{SHEETS}/{sheet.name}" for sheet in inside if sheet.name not in {f"{n}.png" for n in names}]
        elif inside is not None and path.name == LINKS:
            for place in inside:
                known = place.name in names and place.is_dir() and not place.is_symlink()
                links = sorted(place.iterdir()) if known else [place]
                foreign += [str(link.relative_to(folder)) for link in links if not known or not link.is_symlink()]
        elif not (names and path.is_file() and path.name in (TABLE, OVERVIEW)):
            foreign.append(path.name)
    return foreign


CLUSTER_FOLDER = OutputFolder("aerun-organise", foreign_files)


def _read_cluster_names(table: Path) -> set[str]:
    """Names of the clusters in a table; empty if the table is missing, or not one of ours."""
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
    """DataError if the images are no files, or are gone, so that there is nothing to link to; a warning if some are."""
    if not fingerprints.root:
        raise DataError(f"{fingerprints.title}: links need image files in a folder; these images have none")
    if missing := fingerprints.missing():
        text = fingerprints.describe_missing(missing)
        if len(missing) == len(fingerprints):
            raise DataError(text)
        log.warning("%s; they get no links", text)


def write_table(path: Path, fingerprints: Fingerprints, clusters: Clusters) -> None:
    """A CSV file: file, cluster, distance, and label if there are labels."""
    rows = cluster_rows(fingerprints, clusters)
    make_folder(path.parent)
    write_text(path, format_csv([list(rows[0]), *(row.values() for row in rows)]))


def cluster_name(number: int, count: int) -> str:
    """The name of a cluster's sheet and of its folder of links: its number with leading zeros, or ``none``."""
    return "none" if number < 0 else f"{number:0{len(str(max(count - 1, 0)))}d}"


def cluster_numbers(clusters: Clusters) -> list[int]:
    """All clusters, then -1 if some images are in none."""
    return [*range(clusters.count), *([-1] if (clusters.assigned < 0).any() else [])]


def draw_cluster(thumbnails: Thumbnails, clusters: Clusters, number: int) -> np.ndarray:
    """Pixels [H,W,3]: images of a cluster, evenly spaced from nearest to farthest from the center."""
    rows = clusters.members(number)
    in_cluster = number >= 0
    shown = pick_evenly(rows, IMAGES_PER_SHEET)
    tiles = [thumbnails.tile(row, f"{clusters.distances[row]:.3f}" if in_cluster else "") for row in shown]
    title = f"cluster {cluster_name(number, clusters.count)}: " if in_cluster else "in no cluster: "
    title += plural(len(rows), "image") if len(tiles) == len(rows) else f"{len(tiles)} of {len(rows):,} images, evenly"
    title += ", from nearest to farthest from the center" * in_cluster
    return draw_contact_sheet(tiles, IMAGES_PER_ROW, title=title)


def pick_evenly(rows: np.ndarray, most: int) -> list[int]:
    """At most ``most`` of rows[n], evenly spaced, including the first and the last.

    The nearest to a center alone would often be copies of one image.
    """
    places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
    return [int(row) for row in rows[places]]


def draw_overview(thumbnails: Thumbnails, clusters: Clusters) -> np.ndarray:
    """Pixels [H,W,3]: a row per cluster, evenly spaced from nearest to farthest from the center."""
    tiles = list[Tile]()
    numbers = cluster_numbers(clusters)
    for number in numbers:
        rows = clusters.members(number)
        caption = f"{cluster_name(number, clusters.count)}: {len(rows)}"
        shown = pick_evenly(rows, IMAGES_PER_ROW)
        tiles += [Tile(thumbnails(row), caption if row == rows[0] else "") for row in shown]
        if number != numbers[-1]:
            tiles += [blank_tile()] * (-len(tiles) % IMAGES_PER_ROW)
    title = f"{plural(clusters.count, 'cluster')}, largest first; from nearest to farthest from the center"
    return draw_contact_sheet(tiles, IMAGES_PER_ROW, OVERVIEW_TILE_PIXELS, title=title)


def write_sheets(folder: Path, thumbnails: Thumbnails, clusters: Clusters) -> None:
    """``overview.png``, and ``sheets/NUMBER.png`` for each cluster."""
    write_png(folder / OVERVIEW, draw_overview(thumbnails, clusters))
    for number in cluster_numbers(clusters):
        name = f"{cluster_name(number, clusters.count)}.png"
        write_png(folder / SHEETS / name, draw_cluster(thumbnails, clusters, number))


def write_links(folder: Path, fingerprints: Fingerprints, clusters: Clusters) -> None:
    """``links/NUMBER/``: relative links to the images of each cluster; their names contain the subfolders."""
    root = Path(fingerprints.root)
    for number in cluster_numbers(clusters):
        place = folder / LINKS / cluster_name(number, clusters.count)
        make_folder(place)
        for row in clusters.members(number).tolist():
            name = fingerprints.names[row]
            if not (root / name).exists():
                continue
            flat = name.replace("/", "__")
            link = place / end_of_name(flat)
            if link.name != flat or link.is_symlink():  # it is too long, or both a/b.png and a__b.png exist
                link = place / f"{row}__{end_of_name(flat, MAX_NAME_BYTES - len(f'{row}__'))}"
            try:
                link.symlink_to(os.path.relpath(root / name, place.resolve()))
            except OSError as error:
                raise storage_error(error, link) from error
