"""K-means, with the number of clusters chosen by silhouette."""

from __future__ import annotations

import numpy as np

from aerun.base.progress_bar import progress_bar
from aerun.errors import ConfigError

MAX_FITTED_CODES = 10_000  # larger collections are clustered by a sample
MAX_SILHOUETTE_CODES = 2_000
DEFAULT_COUNTS = (2, 32)  # least and most clusters


def choose_kmeans(
    points: np.ndarray, counts: tuple[int, int], distinct: int, seed: int
) -> tuple[np.ndarray, dict[int, float]]:
    """The cluster of each of points[N,D], with the number that has the best mean silhouette, and all silhouettes."""
    least, most = counts
    silhouettes, best = dict[int, float](), None
    tried = candidate_counts(least, min(most, distinct - 1))
    with progress_bar("numbers of clusters", len(tried)) as bar:
        for count in tried:
            assigned = fit_kmeans(points, count, seed)
            value = silhouette(points, assigned, seed)
            if best is None or value > max(silhouettes.values()):
                best = assigned
            silhouettes[count] = value
            bar.update()
    if best is None:
        raise ConfigError(f"clusters={least}-{most}: too many for {distinct} distinct codes; choose a number")
    return best, silhouettes


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


def fit_kmeans(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The cluster of each of points[N,D]; above 10,000 a random sample is clustered, and the others are assigned."""
    from sklearn.cluster import KMeans

    fitted = KMeans(count, n_init=4, random_state=seed).fit(points[sample_rows(len(points), seed, MAX_FITTED_CODES)])
    return np.asarray(fitted.predict(points))


def sample_rows(total: int, seed: int, most: int) -> np.ndarray | slice:
    """All rows, or ``most`` of them at random."""
    return slice(None) if total <= most else np.random.default_rng(seed).permutation(total)[:most]
