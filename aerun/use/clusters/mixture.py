"""Clusters as Gaussians, whose number the Bayesian information criterion chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aerun.base.progress_bar import progress_bar
from aerun.use.clusters.kmeans import candidate_counts, sample_rows

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

DEFAULT_COUNTS = (1, 32)
MAX_FITTED = 5_000
DIMENSIONS_PER_ROOT, MAX_DIMENSIONS = 0.4, 20  # principal components: 0.4 sqrt(points), from 2 to 20
SMALLEST_VARIANCE = 1e-3  # of a Gaussian in any direction, as a share of the mean variance of a component
STARTS = 2
MAX_WORSE = 5  # numbers of clusters in a row without a better criterion, before the search ends
ROWS_PER_CHUNK = 1 << 16


def fit_mixture(
    points: np.ndarray, counts: int | tuple[int, int] | None, seed: int
) -> tuple[np.ndarray, dict[int, float]]:
    """points [N,D] -> the cluster of each [N], and for each number of clusters tried its criterion per point.

    A mixture of Gaussians with full covariances on the first principal components, at most 20 and 0.4 sqrt(N). The
    number has the smallest BIC = p ln N - 2 ln L, for p parameters and the likelihood L (Schwarz 1978; Fraley and
    Raftery 2002), which can be 1. Above 5,000 points a random sample is fitted.
    """
    from sklearn.decomposition import PCA

    sample = points[sample_rows(len(points), seed, MAX_FITTED)]
    total = len(sample)
    if counts == 1 or not np.ptp(sample, axis=0).any():
        return np.zeros(len(points), int), {}
    dimensions = int(np.clip(round(DIMENSIONS_PER_ROOT * total**0.5), 2, MAX_DIMENSIONS))
    reduction = PCA(min(dimensions, *sample.shape), svd_solver="full").fit(sample)
    reduced = reduction.transform(sample)
    if isinstance(counts, int):
        best, scores = _fit(reduced, counts, seed), dict[int, float]()
    else:
        least, most = counts or (DEFAULT_COUNTS[0], min(DEFAULT_COUNTS[1], total // (2 * reduced.shape[1] + 2)))
        best, scores = _choose(reduced, candidate_counts(least, max(least, min(most, total))), seed)
    starts = range(0, len(points), ROWS_PER_CHUNK)
    found = [best.predict(reduction.transform(points[start : start + ROWS_PER_CHUNK])) for start in starts]
    return np.concatenate(found), scores


def _choose(reduced: np.ndarray, tried: list[int], seed: int) -> tuple[GaussianMixture, dict[int, float]]:
    scores, best = dict[int, float](), None
    with progress_bar("numbers of clusters", len(tried)) as bar:
        for count in tried:
            fitted = _fit(reduced, count, seed)
            value = float(fitted.bic(reduced)) / len(reduced)
            if best is None or value < min(scores.values()):
                best = fitted
            scores[count] = value
            bar.update()
            if len(scores) > MAX_WORSE and min(list(scores.values())[-MAX_WORSE:]) > min(scores.values()):
                break
    assert best is not None
    return best, scores


def _fit(reduced: np.ndarray, count: int, seed: int) -> GaussianMixture:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    floor = max(SMALLEST_VARIANCE * float(reduced.var()), float(np.finfo(np.float64).tiny) ** 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after 100 steps the clusters hardly change
        return GaussianMixture(count, n_init=STARTS, reg_covar=floor, random_state=seed).fit(reduced)
