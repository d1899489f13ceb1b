"""Contact sheets of what a search found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerun.use.collection.thumbnails import thumbnail
from aerun.use.sheet import Tile, contact_sheet

if TYPE_CHECKING:
    from aerun.use.collection.thumbnails import Thumbnails
    from aerun.use.search.index import Neighbours, Pairs
    from aerun.use.search.queries import Query

WIDEST = 13
BLANK = Tile(np.full((1, 1, 1), 255, np.uint8))


def found_sheet(thumbnails: Thumbnails, queries: list[Query], found: Neighbours) -> np.ndarray:
    """Pixels [H,W,3]: each query, framed, and its neighbours after it, with their distances; below each other."""
    columns = min(WIDEST, 1 + found.rows.shape[1])
    tiles = list[Tile]()
    for query, rows, distances in zip(queries, found.rows.tolist(), found.distances, strict=True):
        pixels = thumbnails(query.row) if query.row >= 0 or query.path is None else thumbnail(query.path)
        tiles.append(Tile(pixels, f"query\n{Path(query.name).name}", marked=True))
        tiles += [thumbnails.tile(row, f"{apart:.4f}") for row, apart in zip(rows, distances, strict=True)]
        if query is not queries[-1]:
            tiles += [BLANK] * (-len(tiles) % columns)
    return contact_sheet(tiles, columns)


def pairs_sheet(thumbnails: Thumbnails, pairs: Pairs, most: int) -> np.ndarray:
    """Pixels [H,W,3]: the nearest pairs, side by side, four in a row."""
    tiles = [
        thumbnails.tile(row, f"{apart:.4f}")
        for rows, apart in zip(pairs.rows[:most].tolist(), pairs.distances[:most], strict=True)
        for row in rows
    ]
    shown = min(most, len(pairs.rows))
    return contact_sheet(tiles or [BLANK], 8, title=f"{shown} of {len(pairs.rows)} near-duplicates, in pairs")
