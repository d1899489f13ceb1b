"""Clusters of a collection: Gaussians, k-means or dense regions, of distances by code, color and texture."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from aerun.errors import ConfigError
from aerun.use.clusters.cluster_names import name_clusters
from aerun.use.clusters.density import fit_hdbscan
from aerun.use.clusters.fused_points import fused_points
from aerun.use.clusters.kmeans import DEFAULT_COUNTS, MAX_FITTED_CODES, choose_kmeans, fit_kmeans, sample_rows
from aerun.use.clusters.mixture import fit_mixture
from aerun.use.collection.fingerprint_files import as_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.search.vector_index import METRICS, Metric

if TYPE_CHECKING:
    from aerun.use.collection.fingerprint_files import Collection
    from aerun.use.search.vector_index import Codes

Method = Literal["mixture", "kmeans", "hdbscan"]
METHODS: tuple[Method, ...] = get_args(Method)
SMALLEST_SPLIT = 40  # pictures of a cluster that a second level may split
NAMED_BY = 2_000  # of the most typical pictures of a cluster


@dataclass(frozen=True)
class Clusters:
    """``assigned`` [N]: numbers of clusters, 0 for the largest, -1 for codes that HDBSCAN leaves out.

    ``distances`` [N]: from the cluster's center; 0 for codes left out. ``silhouettes``: the mean silhouette of each
    number of clusters that k-means tried; ``criteria``: the BIC per picture of each that the mixture tried.
    ``compared``: what distances are of. ``names``: words for each cluster, none for codes without names. With two
    levels ``parts`` [N] are numbers within the cluster, -1 where it is not split, and ``part_names`` their words.
    """

    assigned: np.ndarray
    distances: np.ndarray
    count: int
    silhouettes: dict[int, float]
    criteria: dict[int, float] = field(default_factory=dict)
    compared: tuple[str, ...] = ("code",)
    names: tuple[str, ...] = ()
    parts: np.ndarray | None = None
    part_names: dict[int, tuple[str, ...]] = field(default_factory=dict)

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

    def members(self, number: int, part: int | None = None) -> np.ndarray:
        """The rows of a cluster, or of one of its parts, nearest to the center first."""
        chosen = self.assigned == number
        if part is not None and self.parts is not None:
            chosen &= self.parts == part
        rows = np.flatnonzero(chosen)
        return rows[np.argsort(self.distances[rows], kind="stable")]


def organise(
    collection: Collection | Codes,
    clusters: int | tuple[int, int] | None = None,
    *,
    by: str | None = None,
    method: Method = "mixture",
    metric: Metric = "cosine",
    smallest: int | None = None,
    levels: int = 1,
    seed: int = 0,
) -> Clusters:
    """Cluster a collection (fingerprints, their file, or codes [N,D]) into ``clusters``: a number, or a range.

    ``by``: what is compared, some of ``code,color,texture,size``, by default all that is stored (``fused_points``).
    ``mixture``: Gaussians; of a range (default 1 to 32) the smallest Bayesian information criterion decides
    (``fit_mixture``). ``kmeans``: of a range (default 2 to 32) the best mean silhouette. ``hdbscan`` clusters the first
    10 principal components; it finds the number itself, leaves out pictures in no dense region, and takes ``smallest``,
    the least size of a cluster (default N / 200, at least 5). Large collections are clustered by a random sample, and
    the others assigned. ``levels`` 2 splits each cluster of at least 40 again by ``mixture``. ConfigError for values
    that do not fit the codes, DataError for codes of another shape or that are not finite.
    """
    prints = as_fingerprints(collection) if isinstance(collection, Fingerprints | str | os.PathLike) else None
    points, compared = fused_points(collection if prints is None else prints, by, metric)
    _check_options(len(points), clusters, method, metric, smallest, levels)
    silhouettes, criteria = dict[int, float](), dict[int, float]()
    if method == "hdbscan":
        assigned = fit_hdbscan(points, smallest, seed)
    else:
        distinct = len(np.unique(points[sample_rows(len(points), seed, MAX_FITTED_CODES)], axis=0))
        if (fewest := clusters if isinstance(clusters, int) else clusters and clusters[0]) is not None:
            _check_count(fewest, distinct)
        if distinct == 1:
            assigned = np.zeros(len(points), int)
        elif method == "mixture":
            assigned, criteria = fit_mixture(points, clusters, seed)
        elif isinstance(clusters, int):
            assigned = fit_kmeans(points, clusters, seed)
        else:
            assigned, silhouettes = choose_kmeans(points, clusters or DEFAULT_COUNTS, distinct, seed)
    assigned, distances = _sort_by_size(assigned, points)
    found = Clusters(assigned, distances, int(assigned.max(initial=-1)) + 1, silhouettes, criteria, compared)
    if levels == 2:
        found = _split(found, points, seed)
    return found if prints is None else _with_names(found, prints)


def _split(clusters: Clusters, points: np.ndarray, seed: int) -> Clusters:
    """With the parts of each cluster that has some."""
    parts = np.full(len(points), -1)
    for number in range(clusters.count):
        rows = np.flatnonzero(clusters.assigned == number)
        if len(rows) >= SMALLEST_SPLIT and np.ptp(points[rows], axis=0).any():
            found, _ = _sort_by_size(fit_mixture(points[rows], None, seed)[0], points[rows])
            if found.max() > 0:
                parts[rows] = found
    return dataclasses.replace(clusters, parts=parts)


def _with_names(clusters: Clusters, prints: Fingerprints) -> Clusters:
    part_names = dict[int, tuple[str, ...]]()
    for number in range(clusters.count if clusters.parts is not None else 0):
        assert clusters.parts is not None
        count = int(clusters.parts[clusters.assigned == number].max()) + 1
        if count:
            part_names[number] = _words(prints, [clusters.members(number, part) for part in range(count)])
    names = _words(prints, [clusters.members(number) for number in range(clusters.count)])
    return dataclasses.replace(clusters, names=names, part_names=part_names)


def _words(prints: Fingerprints, members: list[np.ndarray]) -> tuple[str, ...]:
    """Of clusters whose rows are sorted from the most typical one."""
    typical = [rows[:NAMED_BY] for rows in members]
    assigned = np.repeat(np.arange(len(typical)), [len(rows) for rows in typical])
    return name_clusters(prints, assigned, np.concatenate([np.empty(0, int), *typical]))


def _check_options(
    total: int,
    clusters: int | tuple[int, int] | None,
    method: Method,
    metric: Metric,
    smallest: int | None,
    levels: int,
) -> None:
    if method not in METHODS:
        raise ConfigError(f"method={method}: must be one of {', '.join(METHODS)}")
    if metric not in METRICS:
        raise ConfigError(f"metric={metric}: must be one of {', '.join(METRICS)}")
    if method == "hdbscan" and clusters is not None:
        text = clusters if isinstance(clusters, int) else "{}-{}".format(*clusters)
        raise ConfigError(f"clusters={text}: hdbscan finds the number itself; drop it, or use method=kmeans")
    if levels not in (1, 2):
        raise ConfigError(f"levels={levels}: must be 1 or 2")
    if method != "hdbscan" and smallest is not None:
        raise ConfigError(f"smallest={smallest}: applies only to hdbscan; drop it, or use method=hdbscan")
    if total == 1 and clusters != 1:
        raise ConfigError("a collection of one image has one cluster: use clusters=1")


def _check_count(count: int, distinct: int) -> None:
    if not 1 <= count <= distinct:
        raise ConfigError(f"clusters={count}: must be between 1 and {distinct}, the number of distinct codes")


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


def _sort_by_size(assigned: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The clusters numbered by size, and distances from the mean of each cluster."""
    numbers, sizes = np.unique(assigned[assigned >= 0], return_counts=True)
    numbers = numbers[np.argsort(-sizes, kind="stable")]
    new, distances = np.full(len(points), -1), np.zeros(len(points))
    for number, old in enumerate(numbers):
        rows = assigned == old
        new[rows] = number
        distances[rows] = np.linalg.norm(points[rows] - points[rows].mean(0), axis=1)
    return new, distances
