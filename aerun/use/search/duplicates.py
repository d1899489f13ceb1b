"""Near-duplicates: all pairs of a collection within a distance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aerun.base.progress_bar import progress_bar
from aerun.errors import ConfigError
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.search.vector_index import DISTANCES_PER_BLOCK, ExactIndex, Metric, exact_distances

MAX_PAIRS = 1_000_000
MAX_ROWS_PER_BLOCK = 1024
PAIRS_PER_CHUNK = 1 << 16
# Single precision: pairs slightly beyond the threshold are measured again in double precision.
RELATIVE_SLACK, ABSOLUTE_SLACK = 1.001, 1e-5


class Pairs(NamedTuple):
    """``rows`` [n,2], the smaller one first, and ``distances`` [n], ascending."""

    rows: np.ndarray
    distances: np.ndarray

    def groups(self) -> list[list[int]]:
        """Rows connected by pairs, the largest group first."""
        if not len(self.rows):
            return []  # some versions of SciPy reject graphs without nodes
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        rows, members = np.unique(self.rows, return_inverse=True)
        first, second = members.reshape(-1, 2).T
        links = coo_array((np.ones(len(first), bool), (first, second)), (len(rows), len(rows)))
        _, number = connected_components(links, directed=False)
        groups = [rows[number == group].tolist() for group in range(number.max(initial=-1) + 1)]
        return sorted(groups, key=lambda group: (-len(group), group))


def duplicates(collection: Fingerprints | np.ndarray, threshold: float, *, metric: Metric = "cosine") -> Pairs:
    """All pairs of codes [N,D] within ``threshold``. ConfigError if there are more than a million, or for ``hamming``.

    Blank images of a collection are left out: they have one code, whatever they were before they became blank.
    """
    if metric == "hamming":
        raise ConfigError("metric=hamming: near-duplicates need cosine or euclidean")
    if isinstance(collection, Fingerprints):
        rows = np.delete(np.arange(len(collection)), collection.blank)
        found = _near_duplicates(collection.whole_codes[rows], threshold, metric)
        return Pairs(rows[found.rows], found.distances)
    return _near_duplicates(collection, threshold, metric)


def _near_duplicates(codes: np.ndarray, threshold: float, metric: Metric) -> Pairs:
    if not len(codes):
        return Pairs(np.empty((0, 2), np.int64), np.empty(0))
    index = ExactIndex(codes, metric)
    rows, distances, total = [np.empty((0, 2), np.int64)], [np.empty(0)], 0
    step = max(1, min(MAX_ROWS_PER_BLOCK, DISTANCES_PER_BLOCK // len(codes)))
    with progress_bar("pairs", len(codes)) as bar:
        for start in range(0, len(codes), step):
            first, second = _near_pairs(index, slice(start, start + step), threshold)
            total += len(first)
            if total > MAX_PAIRS:
                raise ConfigError(f"threshold {threshold:g}: finds more than {MAX_PAIRS:,} pairs; choose a smaller one")
            exact = _pair_distances(codes, first, second, metric)
            rows.append(np.stack([first, second], 1)[exact <= threshold])
            distances.append(exact[exact <= threshold])
            bar.update(min(step, len(codes) - start))
    all_rows, all_distances = np.concatenate(rows), np.concatenate(distances)
    order = np.lexsort((all_rows[:, 1], all_rows[:, 0], all_distances))
    return Pairs(all_rows[order], all_distances[order])


def _near_pairs(index: ExactIndex, block: slice, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """first [n], second [n]: pairs of a row in the block and a later row, within the threshold up to rounding."""
    products = index.prepared[block] @ index.prepared[block.start :].T
    if index.metric == "euclidean":
        squares = index.squares[block, None] + index.squares[None, block.start :] - 2 * products
        near = squares <= threshold**2 * RELATIVE_SLACK + ABSOLUTE_SLACK * index.squares.max(initial=0)
    else:
        near = 1 - products <= threshold + ABSOLUTE_SLACK
    first, second = np.nonzero(np.triu(near, 1))
    return first + block.start, second + block.start


def _pair_distances(codes: np.ndarray, first: np.ndarray, second: np.ndarray, metric: Metric) -> np.ndarray:
    parts = [slice(start, start + PAIRS_PER_CHUNK) for start in range(0, len(first), PAIRS_PER_CHUNK)]
    found = [exact_distances(codes[first[part]], codes[second[part]], metric) for part in parts]
    return np.concatenate(found) if found else np.empty(0)
