"""Nearest codes and near-duplicates, compared with scikit-learn and SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.neighbors import NearestNeighbors

from aerun.errors import ConfigError
from aerun.use.search import duplicates as duplicates_module
from aerun.use.search import vector_index
from aerun.use.search.code_search import open_index, search
from aerun.use.search.duplicates import Pairs, duplicates
from aerun.use.search.vector_index import METRICS, ExactIndex, Metric

RANDOM = np.random.default_rng(0)
CODES = RANDOM.normal(0, 1, (400, 24)).astype(np.float32)
QUERIES = RANDOM.normal(0, 1, (30, 24)).astype(np.float32)


def drawn(metric: Metric, *shape: int) -> np.ndarray:
    """Codes for a metric: for ``hamming`` of few values, so that many are equally far."""
    codes = RANDOM.normal(0, 1, (*shape, 24)).astype(np.float32)
    return codes.round() if metric == "hamming" else codes


def every_distance(codes: np.ndarray, queries: np.ndarray, metric: Metric) -> np.ndarray:
    """queries[Q,D], codes[N,D] -> [Q,N] by SciPy, whose hamming distance is a share of the values."""
    found = cdist(queries.astype(np.float64), codes.astype(np.float64), metric)
    return (found * codes.shape[1]).round() if metric == "hamming" else found


def ranked(distances: np.ndarray) -> np.ndarray:
    """The columns by distance; equal ones in the order of the columns."""
    return np.argsort(distances, -1, kind="stable")


def reference(codes: np.ndarray, queries: np.ndarray, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    fitted = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(codes.astype(np.float64))
    distances, rows = fitted.kneighbors(queries.astype(np.float64))
    return distances, rows


@pytest.mark.parametrize(("metric", "offset"), [("cosine", 0), ("euclidean", 0), ("euclidean", 1000)])
def test_neighbors_equal_scikit_learns(metric: Metric, offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_index, "DISTANCES_PER_BLOCK", 7 * len(CODES))  # several blocks of queries
    codes, queries = CODES + np.float32(offset), QUERIES + np.float32(offset)
    distances, rows = reference(codes, queries, 9, metric)
    found = search(codes, queries, 9, metric=metric)
    assert np.array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_a_query_is_not_its_own_neighbor(metric: Metric) -> None:
    rows, codes = [5, 17, 399], drawn(metric, 400)
    found = search(codes, codes[rows], 4, metric=metric, excluded=[[row] for row in rows])
    distances = every_distance(codes, codes[rows], metric)
    distances[range(3), rows] = np.inf
    assert np.array_equal(found.rows, ranked(distances)[:, :4])
    itself = search(codes, codes[rows], 1, metric=metric)
    assert itself.rows[:, 0].tolist() == rows and itself.distances.max() < 1e-9


def test_k_above_the_size_of_the_collection() -> None:
    found = search(CODES[:6], CODES[:2], 12, excluded=[[0], [1]])
    assert found.rows.shape == (2, 5) and sorted(found.rows[0].tolist()) == [1, 2, 3, 4, 5]


def test_a_code_of_zeros_is_at_cosine_distance_1_from_all() -> None:
    codes = np.vstack([CODES[:5], np.zeros((1, 24), np.float32)])
    found = search(codes, codes[5:], 6, metric="cosine")
    assert found.distances.tolist() == [[1.0] * 6] and found.rows[0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("metric", METRICS)
def test_the_nearest_view_of_the_collection_counts(metric: Metric) -> None:
    views, queries = drawn(metric, 50, 3), drawn(metric, 30)
    found = search(views, queries, 8, metric=metric)
    best = every_distance(views.reshape(-1, 24), queries, metric).reshape(30, 50, 3).min(2)
    assert np.array_equal(found.rows, ranked(best)[:, :8])
    np.testing.assert_allclose(found.distances, np.sort(best, 1)[:, :8], rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_the_nearest_view_of_the_query_counts(metric: Metric) -> None:
    codes, shown = drawn(metric, 400), drawn(metric, 10, 3)
    found = search(codes, shown, 6, metric=metric, excluded=[[3]] * 10)
    for views, rows, distances in zip(shown, found.rows, found.distances, strict=True):
        best = every_distance(codes, views, metric).min(0)
        best[3] = np.inf
        assert rows.tolist() == ranked(best)[:6].tolist()
        np.testing.assert_allclose(distances, np.sort(best)[:6], rtol=1e-6)


@pytest.mark.parametrize(("metric", "threshold"), [("cosine", 0.45), ("euclidean", 4.6)])
def test_duplicates_are_all_pairs_within_the_threshold(
    metric: Metric, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates_module, "DISTANCES_PER_BLOCK", 50 * len(CODES))
    codes = CODES.copy()
    codes[300] = codes[7]
    full = squareform(pdist(codes.astype(np.float64), metric))
    wanted = {(i, j) for i, j in np.argwhere(full <= threshold).tolist() if i < j}
    found = duplicates(codes, threshold, metric=metric)
    assert len(wanted) > 5 and {(i, j) for i, j in found.rows.tolist()} == wanted
    assert found.rows[0].tolist() == [7, 300] and found.distances[0] < 1e-9
    assert (np.diff(found.distances) >= 0).all()
    exact = duplicates(codes, 0, metric="euclidean")
    assert exact.rows.tolist() == [[7, 300]] and exact.groups() == [[7, 300]]


def test_groups_are_connected_by_pairs() -> None:
    pairs = Pairs(np.array([[1, 5], [5, 9], [2, 3], [7, 9], [11, 12]]), np.zeros(5))
    assert pairs.groups() == [[1, 5, 7, 9], [2, 3], [11, 12]]
    assert Pairs(np.empty((0, 2), np.int64), np.empty(0)).groups() == []


def test_too_many_pairs_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates_module, "MAX_PAIRS", 1000)
    with pytest.raises(ConfigError, match="threshold 2: finds more than 1,000 pairs"):
        duplicates(CODES, 2)


def test_unknown_indexes_and_metrics_are_rejected() -> None:
    with pytest.raises(ConfigError, match="index=tree: must be one of exact, hnsw"):
        open_index(CODES, "cosine", "tree")
    with pytest.raises(ConfigError, match="metric=l3: must be one of cosine, euclidean"):
        ExactIndex(CODES, "l3")  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_hnsw_finds_nearly_the_same_neighbors(metric: Metric, tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="the extra 'search' is not installed")
    kept = tmp_path / "graph"
    first = open_index(CODES, metric, "hnsw", kept).query(QUERIES, 5)
    exact = search(CODES, QUERIES, 5, metric=metric)
    shared = [len(set(a) & set(b)) for a, b in zip(first.rows.tolist(), exact.rows.tolist(), strict=True)]
    assert np.mean(shared) >= 0.95 * 5
    content = kept.read_bytes()
    again = open_index(CODES, metric, "hnsw", kept).query(QUERIES, 5)
    assert np.array_equal(again.rows, first.rows) and kept.read_bytes() == content
    open_index(CODES[:200], metric, "hnsw", kept)  # other codes: built again
    assert kept.read_bytes() != content
    kept.write_bytes(content[: len(content) // 2])
    assert np.array_equal(open_index(CODES, metric, "hnsw", kept).query(QUERIES, 5).rows, first.rows)
