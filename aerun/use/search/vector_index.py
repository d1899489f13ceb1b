"""Which codes are nearest: exactly, or through a graph of neighbours for millions."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from aerun.base.progress_bar import progress_bar
from aerun.errors import ConfigError, DataError
from aerun.use.collection.fingerprints import Fingerprints, load_fingerprints

Metric = Literal["cosine", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)
KINDS = ("exact", "hnsw")
DISTANCES_PER_BLOCK = 1 << 24  # numbers of a block of distances
SPARE_CANDIDATES = 16  # candidates beyond k, of which the nearest are chosen by distances in double precision
MAX_PAIRS = 1_000_000
log = logging.getLogger(__name__)


class Neighbors(NamedTuple):
    """Of each query the nearest: ``rows`` [Q,k] in the collection and ``distances`` [Q,k], ascending."""

    rows: np.ndarray
    distances: np.ndarray


class ExactIndex:
    """Codes [N,D], or of several views [N,V,D], ready to be searched.

    ``cosine`` is 1 minus the cosine of the angle, from 0 to 2, and 1 from a code that is zero; ``euclidean`` the length
    of the difference. Of several views the nearest counts. Candidates come from one product of matrices in single
    precision; their distances, and which of them are nearest, are computed in double precision; equal ones are in the
    order of their rows.
    """

    def __init__(self, codes: np.ndarray, metric: Metric = "cosine") -> None:
        if metric not in METRICS:
            raise ConfigError(f"metric={metric}: must be one of {', '.join(METRICS)}")
        codes = _check_codes(codes, "the collection")
        self.metric, self.count = metric, len(codes)
        self.views = 1 if codes.ndim == 2 else codes.shape[1]
        self.codes = codes.reshape(-1, codes.shape[-1])
        # Where all codes are far from zero, differences of squares would lose the digits that tell them apart.
        self._centre = self.codes.mean(0, dtype=np.float64).astype(np.float32)
        self._ready = self._prepared(self.codes)
        self._squares = np.einsum("nd,nd->n", self._ready, self._ready)

    def _prepared(self, codes: np.ndarray) -> np.ndarray:
        codes = codes.astype(np.float32, copy=False)
        if self.metric == "euclidean":
            return codes - self._centre
        length = np.linalg.norm(codes, axis=1, keepdims=True)
        return codes / np.where(length > 0, length, 1)

    def query(self, queries: np.ndarray, k: int, excluded: Sequence[Sequence[int]] | None = None) -> Neighbors:
        """queries[Q,D], or of several views [Q,V,D] -> the k nearest of each, without the rows ``excluded`` for it."""
        if k < 1:
            raise ConfigError(f"k={k}: must be 1 or more")
        queries = _check_codes(queries, "queries")
        if queries.shape[-1] != self.codes.shape[1]:
            raise DataError(
                f"queries: codes of {queries.shape[-1]} values, those of the collection have {self.codes.shape[1]}"
            )
        leave = excluded or [()] * len(queries)
        if queries.ndim == 3:
            return self._query_views(queries, k, leave)
        k = min(k, self.count - max(map(len, leave), default=0))
        rows, distances = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
        if self.metric == "cosine" and len(empty := np.flatnonzero(~queries.any(1))):
            log.warning(
                "%d of %d codes to search for are all zeros and have no direction: their neighbours, all at cosine "
                "distance 1, mean nothing; metric euclidean tells them apart",
                len(empty),
                len(queries),
            )
        step = max(1, DISTANCES_PER_BLOCK // len(self.codes))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            candidates = self._candidates(queries[part], k, max(map(len, leave[part]), default=0))
            for offset, found in enumerate(candidates):
                number = start + offset
                rows[number], distances[number] = self._nearest(queries[number], found, k, leave[number])
        return Neighbors(rows, distances)

    def _query_views(self, queries: np.ndarray, k: int, excluded: Sequence[Sequence[int]]) -> Neighbors:
        """Whatever is nearest to any of the views; it is among the nearest of that view."""
        count, views, size = queries.shape
        each = self.query(queries.reshape(-1, size), k, [rows for rows in excluded for _ in range(views)])
        k = each.rows.shape[1]
        rows, distances = np.empty((count, k), np.int64), np.empty((count, k))
        for number in range(count):
            part = slice(number * views, (number + 1) * views)
            rows[number], distances[number] = _nearest_unique(
                each.rows[part].reshape(-1), each.distances[part].reshape(-1), k
            )
        return Neighbors(rows, distances)

    def _candidates(self, queries: np.ndarray, k: int, extra: int) -> Iterator[np.ndarray]:
        """Rows of codes among which the k nearest pictures are, for each query."""
        wanted = min(len(self.codes), (k + extra) * self.views + SPARE_CANDIDATES)
        nearness = self._prepared(queries) @ self._ready.T
        if self.metric == "euclidean":
            nearness = 2 * nearness - self._squares
        for line, query in zip(nearness, queries, strict=True):
            if self.metric == "cosine" and not query.any():  # all are as far: the first rows
                yield np.arange(wanted)
                continue
            yield np.argpartition(line, len(line) - wanted)[-wanted:] if wanted < len(line) else np.arange(len(line))

    def _nearest(
        self, query: np.ndarray, found: np.ndarray, k: int, excluded: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        distances, pictures = exact_distances(query, self.codes[found], self.metric), found // self.views
        kept = ~np.isin(pictures, np.array(excluded, np.int64))
        return _nearest_unique(pictures[kept], distances[kept], k)


def _check_codes(codes: np.ndarray, what: str) -> np.ndarray:
    """codes[N,D] or [N,V,D]. DataError for what is none, or has values that are not finite."""
    codes = np.asarray(codes)
    if codes.ndim not in (2, 3):
        raise DataError(f"{what}: shape {list(codes.shape)}: must be codes [N,D], or of several views [N,V,D]")
    bad = np.flatnonzero(~np.isfinite(codes).reshape(len(codes), -1).all(1))
    if len(bad):
        raise DataError(
            f"{what}: {len(bad)} of {len(codes):,} codes have values that are not finite, first number {bad[0]}"
        )
    return codes


def _nearest_unique(rows: np.ndarray, distances: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows, each once, by ascending distance; equal ones by row."""
    order = np.lexsort((rows, distances))
    rows, distances = rows[order], distances[order]
    _, first = np.unique(rows, return_index=True)
    first = np.sort(first)[:k]
    return rows[first], distances[first]


def exact_distances(query: np.ndarray, codes: np.ndarray, metric: Metric) -> np.ndarray:
    """query[D] or [n,D], codes[n,D] -> distances [n], in double precision."""
    one, many = query.astype(np.float64), codes.astype(np.float64)
    if metric == "euclidean":
        return np.asarray(np.linalg.norm(many - one, axis=-1))
    length = np.linalg.norm(one, axis=-1) * np.linalg.norm(many, axis=-1)
    cosine = (many * one).sum(-1) / np.where(length > 0, length, 1)
    return np.asarray((1 - cosine).clip(0, 2))


def open_index(
    codes: Fingerprints | np.ndarray, metric: Metric = "cosine", kind: str = "exact", keep: Path | None = None
) -> ExactIndex:
    """An index over a collection; ``hnsw`` needs the extra ``search``, and is kept in the file ``keep``, if given."""
    array = codes.codes if isinstance(codes, Fingerprints) else codes
    if kind == "exact":
        return ExactIndex(array, metric)
    if kind == "hnsw":
        from aerun.use.search.hnsw import HNSWIndex

        return HNSWIndex(array, metric, keep)
    raise ConfigError(f"index={kind}: must be one of {', '.join(KINDS)}")


def search(
    collection: Fingerprints | np.ndarray | str | os.PathLike[str],
    queries: np.ndarray,
    k: int = 12,
    *,
    metric: Metric = "cosine",
    index: str = "exact",
    excluded: Sequence[Sequence[int]] | None = None,
) -> Neighbors:
    """The ``k`` nearest pictures of a collection (fingerprints, their file, or codes [N,D]) to each of the
    query codes [Q,D].

    ``excluded``: for each query rows that do not count, such as its own. k larger than the collection is cut to it.
    DataError for codes of different widths, or with values that are not finite; ConfigError for k below 1. Codes of
    zeros have no direction: by cosine all are at distance 1 from them, in the order of rows, and a warning says so.
    """
    if isinstance(collection, str | os.PathLike):
        collection = load_fingerprints(Path(collection))
    return open_index(collection, metric, index).query(queries, k, excluded)


class Pairs(NamedTuple):
    """Near-duplicates: ``rows`` [n,2], the first the smaller, and ``distances`` [n], ascending."""

    rows: np.ndarray
    distances: np.ndarray

    def groups(self) -> list[list[int]]:
        """Rows that pairs connect, the largest group first: what is there in many copies is one of these."""
        if not len(self.rows):
            return []  # not every version of SciPy knows graphs without nodes
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        rows, members = np.unique(self.rows, return_inverse=True)
        first, second = members.reshape(-1, 2).T
        links = coo_array((np.ones(len(first), bool), (first, second)), (len(rows), len(rows)))
        _, number = connected_components(links, directed=False)
        parts = [rows[number == group].tolist() for group in range(number.max(initial=-1) + 1)]
        return sorted(parts, key=lambda part: (-len(part), part))


def duplicates(collection: Fingerprints | np.ndarray, threshold: float, *, metric: Metric = "cosine") -> Pairs:
    """All pairs of codes [N,D] that are at most ``threshold`` apart. ConfigError if there are a million of them."""
    codes = collection.whole_codes if isinstance(collection, Fingerprints) else collection
    index = ExactIndex(codes, metric)
    ready, squares = index._ready, index._squares
    rows, distances, total = [np.empty((0, 2), np.int64)], [np.empty(0)], 0
    step = max(1, min(1024, DISTANCES_PER_BLOCK // len(codes)))
    with progress_bar("pairs", len(codes)) as bar:
        for start in range(0, len(codes), step):
            block = ready[start : start + step]
            near = block @ ready[start:].T
            if metric == "euclidean":
                square = squares[start : start + step, None] + squares[None, start:] - 2 * near
                # Room for the rounding of single precision: what is let in is measured again.
                inside = square <= threshold**2 * 1.001 + 1e-5 * squares.max(initial=0)
            else:
                inside = 1 - near <= threshold + 1e-5
            first, second = np.nonzero(np.triu(inside, 1))
            total += len(first)
            if total > MAX_PAIRS:
                raise ConfigError(
                    f"threshold {threshold:g}: more than {MAX_PAIRS:,} pairs are that near; choose a smaller one"
                )
            exact = _pair_distances(codes, first + start, second + start, metric)
            rows.append(np.stack([first, second], 1)[exact <= threshold] + start)
            distances.append(exact[exact <= threshold])
            bar.update(len(block))
    both, apart = np.concatenate(rows), np.concatenate(distances)
    order = np.lexsort((both[:, 1], both[:, 0], apart))
    return Pairs(both[order], apart[order])


def _pair_distances(codes: np.ndarray, first: np.ndarray, second: np.ndarray, metric: Metric) -> np.ndarray:
    step = 1 << 16
    parts = [slice(start, start + step) for start in range(0, len(first), step)]
    found = [exact_distances(codes[first[part]], codes[second[part]], metric) for part in parts]
    return np.concatenate(found) if found else np.empty(0)
