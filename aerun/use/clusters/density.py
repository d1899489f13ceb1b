"""Clusters as dense regions: HDBSCAN, which finds their number itself."""

from __future__ import annotations

import numpy as np

from aerun.errors import ConfigError
from aerun.use.clusters.kmeans import MAX_FITTED_CODES, sample_rows

HDBSCAN_DIMENSIONS = 10  # densities mean little in many dimensions


def fit_hdbscan(points: np.ndarray, smallest: int | None, seed: int) -> np.ndarray:
    """The cluster of each of points[N,D], or -1, by HDBSCAN of their first 10 principal components."""
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
        sample = reduced[sample_rows(total, seed, MAX_FITTED_CODES)]
        size = max(2, size * MAX_FITTED_CODES // total)
        part = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(sample)
        assigned = KNeighborsClassifier(1).fit(sample, part).predict(reduced)
    return _most_copies(points, least) if (assigned < 0).all() else np.asarray(assigned)


def _most_copies(points: np.ndarray, size: int) -> np.ndarray:
    """Copies of the most frequent code as the only cluster, if they are at least ``size``: HDBSCAN needs a second."""
    _, codes, counts = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    return np.where((codes.reshape(-1) == counts.argmax()) & (counts.max() >= size), 0, -1)
