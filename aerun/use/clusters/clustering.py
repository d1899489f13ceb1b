"""Clusters of codes, how many there are, and how well they agree with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from aerun.base.progress_bar import progress_bar
from aerun.errors import ConfigError
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.search.vector_index import METRICS, Metric

Method = Literal["kmeans", "hdbscan"]
METHODS: tuple[Method, ...] = get_args(Method)
MAX_FITTED_CODES = 10_000  # codes beyond which a sample decides
MAX_SILHOUETTE_CODES = 2_000  # codes whose silhouettes are averaged
HDBSCAN_DIMENSIONS = 10  # that HDBSCAN sees: densities mean little in many
DEFAULT_COUNTS = (2, 32)  # the numbers of clusters that k-means tries, unless told


@dataclass(frozen=True)
class Clusters:
    """``assigned`` [N]: a cluster's number, the largest cluster first, -1 for what HDBSCAN finds in none.

    ``distances`` [N] from the cluster's centre, of what was clustered (codes of length 1 for ``cosine``); 0 in none.
    ``silhouettes``: the mean silhouette for each number of clusters that was tried.
    """

    assigned: np.ndarray
    distances: np.ndarray
    count: int
    silhouettes: dict[int, float]

    @property
    def local_maximum(self) -> int | None:
        """Where the fewest clusters that were tried are the best: the best local maximum of the silhouettes beyond.

        Silhouettes favour few clusters. None if another number is the best, or there is no such maximum.
        """
        tried = sorted(self.silhouettes)
        if not tried or self.silhouettes[tried[0]] < max(self.silhouettes.values()):
            return None
        height = [self.silhouettes[count] for count in tried]
        tops = [i for i in range(1, len(tried) - 1) if height[i - 1] < height[i] > height[i + 1]]
        return tried[max(tops, key=lambda i: height[i])] if tops else None

    def distance(self, row: int) -> float | None:
        """Of a picture from its cluster's centre, to six decimals; None in no cluster."""
        return round(float(self.distances[row]), 6) if self.assigned[row] >= 0 else None

    def members(self, number: int) -> np.ndarray:
        """The rows of a cluster, nearest to its centre first."""
        rows = np.flatnonzero(self.assigned == number)
        return rows[np.argsort(self.distances[rows], kind="stable")]


def organise(
    collection: Fingerprints | np.ndarray,
    clusters: int | tuple[int, int] | None = None,
    *,
    method: Method = "kmeans",
    metric: Metric = "cosine",
    smallest: int | None = None,
    seed: int = 0,
) -> Clusters:
    """Clusters of codes [N,D]: so many, or as many between two numbers (2 and 32) as have the largest mean
    silhouette.

    ``kmeans`` in the codes as they are, or, for ``cosine``, scaled to length 1; ``hdbscan`` in their first 10 principal
    components, where it finds the number itself and leaves out what is in no dense region; ``smallest`` is its least
    size of a cluster (N / 200, at least 5). Beyond 10,000 codes a sample decides, drawn by ``seed``; silhouettes are of
    at most 2,000. ConfigError for numbers that these codes do not allow.
    """
    codes = collection.whole_codes if isinstance(collection, Fingerprints) else collection
    if method not in METHODS:
        raise ConfigError(f"method={method}: must be one of {', '.join(METHODS)}")
    if metric not in METRICS:
        raise ConfigError(f"metric={metric}: must be one of {', '.join(METRICS)}")
    if method == "hdbscan" and clusters is not None:
        raise ConfigError(
            f"clusters={_format_counts(clusters)}: hdbscan finds the number itself; leave it out, or take kmeans"
        )
    if method == "kmeans" and smallest is not None:
        raise ConfigError(f"smallest={smallest}: is of hdbscan; leave it out, or take method=hdbscan")
    if len(codes) == 1 and clusters != 1:
        raise ConfigError("one picture: there are no clusters to find; clusters=1 takes it as one")
    points = codes.astype(np.float64)
    if metric == "cosine":
        length = np.linalg.norm(points, axis=1, keepdims=True)
        points = points / np.where(length > 0, length, 1)
    if method == "hdbscan":
        return _fit_hdbscan(points, smallest, seed)
    different = len(np.unique(points, axis=0))
    if isinstance(clusters, int):
        _check_count(clusters, different)
        return _sort_by_size(_fit_kmeans(points, clusters, seed), points, {})
    least, most = clusters or DEFAULT_COUNTS
    if different == 1:
        raise ConfigError(
            f"all {len(points):,} pictures have the same code: there are no clusters to find; clusters=1 takes them as "
            "one"
        )
    _check_count(least, different)
    silhouettes, best = dict[int, float](), None
    counts = candidate_counts(least, min(most, different - 1))
    with progress_bar("numbers of clusters", len(counts)) as bar:
        for count in counts:
            assigned = _fit_kmeans(points, count, seed)
            silhouettes[count] = silhouette(points, assigned, seed)
            if best is None or silhouettes[count] > max(list(silhouettes.values())[:-1]):
                best = assigned
            bar.update()
    if best is None:
        raise ConfigError(f"clusters={least}-{most}: too many for {different} different codes; name a number")
    return _sort_by_size(best, points, silhouettes)


def candidate_counts(least: int, most: int) -> list[int]:
    """Numbers of clusters that are tried: all up to 10, then each a seventh larger than the one before."""
    result, count = list[int](), least
    while count <= most:
        result.append(count)
        count += max(1, count // 7) if count >= 10 else 1
    return result


def silhouette(points: np.ndarray, assigned: np.ndarray, seed: int = 0) -> float:
    """The mean over a sample of points; -1 where all of it is in one cluster."""
    from sklearn.metrics import silhouette_score

    rows = np.random.default_rng(seed).permutation(len(points))[:MAX_SILHOUETTE_CODES]
    labels = assigned[rows]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return -1.0
    return float(silhouette_score(points[rows], labels))


def label_agreement(assigned: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Adjusted Rand index and normalised mutual information between clusters and labels; what is in no cluster is one
    of its own, and pictures without a label (-1) do not count."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    known = labels >= 0
    return {
        "ari": float(adjusted_rand_score(labels[known], assigned[known])),
        "nmi": float(normalized_mutual_info_score(labels[known], assigned[known])),
    }


def _format_counts(clusters: int | tuple[int, int]) -> str:
    return str(clusters) if isinstance(clusters, int) else "{}-{}".format(*clusters)


def _check_count(count: int, different: int) -> None:
    if not 1 <= count <= different:
        raise ConfigError(f"clusters={count}: must be between 1 and {different}, the number of different codes")


def _fit_kmeans(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    rows = (
        np.random.default_rng(seed).permutation(len(points))[:MAX_FITTED_CODES]
        if len(points) > MAX_FITTED_CODES
        else slice(None)
    )
    fitted = KMeans(count, n_init=4, random_state=seed).fit(points[rows])
    return np.asarray(fitted.predict(points))


def _fit_hdbscan(points: np.ndarray, smallest: int | None, seed: int) -> Clusters:
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    size = min(len(points), max(5, len(points) // 200)) if smallest is None else smallest
    if not 2 <= size <= len(points):
        raise ConfigError(f"smallest={size}: must be between 2 and {len(points)}, the number of pictures")
    dimensions = min(HDBSCAN_DIMENSIONS, *points.shape)
    reduced = PCA(dimensions, svd_solver="full").fit_transform(points) if dimensions < points.shape[1] else points
    if len(points) <= MAX_FITTED_CODES:
        assigned = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(reduced)
    else:
        rows = np.random.default_rng(seed).permutation(len(points))[:MAX_FITTED_CODES]
        part = HDBSCAN(min_cluster_size=max(2, size * MAX_FITTED_CODES // len(points)), copy=True).fit_predict(
            reduced[rows]
        )
        assigned = KNeighborsClassifier(1).fit(reduced[rows], part).predict(reduced)
    return _sort_by_size(assigned, points, {})


def _sort_by_size(assigned: np.ndarray, points: np.ndarray, silhouettes: dict[int, float]) -> Clusters:
    """Renumbered by size, with distances from the mean of each cluster."""
    numbers, sizes = np.unique(assigned[assigned >= 0], return_counts=True)
    numbers = numbers[np.argsort(-sizes, kind="stable")]
    new, distances = np.full(len(points), -1), np.zeros(len(points))
    for number, old in enumerate(numbers):
        rows = assigned == old
        new[rows] = number
        distances[rows] = np.linalg.norm(points[rows] - points[rows].mean(0), axis=1)
    return Clusters(new, distances, len(numbers), silhouettes)


def cluster_rows(fingerprints: Fingerprints, found: Clusters) -> list[dict[str, Any]]:
    """A row for each picture: its file, cluster and distance (None in no cluster), and its label, where there are
    labels."""
    return [
        {"file": name, "cluster": int(found.assigned[row]), "distance": found.distance(row)}
        | ({"label": fingerprints.label(row)} if fingerprints.labels is not None else {})
        for row, name in enumerate(fingerprints.names)
    ]
