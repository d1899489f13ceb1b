"""Contact sheets of what a search found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerun.use.collection.thumbnails import read_thumbnail
from aerun.use.contact_sheet import Tile, blank_tile, draw_contact_sheet
from aerun.use.words import plural

if TYPE_CHECKING:
    from aerun.use.collection.thumbnails import Thumbnails
    from aerun.use.search.queries import Query
    from aerun.use.search.vector_index import Neighbors, Pairs

MAX_COLUMNS = 13


def draw_neighbors(thumbnails: Thumbnails, queries: list[Query], found: Neighbors) -> np.ndarray:
    """Pixels [H,W,3]: each query, framed, and its neighbours after it, with their distances; below each other."""
    columns = min(MAX_COLUMNS, 1 + found.rows.shape[1])
    tiles = list[Tile]()
    for query, rows, distances in zip(queries, found.rows.tolist(), found.distances, strict=True):
        pixels = thumbnails(query.row) if query.row >= 0 or query.path is None else read_thumbnail(query.path)
        tiles.append(Tile(pixels, f"query\n{Path(query.name).name}", marked=True))
        tiles += [thumbnails.tile(row, f"{apart:.4f}") for row, apart in zip(rows, distances, strict=True)]
        if query is not queries[-1]:
            tiles += [blank_tile()] * (-len(tiles) % columns)
    return draw_contact_sheet(tiles, columns)


def draw_groups(thumbnails: Thumbnails, pairs: Pairs, most: int) -> np.ndarray:
    """Pixels [H,W,3]: a row for each group of near-duplicates, the largest first, as many as there is room for; below
    each picture the distance to the nearest other one."""
    groups, nearest = pairs.groups(), dict[int, float]()
    for rows, apart in zip(pairs.rows.tolist(), pairs.distances.tolist(), strict=True):
        for row in rows:
            nearest[row] = min(apart, nearest.get(row, apart))
    columns = min(MAX_COLUMNS, max(map(len, groups), default=1))
    tiles = list[Tile]()
    for group in groups[:most]:
        kept = group if len(group) <= columns else group[: columns - 1]
        tiles += [thumbnails.tile(row, f"{nearest[row]:.4f}") for row in kept]
        if len(kept) < len(group):
            tiles.append(blank_tile(f"and {len(group) - len(kept)} more"))
        if group is not groups[:most][-1]:
            tiles += [blank_tile()] * (-len(tiles) % columns)
    pictures = sum(map(len, groups))
    title = f"{plural(pictures, 'near-duplicate')} in {plural(len(groups), 'group')}" + f", {most} shown" * (
        len(groups) > most
    )
    return draw_contact_sheet(tiles or [blank_tile()], columns, title=title)


def stack_sheets(sheets: Sequence[np.ndarray]) -> np.ndarray:
    """Sheets [H,W,3] on one, white where they are narrower than the widest."""
    width = max(sheet.shape[1] for sheet in sheets)
    wide = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in sheets]
    return np.concatenate(wide)
