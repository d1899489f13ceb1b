"""Clusters of known partitions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

from aerun.cli.organise import format_clusters
from aerun.errors import ConfigError
from aerun.use.clusters.cluster_files import pick_evenly
from aerun.use.clusters.cluster_table import cluster_rows
from aerun.use.clusters.clustering import METHODS, Clusters, Method, label_agreement, organise
from aerun.use.clusters.density import _most_copies
from aerun.use.clusters.kmeans import candidate_counts, silhouette
from aerun.use.collection.fingerprints import Fingerprints

RANDOM = np.random.default_rng(0)
SIZES = (40, 90, 60, 30)
CENTRES = RANDOM.normal(0, 4, (len(SIZES), 16))
LABELS = np.repeat(np.arange(len(SIZES)), SIZES)
CODES = (CENTRES[LABELS] + RANDOM.normal(0, 0.4, (len(LABELS), 16))).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_number_of_clusters_is_found(metric: str) -> None:
    found = organise(CODES, (2, 8), method="kmeans", metric=metric)  # type: ignore[arg-type]
    assert found.count == 4 == max(found.silhouettes, key=lambda count: found.silhouettes[count])
    assert list(found.silhouettes) == [2, 3, 4, 5, 6, 7, 8]
    assert adjusted_rand_score(LABELS, found.assigned) == 1
    assert np.bincount(found.assigned).tolist() == sorted(SIZES, reverse=True)


def test_distances_are_from_the_center() -> None:
    found = organise(CODES, 4, metric="euclidean")
    for number in range(4):
        rows = found.members(number)
        points = CODES[rows].astype(np.float64)
        wanted = np.sqrt(((points - points.mean(0)) ** 2).sum(1))
        np.testing.assert_allclose(found.distances[rows], wanted, rtol=1e-9)
        assert (np.diff(wanted) >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_clusters_are_reproducible(method: Method) -> None:
    first, second = (organise(CODES, None if method == "hdbscan" else 4, method=method) for _ in range(2))
    assert np.array_equal(first.assigned, second.assigned)


def test_hdbscan_leaves_out_distant_codes() -> None:
    codes = np.vstack([CODES, RANDOM.normal(0, 100, (3, 16)).astype(np.float32)])
    found = organise(codes, method="hdbscan", metric="euclidean")
    assert found.count == 4 and (found.assigned[-3:] == -1).all()
    assert adjusted_rand_score(LABELS, found.assigned[:-3]) > 0.95


def test_large_collections_are_clustered_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("kmeans", "density"):
        monkeypatch.setattr(f"aerun.use.clusters.{module}.MAX_FITTED_CODES", 150)
    monkeypatch.setattr("aerun.use.clusters.mixture.MAX_FITTED", 150)
    for found in (
        organise(CODES, metric="euclidean"),
        organise(CODES, 4, method="kmeans", metric="euclidean"),
        organise(CODES, method="hdbscan", metric="euclidean", smallest=8),
    ):
        assert adjusted_rand_score(LABELS, found.assigned) > 0.95


def test_the_silhouette_equals_scikit_learns() -> None:
    assigned = LABELS % 3
    points = CODES.astype(np.float64)
    assert silhouette(points, assigned) == pytest.approx(silhouette_score(points, assigned))
    assert silhouette(points, np.zeros(len(points), int)) == -1


def test_label_agreement_of_known_partitions() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert label_agreement(np.array([1, 1, 1, 0, 0, 0]), labels) == {"ari": 1.0, "nmi": pytest.approx(1.0)}
    # Pairs together in both 2, in one 6 and 3, of 15: (2 - 18/15) / (4.5 - 18/15).
    found = label_agreement(np.array([0, 0, 1, 1, 2, 2]), labels)
    assert found["ari"] == pytest.approx((2 - 18 / 15) / (4.5 - 18 / 15))
    # I = ln 2 - (1/3) ln 2, over the mean of ln 2 and ln 3.
    assert found["nmi"] == pytest.approx((2 / 3) * np.log(2) / ((np.log(2) + np.log(3)) / 2))
    assert label_agreement(np.array([1, 1, 1, 0, 0, 0, 0]), np.array([*labels, -1]))["ari"] == 1


def test_candidate_counts() -> None:
    assert candidate_counts(2, 12) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert candidate_counts(20, 32) == [20, 22, 25, 28, 32]


def test_invalid_numbers_of_clusters_are_rejected() -> None:
    with pytest.raises(ConfigError, match="clusters=400: must be between 1 and 220, the number of distinct codes"):
        organise(CODES, 400)
    same = np.ones((9, 3), np.float32)
    for method in ("mixture", "kmeans"):
        assert organise(same, method=method).count == organise(same, 1, method=method).count == 1
    with pytest.raises(ConfigError, match="clusters=2: must be between 1 and 1"):
        organise(same, 2)
    with pytest.raises(ConfigError, match="smallest=500: must be between 2 and 220"):
        organise(CODES, method="hdbscan", smallest=500)
    with pytest.raises(ConfigError, match="one image has one cluster: use clusters=1"):
        organise(CODES[:1])
    assert organise(CODES[:1], 1).count == 1


def test_options_of_the_other_method_are_rejected() -> None:
    with pytest.raises(ConfigError, match="clusters=2-8: hdbscan finds the number itself"):
        organise(CODES, (2, 8), method="hdbscan")
    with pytest.raises(ConfigError, match="smallest=8: applies only to hdbscan"):
        organise(CODES, smallest=8)


@pytest.mark.parametrize(
    ("heights", "beyond"),
    [
        ([0.9, 0.1, 0.3, 0.2, 0.4, 0.35, 0.8], 6),  # the last number tried is not a maximum: the next one may be higher
        ([0.9, 0.8, 0.7], None),
        ([0.5, 0.9, 0.2, 0.4, 0.1], None),  # the best is not the smallest number
        ([], None),
    ],
)
def test_the_best_local_maximum_beyond_the_fewest_clusters(heights: list[float], beyond: int | None) -> None:
    assert Clusters(np.zeros(1, int), np.zeros(1), 1, dict(enumerate(heights, 2))).local_maximum == beyond


def test_images_in_no_cluster_have_no_distance() -> None:
    prints = Fingerprints(["a", "b", "c"], CODES[:3], "")
    rows = cluster_rows(prints, Clusters(np.array([0, -1, 0]), np.array([0.5, 0, 0.25]), 1, {}))
    assert [row["distance"] for row in rows] == [0.5, None, 0.25]
    assert "1 cluster (0: 2, none: 1)" in format_clusters(prints, Clusters(np.array([0, -1, 0]), np.zeros(3), 1, {}))
    assert "try a smaller --smallest" in format_clusters(prints, Clusters(np.full(3, -1), np.zeros(3), 0, {}))
    found = Clusters(np.zeros(1, int), np.zeros(1), 2, {2: 0.3, 3: 0.1, 4: 0.136, 5: 0.1})
    line = "a local maximum: 4 clusters, 0.136; --clusters 4"
    assert line in format_clusters(Fingerprints(["a"], CODES[:1], ""), found).splitlines()


@pytest.mark.parametrize(("count", "most"), [(1, 48), (48, 48), (49, 48), (1000, 48), (0, 12)])
def test_a_sheet_shows_evenly_spaced_images(count: int, most: int) -> None:
    rows = np.arange(count) * 3 + 7
    shown = pick_evenly(rows, most)
    assert len(shown) == len(set(shown)) == min(count, most) and set(shown) <= set(rows.tolist())
    if count > 1:
        assert (shown[0], shown[-1]) == (rows[0], rows[-1])
        assert np.ptp(np.diff(shown)) <= 3  # steps of the order differ by one place at most


def test_copies_of_one_image_are_a_cluster() -> None:
    """HDBSCAN needs a second cluster; without copies there is still none."""
    random = np.random.default_rng(0)
    others = random.normal(0, 1, (9, 64)).astype(np.float32)
    copies = np.tile(random.normal(0, 1, (1, 64)), (300, 1)).astype(np.float32)
    found = organise(np.concatenate([others[:4], copies, others[4:]]), method="hdbscan")
    assert found.count == 1 and (found.assigned[4:304] == 0).all() and (found.assigned >= 0).sum() == 300
    noise = random.normal(0, 1, (309, 64)).astype(np.float32)
    assert organise(noise, method="hdbscan").count == 0
    assert (_most_copies(np.concatenate([noise, copies[:4]]), 5) == -1).all()
    assert np.flatnonzero(_most_copies(np.concatenate([noise, copies[:5]]), 5) == 0).tolist() == [*range(309, 314)]
