"""Exact nearest neighbors among codes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from aerun.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    Codes = np.ndarray | Tensor

Metric = Literal["cosine", "euclidean", "hamming"]
METRICS: tuple[Metric, ...] = get_args(Metric)
DISTANCES_PER_BLOCK = 1 << 24
SPARE_CANDIDATES = 16  # more than k, because candidates are ranked in single precision
log = logging.getLogger(__name__)


class Neighbors(NamedTuple):
    """The nearest of each query: ``rows`` [Q,k] in the collection and ``distances`` [Q,k], ascending."""

    rows: np.ndarray
    distances: np.ndarray


class Found(NamedTuple):
    """As ``Neighbors``, and ``by`` [Q,k]: the measure that found each."""

    rows: np.ndarray
    distances: np.ndarray
    by: np.ndarray


class ExactIndex:
    """Codes [N,D], or codes of several views [N,V,D], prepared for search.

    ``cosine``: 1 minus the cosine of the angle, from 0 to 2; it is 1 for a code of zeros. ``euclidean``: the length of
    the difference. ``hamming``: the number of code values that differ: that of bits for LFQ, for a codebook that of
    indices, times the length of its entries. With several views the nearest view counts. One matrix product in single
    precision finds candidates; distances and ranks are in double precision. Equal distances are ordered by row.
    """

    def __init__(self, codes: Codes, metric: Metric = "cosine") -> None:
        if metric not in METRICS:
            raise ConfigError(f"metric={metric}: must be one of {', '.join(METRICS)}")
        codes = check_codes(codes, "the collection")
        self.metric, self.count = metric, len(codes)
        self.views = 1 if codes.ndim == 2 else codes.shape[1]
        self.codes = codes.reshape(-1, codes.shape[-1])
        # Without centering, codes far from zero would lose in differences of squares the digits that differ.
        self._center = self.codes.mean(0, dtype=np.float64).astype(np.float32)
        self.prepared = self.prepare(self.codes)
        self.squares = np.einsum("nd,nd->n", self.prepared, self.prepared)

    def prepare(self, codes: np.ndarray) -> np.ndarray:
        """codes[n,D] -> float32 [n,D], centered (euclidean) or scaled to length 1 (cosine)."""
        codes = codes.astype(np.float32, copy=False)
        if self.metric == "euclidean":
            return codes - self._center
        length = np.linalg.norm(codes, axis=1, keepdims=True)
        return codes / np.where(length > 0, length, 1)

    def query(self, queries: Codes, k: int, excluded: Sequence[Sequence[int]] | None = None) -> Neighbors:
        """queries[Q,D], or of several views [Q,V,D] -> the k nearest of each, without its ``excluded`` rows."""
        if k < 1:
            raise ConfigError(f"k={k}: must be at least 1")
        queries = check_codes(queries, "queries")
        if queries.shape[-1] != self.codes.shape[1]:
            raise DataError(
                f"queries: have {queries.shape[-1]} values per code, the collection has {self.codes.shape[1]}"
            )
        excluded = excluded or [()] * len(queries)
        if queries.ndim == 3:
            return self._query_views(queries, k, excluded)
        k = min(k, self.count - max(map(len, excluded), default=0))
        rows, distances = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
        if self.metric == "cosine" and len(empty := np.flatnonzero(~queries.any(1))):
            log.warning(
                "%d of %d query codes are all zeros: every code is at cosine distance 1 from them, so their neighbors "
                "mean nothing; use the metric euclidean",
                len(empty),
                len(queries),
            )
        step = max(1, DISTANCES_PER_BLOCK // len(self.codes))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            candidates = self._candidates(queries[part], k, max(map(len, excluded[part]), default=0))
            for number, found in enumerate(candidates, start):
                rows[number], distances[number] = self._nearest(queries[number], found, k, excluded[number])
        return Neighbors(rows, distances)

    def _query_views(self, queries: np.ndarray, k: int, excluded: Sequence[Sequence[int]]) -> Neighbors:
        """The nearest to any view: they are among the nearest of that view."""
        count, views, size = queries.shape
        each = self.query(queries.reshape(-1, size), k, [rows for rows in excluded for _ in range(views)])
        k = each.rows.shape[1]
        rows, distances = np.empty((count, k), np.int64), np.empty((count, k))
        for number in range(count):
            part = slice(number * views, (number + 1) * views)
            all_rows, all_distances = each.rows[part].reshape(-1), each.distances[part].reshape(-1)
            rows[number], distances[number] = _nearest_unique(all_rows, all_distances, k)
        return Neighbors(rows, distances)

    def _candidates(self, queries: np.ndarray, k: int, extra: int) -> Iterator[np.ndarray]:
        """For each query, rows of codes that include the k + ``extra`` nearest images."""
        wanted = min(len(self.codes), (k + extra) * self.views + SPARE_CANDIDATES)
        if self.metric == "hamming":
            order = np.arange(len(self.codes))  # many are equally far: the first of them are candidates
            nearness = np.stack([-(self.codes != query).sum(1) * len(order) - order for query in queries])
        else:
            nearness = self.prepare(queries) @ self.prepared.T
        if self.metric == "euclidean":
            nearness = 2 * nearness - self.squares
        for line, query in zip(nearness, queries, strict=True):
            if self.metric == "cosine" and not query.any():  # all are equally far
                yield np.arange(wanted)
                continue
            yield np.argpartition(line, len(line) - wanted)[-wanted:] if wanted < len(line) else np.arange(len(line))

    def _nearest(
        self, query: np.ndarray, candidates: np.ndarray, k: int, excluded: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        distances = exact_distances(query, self.codes[candidates], self.metric)
        rows = candidates // self.views
        allowed = ~np.isin(rows, np.array(excluded, np.int64))
        return _nearest_unique(rows[allowed], distances[allowed], k)


def exact_distances(query: np.ndarray, codes: np.ndarray, metric: Metric) -> np.ndarray:
    """query[D] or [n,D], codes[n,D] -> distances [n], in double precision."""
    if metric == "hamming":
        return np.asarray((query != codes).sum(-1), np.float64)
    one, many = query.astype(np.float64), codes.astype(np.float64)
    if metric == "euclidean":
        return np.asarray(np.linalg.norm(many - one, axis=-1))
    length = np.linalg.norm(one, axis=-1) * np.linalg.norm(many, axis=-1)
    cosine = (many * one).sum(-1) / np.where(length > 0, length, 1)
    return np.asarray((1 - cosine).clip(0, 2))


def check_codes(codes: Codes, what: str) -> np.ndarray:
    """Codes as an array. DataError for another shape than [N,D] or [N,V,D], and for values that are not finite."""
    from torch import Tensor

    codes = np.asarray(codes.detach().cpu() if isinstance(codes, Tensor) else codes)
    if codes.ndim not in (2, 3):
        flat = "; flatten each of them: codes.reshape(len(codes), -1)" if codes.ndim > 3 else ""
        raise DataError(f"{what}: shape {list(codes.shape)}: must be codes [N,D], or of several views [N,V,D]{flat}")
    if codes.dtype.kind not in "fiu":
        raise DataError(f"{what}: {codes.dtype}: must be numbers")
    bad = np.flatnonzero(~np.isfinite(codes).reshape(len(codes), -1).all(1))
    if len(bad):
        raise DataError(
            f"{what}: {len(bad)} of {len(codes):,} codes have values that are not finite; the first is {bad[0]}"
        )
    return codes


def _nearest_unique(rows: np.ndarray, distances: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest distinct rows, by ascending distance, then by row."""
    order = np.lexsort((rows, distances))
    rows, distances = rows[order], distances[order]
    _, first = np.unique(rows, return_index=True)
    first = np.sort(first)[:k]
    return rows[first], distances[first]
