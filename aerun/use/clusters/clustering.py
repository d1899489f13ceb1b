"""Clusters of codes: k-means with the number chosen by silhouette, or HDBSCAN."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from aerun.base.progress_bar import progress_bar
from aerun.errors import ConfigError
from aerun.use.collection.fingerprint_files import as_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.search.vector_index import METRICS, Metric, check_codes

if TYPE_CHECKING:
    from aerun.use.collection.fingerprint_files import Collection
    from aerun.use.search.vector_index import Codes

Method = Literal["kmeans", "hdbscan"]
METHODS: tuple[Method, ...] = get_args(Method)
MAX_FITTED_CODES = 10_000  # larger collections are clustered by a sample
MAX_SILHOUETTE_CODES = 2_000
HDBSCAN_DIMENSIONS = 10  # densities mean little in many dimensions
DEFAULT_COUNTS = (2, 32)  # least and most clusters that k-means tries


@dataclass(frozen=True)
class Clusters:
    """``assigned`` [N]: numbers of clusters, 0 for the largest, -1 for codes that HDBSCAN leaves out.

    ``distances`` [N]: from the cluster's center, for ``cosine`` between codes of length 1; 0 for codes left out.
    ``silhouettes``: the mean silhouette of each number of clusters that was tried.
    """

    assigned: np.ndarray
    distances: np.ndarray
    count: int
    silhouettes: dict[int, float]

    @property
    def local_maximum(self) -> int | None:
        """The best local maximum of the silhouettes, if the smallest number tried has the best of all.

        Silhouettes favor few clusters. None if another number is best, or if there is no such maximum.
        """
        tried = sorted(self.silhouettes)
        if not tried or self.silhouettes[tried[0]] < max(self.silhouettes.values()):
            return None
        height = [self.silhouettes[count] for count in tried]
        maxima = [i for i in range(1, len(tried) - 1) if height[i - 1] < height[i] > height[i + 1]]
        return tried[max(maxima, key=lambda i: height[i])] if maxima else None

    def distance(self, row: int) -> float | None:
        """Distance of an image from its cluster's center, to six decimals; None if it is in no cluster."""
        return round(float(self.distances[row]), 6) if self.assigned[row] >= 0 else None

    def members(self, number: int) -> np.ndarray:
        """The rows of a cluster, nearest to the center first."""
        rows = np.flatnonzero(self.assigned == number)
        return rows[np.argsort(self.distances[rows], kind="stable")]


def organise(
    collection: Collection | Codes,
    clusters: int | tuple[int, int] | None = None,
    *,
    method: Method = "kmeans",
    metric: Metric = "cosine",
    smallest: int | None = None,
    seed: int = 0,
) -> Clusters:
    """Cluster a collection (fingerprints, their file, or codes [N,D]) into ``clusters``: a number, or a range (default
    2 to 32) whose best silhouette decides.

    ``kmeans`` clusters the codes, scaled to length 1 for ``cosine``. ``hdbscan`` clusters their first 10 principal
    components; it finds the number itself, leaves out codes in no dense region, and takes ``smallest``, the least size
    of a cluster (default N / 200, at least 5). Above 10,000 codes a random sample is clustered and the others are
    assigned; silhouettes are of at most 2,000 codes. Of several views of an image, the whole image counts. ConfigError
    for values that do not fit the codes, DataError for codes of another shape or that are not finite.
    """
    if isinstance(collection, Fingerprints | str | os.PathLike):
        collection = as_fingerprints(collection).whole_codes
    codes = check_codes(collection, "the collection")
    codes = codes if codes.ndim == 2 else codes[:, 0]
    _check_options(len(codes), clusters, method, metric, smallest)
    points = codes.astype(np.float64)
    if metric == "cosine":
        length = np.linalg.norm(points, axis=1, keepdims=True)
        points = points / np.where(length > 0, length, 1)
    if method == "hdbscan":
        return _fit_hdbscan(points, smallest, seed)
    distinct = len(np.unique(points, axis=0))
    if isinstance(clusters, int):
        _check_count(clusters, distinct)
        return _sort_by_size(_fit_kmeans(points, clusters, seed), points, {})
    if distinct == 1:
        raise ConfigError(f"all {len(points):,} images have the same code: use clusters=1")
    return _choose_count(points, clusters or DEFAULT_COUNTS, distinct, seed)


def _check_options(
    total: int, clusters: int | tuple[int, int] | None, method: Method, metric: Metric, smallest: int | None
) -> None:
    if method not in METHODS:
        raise ConfigError(f"method={method}: must be one of {', '.join(METHODS)}")
    if metric not in METRICS:
        raise ConfigError(f"metric={metric}: must be one of {', '.join(METRICS)}")
    if method == "hdbscan" and clusters is not None:
        text = clusters if isinstance(clusters, int) else "{}-{}".format(*clusters)
        raise ConfigError(f"clusters={text}: hdbscan finds the number itself; drop it, or use method=kmeans")
    if method == "kmeans" and smallest is not None:
        raise ConfigError(f"smallest={smallest}: applies only to hdbscan; drop it, or use method=hdbscan")
    if total == 1 and clusters != 1:
        raise ConfigError("a collection of one image has one cluster: use clusters=1")


def _choose_count(points: np.ndarray, counts: tuple[int, int], distinct: int, seed: int) -> Clusters:
    """K-means with the number of clusters that has the best mean silhouette."""
    least, most = counts
    _check_count(least, distinct)
    silhouettes, best = dict[int, float](), None
    tried = candidate_counts(least, min(most, distinct - 1))
    with progress_bar("numbers of clusters", len(tried)) as bar:
        for count in tried:
            assigned = _fit_kmeans(points, count, seed)
            value = silhouette(points, assigned, seed)
            if best is None or value > max(silhouettes.values()):
                best = assigned
            silhouettes[count] = value
            bar.update()
    if best is None:
        raise ConfigError(f"clusters={least}-{most}: too many for {distinct} distinct codes; choose a number")
    return _sort_by_size(best, points, silhouettes)


def candidate_counts(least: int, most: int) -> list[int]:
    """Numbers of clusters to try: all up to 10, then steps of a seventh."""
    result, count = list[int](), least
    while count <= most:
        result.append(count)
        count += max(1, count // 7) if count >= 10 else 1
    return result


def silhouette(points: np.ndarray, assigned: np.ndarray, seed: int = 0) -> float:
    """The mean silhouette of a random sample; -1 if all of it is in one cluster."""
    from sklearn.metrics import silhouette_score

    rows = np.random.default_rng(seed).permutation(len(points))[:MAX_SILHOUETTE_CODES]
    labels = assigned[rows]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return -1.0
    return float(silhouette_score(points[rows], labels))


def label_agreement(assigned: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Adjusted Rand index ``ari`` and normalized mutual information ``nmi`` of clusters and labels.

    Codes in no cluster count as a cluster of their own; images without a label (-1) are left out.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    known = labels >= 0
    return {
        "ari": float(adjusted_rand_score(labels[known], assigned[known])),
        "nmi": float(normalized_mutual_info_score(labels[known], assigned[known])),
    }


def _check_count(count: int, distinct: int) -> None:
    if not 1 <= count <= distinct:
        raise ConfigError(f"clusters={count}: must be between 1 and {distinct}, the number of distinct codes")


def _fit_kmeans(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    fitted = KMeans(count, n_init=4, random_state=seed).fit(points[_sample_rows(len(points), seed)])
    return np.asarray(fitted.predict(points))


def _sample_rows(total: int, seed: int) -> np.ndarray | slice:
    if total <= MAX_FITTED_CODES:
        return slice(None)
    return np.random.default_rng(seed).permutation(total)[:MAX_FITTED_CODES]


def _fit_hdbscan(points: np.ndarray, smallest: int | None, seed: int) -> Clusters:
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    total = len(points)
    size = min(total, max(5, total // 200)) if smallest is None else smallest
    if not 2 <= size <= total:
        raise ConfigError(f"smallest={size}: must be between 2 and {total}, the number of images")
    least = size
    dimensions = min(HDBSCAN_DIMENSIONS, *points.shape)
    reduced = points
    if dimensions < points.shape[1]:  # equal codes are transformed once, so that rounding separates no copies
        distinct, places = np.unique(points, axis=0, return_inverse=True)
        reduced = PCA(dimensions, svd_solver="full").fit(points).transform(distinct)[places.reshape(-1)]
    if total <= MAX_FITTED_CODES:
        assigned = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(reduced)
    else:
        sample = reduced[_sample_rows(total, seed)]
        size = max(2, size * MAX_FITTED_CODES // total)
        part = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(sample)
        assigned = KNeighborsClassifier(1).fit(sample, part).predict(reduced)
    if (assigned < 0).all():
        assigned = _most_copies(points, least)
    return _sort_by_size(assigned, points, {})


def _most_copies(points: np.ndarray, size: int) -> np.ndarray:
    """Copies of the most frequent code as the only cluster, if they are at least ``size``: HDBSCAN needs a second."""
    _, codes, counts = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    return np.where((codes.reshape(-1) == counts.argmax()) & (counts.max() >= size), 0, -1)


def _sort_by_size(assigned: np.ndarray, points: np.ndarray, silhouettes: dict[int, float]) -> Clusters:
    """Number the clusters by size, and measure distances from the mean of each cluster."""
    numbers, sizes = np.unique(assigned[assigned >= 0], return_counts=True)
    numbers = numbers[np.argsort(-sizes, kind="stable")]
    new, distances = np.full(len(points), -1), np.zeros(len(points))
    for number, old in enumerate(numbers):
        rows = assigned == old
        new[rows] = number
        distances[rows] = np.linalg.norm(points[rows] - points[rows].mean(0), axis=1)
    return Clusters(new, distances, len(numbers), silhouettes)


def cluster_rows(fingerprints: Fingerprints, clusters: Clusters) -> list[dict[str, Any]]:
    """For each image: ``file``, ``cluster``, ``distance`` (None in no cluster), and ``label`` if there are labels."""
    return [
        {"file": name, "cluster": int(clusters.assigned[row]), "distance": clusters.distance(row)}
        | ({"label": fingerprints.label(row)} if fingerprints.labels is not None else {})
        for row, name in enumerate(fingerprints.names)
    ]
