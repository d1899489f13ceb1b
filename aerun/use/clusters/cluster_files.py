"""Clusters on disk: a contact sheet for each, their table, and links to the images, which are not moved."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np

from aerun.base.files import MAX_NAME_BYTES, end_of_name, make_folder, storage_error
from aerun.errors import DataError
from aerun.use.clusters.cluster_table import Groups, all_places, cluster_numbers, place_of, read_places, write_table
from aerun.use.clusters.clustering import Clusters
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import Thumbnails
from aerun.use.contact_sheet import Tile, blank_tile, draw_contact_sheet
from aerun.use.image_files import write_png
from aerun.use.outputs import OutputFolder, plural, replacing_folder

IMAGES_PER_SHEET, IMAGES_PER_ROW = 48, 12
OVERVIEW_TILE_PIXELS = 64
TABLE, OVERVIEW, SHEETS, LINKS = "clusters.csv", "overview.png", "sheets", "links"
log = logging.getLogger(__name__)


def write_clusters(
    folder: Path,
    thumbnails: Thumbnails,
    clusters: Clusters,
    *,
    groups: Groups = (),
    links: bool = False,
    overwrite: bool = False,
) -> None:
    """Write ``clusters.csv``, ``overview.png``, ``sheets/`` and optionally ``links/``: all of them or nothing.

    ``groups``: rows of near-duplicates. ConfigError if the folder is not empty, or if with ``overwrite`` it contains
    more than an earlier result.
    """
    with replacing_folder(folder, CLUSTER_FOLDER, overwrite) as place:
        write_table(place / TABLE, thumbnails.fingerprints, clusters, groups)
        write_sheets(place, thumbnails, clusters, groups)
        if links:
            write_links(place, thumbnails.fingerprints, clusters)


def foreign_files(folder: Path) -> list[str]:
    """What is in the folder that ``write_clusters`` did not write, according to the table; without one, everything."""
    names = read_places(folder / TABLE)
    if not names:
        return sorted(path.name for path in folder.iterdir())
    sheets = {TABLE, OVERVIEW, *(f"{SHEETS}/{name}.png" for name in names)}
    linked = {f"{LINKS}/{name}" for name in names}
    folders = {SHEETS, LINKS, *linked, *(f"{SHEETS}/{name}" for name in names)}
    foreign, pending = list[str](), sorted(folder.iterdir())
    while pending:
        path = pending.pop(0)
        place = path.relative_to(folder).as_posix()
        if path.is_symlink():
            known = path.parent.relative_to(folder).as_posix() in linked and place not in linked
        elif path.is_dir():
            known = place in folders
            pending = (sorted(path.iterdir()) if known else []) + pending
        else:
            known = place in sheets
        foreign += [] if known else [place]
    return foreign


CLUSTER_FOLDER = OutputFolder("aerun-organise", foreign_files)


def require_files(fingerprints: Fingerprints) -> None:
    """DataError if the images are no files, or are gone, so that there is nothing to link to; a warning if some are."""
    if not fingerprints.root:
        raise DataError(f"{fingerprints.title}: links need image files in a folder; these images have none")
    if missing := fingerprints.missing():
        text = fingerprints.describe_missing(missing)
        if len(missing) == len(fingerprints):
            raise DataError(text)
        log.warning("%s; they get no links", text)


def draw_cluster(
    thumbnails: Thumbnails, clusters: Clusters, number: int, part: int | None = None, groups: Groups = ()
) -> np.ndarray:
    """Pixels [H,W,3]: images of a cluster, evenly spaced from nearest to farthest from the center.

    Of a group of near-duplicates the nearest is shown, framed, with the number of them all.
    """
    everything = clusters.members(number, part)
    rows, copies = _first_of_groups(everything, groups)
    in_cluster = number >= 0
    tiles = list[Tile]()
    for row in pick_evenly(rows, IMAGES_PER_SHEET):
        caption = f"{clusters.distances[row]:.3f}" if in_cluster else ""
        more = f" (1 of {copies[row] + 1})" if row in copies else ""
        tiles.append(thumbnails.tile(row, (caption + more).strip(), marked=bool(more)))
    title = f"cluster {place_of(clusters, number, part)}: " if in_cluster else "in no cluster: "
    title += plural(len(rows), "image") if len(tiles) == len(rows) else f"{len(tiles)} of {len(rows):,} images, evenly"
    title += f", and {plural(len(everything) - len(rows), 'near-duplicate')}" if len(rows) < len(everything) else ""
    title += ", from nearest to farthest from the center" * in_cluster
    return draw_contact_sheet(tiles, IMAGES_PER_ROW, title=title)


def _first_of_groups(rows: np.ndarray, groups: Groups) -> tuple[np.ndarray, dict[int, int]]:
    """rows[n] without all but the first of each group, and how many others of its group are among them."""
    group_of = {row: number for number, group in enumerate(groups) for row in group}
    first, copies, kept = dict[int, int](), Counter[int](), list[int]()
    for row in rows.tolist():
        number = group_of.get(row)
        if number is None or number not in first:
            kept.append(row)
            if number is not None:
                first[number] = row
        else:
            copies[first[number]] += 1
    return np.array(kept, int), dict(copies)


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
        digits, _, words = place_of(clusters, number).partition("-")
        caption = f"{digits}: {len(rows)}\n{words}"
        shown = pick_evenly(rows, IMAGES_PER_ROW)
        tiles += [Tile(thumbnails(row), caption if row == rows[0] else "") for row in shown]
        if number != numbers[-1]:
            tiles += [blank_tile()] * (-len(tiles) % IMAGES_PER_ROW)
    title = f"{plural(clusters.count, 'cluster')}, largest first; from nearest to farthest from the center"
    return draw_contact_sheet(tiles, IMAGES_PER_ROW, OVERVIEW_TILE_PIXELS, title=title)


def write_sheets(folder: Path, thumbnails: Thumbnails, clusters: Clusters, groups: Groups = ()) -> None:
    """``overview.png``, and ``sheets/NUMBER-WORDS.png`` for each cluster; those of its parts are in a folder."""
    write_png(folder / OVERVIEW, draw_overview(thumbnails, clusters))
    for number, part in all_places(clusters):
        sheet = draw_cluster(thumbnails, clusters, number, part, groups)
        write_png(folder / SHEETS / f"{place_of(clusters, number, part)}.png", sheet)


def write_links(folder: Path, fingerprints: Fingerprints, clusters: Clusters) -> None:
    """``links/NUMBER-WORDS/``: relative links to the images of each cluster; their names contain the subfolders.

    The images of a cluster that is split are in the folders of its parts.
    """
    root = Path(fingerprints.root)
    whole = {number for number, part in all_places(clusters) if part is not None}
    for number, part in all_places(clusters):
        if part is None and number in whole:
            continue
        place = folder / LINKS / place_of(clusters, number, part)
        make_folder(place)
        for row in clusters.members(number, part).tolist():
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
