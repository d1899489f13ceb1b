"""Search by codes, copies and colors at once, on one scale: how seldom pictures of the collection are as near.

Distances of different kinds are compared by the share of pairs of pictures of the collection that are as near or
nearer. Of each picture found the measure with the smallest share counts, and is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from aerun.errors import ConfigError
from aerun.use.collection.fingerprint_files import as_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.search.code_search import open_index
from aerun.use.search.copy_search import CANDIDATES, LOOK_SEARCHES, search_colors, search_copies
from aerun.use.search.queries import Picture, Query, find_queries, read_pictures
from aerun.use.search.vector_index import ExactIndex, Found, Neighbors

if TYPE_CHECKING:
    from aerun.use.collection.fingerprint_files import Collection
    from aerun.use.opened_run import Run

By = Literal["likeness", "copy", "motif", "color", "all"]
BY: tuple[By, ...] = get_args(By)
MEASURES = ("likeness", "copy", "color")
# Chosen on copies of openclipart-png: powers of the shares. Colors and codes are more often as near by chance in a copy
# that is changed than in the pictures of the collection.
WEIGHTS = {"likeness": 0.7, "copy": 1.0, "color": 0.4}
SAMPLED = 32  # pictures of the collection, by whose neighbors distances are put on one scale


@dataclass(frozen=True)
class Scale:
    """Distances ``near`` [S,K], ascending, of S pictures of a collection to their nearest K of ``others``."""

    near: np.ndarray
    others: int

    def chance(self, distances: np.ndarray) -> np.ndarray:
        """The share of pairs that are as near as each of distances[n] or nearer, never 0.

        At a distance the S pictures count whose nearest K reach as far, or are all; without any it is 1.
        """
        edges, counts = np.unique(self.near), []
        for edge in edges:
            known = (self.near[:, -1] >= edge) | (self.near.shape[1] == self.others)
            counts.append([(self.near[known] <= edge).sum(), known.sum() * self.others])
        nearer, pairs = np.array(counts).T
        shares = np.maximum.accumulate((1 + nearer) / (1 + pairs))
        place = np.searchsorted(edges, distances, "right") - 1
        result = np.where(place < 0, 1 / (1 + len(self.near) * self.others), shares[place.clip(0)])
        return np.where(distances > edges[-1], 1.0, result)


def search_pictures(run: Run, collection: Collection, pictures: Sequence[str], k: int = 12, *, by: By = "all") -> Found:
    """The ``k`` pictures of a collection (fingerprints of a folder, or their file) that are nearest to each of
    ``pictures``: names in the collection, which are not their own results, image files, or folders.

    ``by``: ``likeness``, the cosine distance of codes; ``copy``, ``motif`` or ``color``, as in ``aerun-search``;
    ``all``: likeness, copy or color, by whichever the fewest pairs of the collection are as near. ConfigError for
    another one, and for a collection without thumbnails and colors. Files that cannot be read are left out, with a
    warning.
    """
    from aerun.use.opened_run import as_opened

    if by not in BY:
        raise ConfigError(f"by={by}: must be one of {', '.join(BY)}")
    run, found = as_opened(run), as_fingerprints(collection)
    found.require_same_run(run)
    queries = find_queries(run, found, [str(Path(name)) for name in pictures], int(by in ("likeness", "all")))
    if by == "likeness":
        index = open_index(found)
        nearest = index.query(np.stack([q.code for q in queries]), k, [q.excluded for q in queries])
    else:
        found.require_looks()
        queries, seen = read_pictures(run, queries)
        if by == "all":
            return search_all(found, queries, seen, k)
        nearest = LOOK_SEARCHES[by](found, seen, k, [q.excluded for q in queries])
    return Found(*nearest, np.full(nearest.rows.shape, by))


def search_all(fingerprints: Fingerprints, queries: Sequence[Query], pictures: Sequence[Picture], k: int = 12) -> Found:
    """The ``k`` nearest of each query by its code and its picture, as a share of pairs (``calibrate``). ConfigError for
    a collection of one picture, which has no pairs."""
    if len(fingerprints) < 2:
        raise ConfigError(f"by=all: {fingerprints.title}: there is one image, so there are no pairs; use copy")
    codes, excluded = np.stack([query.code for query in queries]), [query.excluded for query in queries]
    index = open_index(fingerprints)
    scales = calibrate(fingerprints, index)
    most = min(max(k, CANDIDATES), len(fingerprints) - max(map(len, excluded), default=0))
    each = search_each(fingerprints, index, codes, pictures, most, excluded)
    return fuse(each, scales, min(k, most))


def calibrate(fingerprints: Fingerprints, index: ExactIndex) -> dict[str, Scale]:
    """The scale of each measure: the distances of 32 pictures of the collection, evenly spaced, to their neighbors."""
    total = len(fingerprints)
    rows = np.unique(np.linspace(0, total - 1, min(SAMPLED, total)).round().astype(int)).tolist()
    codes, most = fingerprints.whole_codes[rows], min(CANDIDATES, total - 1)
    each = search_each(fingerprints, index, codes, rows, most, [[row] for row in rows])
    return {name: Scale(near.distances, total - 1) for name, near in each.items()}


def search_each(
    fingerprints: Fingerprints,
    index: ExactIndex,
    codes: np.ndarray,
    pictures: Sequence[Picture],
    k: int,
    excluded: Sequence[Sequence[int]],
) -> dict[str, Neighbors]:
    """The ``k`` nearest by each measure, of queries with these codes [Q,D] and pictures."""
    found = index.query(codes, k, excluded)
    return dict(
        zip(
            MEASURES,
            (found, *(search(fingerprints, pictures, k, excluded) for search in (search_copies, search_colors))),
            strict=True,
        )
    )


def fuse(each: dict[str, Neighbors], scales: dict[str, Scale], k: int) -> Found:
    """The ``k`` rows of each query with the smallest chance by any measure; equal ones by the product of all."""
    names = list(each)
    found = []
    for number in range(len(each[names[0]].rows)):
        rows = np.unique(np.concatenate([near.rows[number] for near in each.values()]))
        chances = np.ones((len(names), len(rows)))
        for place, name in enumerate(names):
            near = each[name]
            chance = scales[name].chance(near.distances[number]) ** WEIGHTS[name]
            chances[place, np.searchsorted(rows, near.rows[number])] = chance
        best = chances.min(0)
        order = np.lexsort((rows, np.log(chances).sum(0), best))[:k]
        found.append((rows[order], best[order], np.array(names)[chances.argmin(0)[order]]))
    return Found(*(np.stack(part) for part in zip(*found, strict=True)))
