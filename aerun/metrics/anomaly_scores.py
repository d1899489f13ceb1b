"""How unusual images are for an autoencoder that was trained on normal ones: higher scores are less normal.

Scores are fitted to training images: the distribution of their codes, and their principal components, which give the
same score of the best linear autoencoder. ``fit_fusion`` brings scores to one scale by images that the model was not
trained on. Vectors have no maps, and no scores that need pixels next to each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aerun.base.ssim import WINDOW, ssim, ssim_map, windowed
from aerun.metrics.baselines import principal_components

ERROR, PEAK, SSIM, SSIM_PEAK = "error", "error_peak", "ssim", "ssim_peak"
MAHALANOBIS, KNN, LIKELIHOOD, FUSED = "mahalanobis", "knn", "likelihood", "fused"
PCA, PCA_PEAK = "pca", "pca_peak"
OURS = (ERROR, PEAK, SSIM, SSIM_PEAK, MAHALANOBIS, KNN, LIKELIHOOD)
SCORES = (*OURS, PCA, PCA_PEAK, FUSED)
PEAKS = {ERROR: PEAK, SSIM: SSIM_PEAK, PCA: PCA_PEAK}  # the largest value of a map
FUSED_FROM = (ERROR, PEAK, SSIM, MAHALANOBIS)  # those of them that a model and its images have
MAX_FITTED = 10_000  # training images that scores are fitted to
MAX_FITTED_VALUES = 1 << 26  # values of them: 512 MiB in float64, of which there are a few copies
MAX_CODE = 2048  # values of a code up to which the covariance of codes is estimated
PCA_VARIANCE = 0.99  # of the training images' variance, which principal components are not to exceed
TINY = 1e-30  # added before a logarithm


@dataclass(frozen=True)
class AnomalyScores:
    """Scores fitted to training images, as arrays.

    ``codes`` [M,D] and ``location`` [D] of training images, ``precision`` [D,D] or None for large codes, ``mean`` [P]
    and ``components`` [P,K] of the images, ``scale`` (broadcastable to an image): the deviation by which errors are
    divided, 1 for data that are not standardized. ``unit_range``: whether these are images in [0,1], which SSIM needs.
    """

    codes: np.ndarray
    location: np.ndarray
    precision: np.ndarray | None
    mean: Tensor
    components: Tensor
    scale: Tensor
    neighbors: int
    unit_range: bool

    def scores(self, images: Tensor, codes: Tensor, reconstructions: Tensor) -> dict[str, np.ndarray]:
        """images and reconstructions [N,...], float, and codes [N,...] -> scores [N], float64, by name.

        - ``error``: mean squared error; ``ssim``: 1 - SSIM (``aerun.base.ssim``).
        - ``error_peak``, ``ssim_peak``: the largest value of the map of that name, see ``maps``.
        - ``mahalanobis``: sqrt((z - m)^T S^-1 (z - m)) of the code z, with mean m and the covariance S of training
          codes, shrunk as in Ledoit & Wolf 2004.
        - ``knn``: mean Euclidean distance of the code to the ``neighbors`` nearest training codes.
        - ``pca``, ``pca_peak``: as ``error`` and ``error_peak``, of the projection on principal components instead.
        """
        projections = self.project(images)
        found = {ERROR: self._squares(images, reconstructions), PCA: self._squares(images, projections)}
        found = {name: squares.flatten(1).mean(1) for name, squares in found.items()}
        if has_windows(images.shape[1:]):
            maps = self._maps(images, reconstructions, projections)
            found |= {PEAKS[name]: values.flatten(1).max(1).values for name, values in maps.items()}
        if self.unit_range and has_windows(images.shape[1:]):
            found[SSIM] = 1 - ssim(reconstructions.clamp(0, 1), images.clamp(0, 1))
        rows = codes.flatten(1).double().cpu().numpy()
        arrays = {name: values.double().cpu().numpy() for name, values in found.items()}
        if self.precision is not None:
            centered = rows - self.location
            squares = np.einsum("nd,nd->n", centered @ self.precision, centered)
            arrays[MAHALANOBIS] = np.sqrt(squares.clip(0))
        arrays[KNN] = self._distances(rows)
        return arrays

    def _distances(self, rows: np.ndarray) -> np.ndarray:
        from sklearn.neighbors import NearestNeighbors

        index = NearestNeighbors(n_neighbors=self.neighbors, algorithm="brute").fit(self.codes)
        found: np.ndarray = index.kneighbors(rows)[0].mean(1)
        return found

    def project(self, images: Tensor) -> Tensor:
        """images[N,...] -> their projections on the principal components, of the same shape."""
        rows = (images / self.scale).flatten(1).double() - self.mean
        outputs = rows @ self.components @ self.components.T + self.mean
        return outputs.float().view(images.shape) * self.scale

    def maps(self, images: Tensor, reconstructions: Tensor) -> dict[str, np.ndarray]:
        """images and reconstructions [N,C,H,W] -> scores of single pixels [N,H,W], float32, by name.

        ``error`` and ``pca`` are means of the squared error, ``ssim`` is 1 - SSIM, under the window of SSIM (11 x 11
        pixels, Gaussian, deviation 1.5) around each pixel; images are mirrored at the border. For images that are
        smaller than the window they are the squared errors themselves.
        """
        found = self._maps(images, reconstructions, self.project(images))
        return {name: values.float().cpu().numpy() for name, values in found.items()}

    def _maps(self, images: Tensor, reconstructions: Tensor, projections: Tensor) -> dict[str, Tensor]:
        squares = {ERROR: self._squares(images, reconstructions), PCA: self._squares(images, projections)}
        found = {name: values.mean(1, keepdim=True) for name, values in squares.items()}
        if not has_windows(images.shape[1:]):
            return {name: values[:, 0] for name, values in found.items()}
        found = {name: windowed(_mirrored(values))[:, 0] for name, values in found.items()}
        if self.unit_range:
            both = (_mirrored(part.clamp(0, 1)) for part in (reconstructions, images))
            found[SSIM] = 1 - ssim_map(*both)
        return found

    def _squares(self, images: Tensor, outputs: Tensor) -> Tensor:
        return ((images - outputs) / self.scale).square()


def fit_scores(
    images: Tensor, codes: Tensor, *, scale: Tensor | None, neighbors: int, unit_range: bool
) -> AnomalyScores:
    """Scores fitted to training images [N,...], float in the units of the data, and their codes [N,...], on the CPU.

    ``scale``: the deviation of the data, if they are standardized. There are as many principal components as a code has
    values, but not more than have 99 % of the variance.
    """
    factor = torch.ones(()) if scale is None else scale.cpu()
    rows = codes.flatten(1).double().cpu().numpy()
    scaled = images / factor
    mean = scaled.flatten(1).double().mean(0)
    return AnomalyScores(
        rows.astype(np.float32),
        rows.mean(0),
        _precision(rows) if rows.shape[1] <= MAX_CODE else None,
        mean,
        _components(scaled, mean, rows.shape[1]),
        factor,
        min(neighbors, len(rows)),
        unit_range,
    )


def fitted_count(values: int) -> int:
    """How many training images of so many values scores are fitted to, at most."""
    return max(1, min(MAX_FITTED, MAX_FITTED_VALUES // values))


def has_windows(shape: Sequence[int]) -> bool:
    """Whether an input of this shape, without the batch, is an image at least as large as the window of SSIM."""
    return len(shape) == 3 and min(shape[1:]) >= WINDOW


def _precision(rows: np.ndarray) -> np.ndarray:
    """The inverse of the shrunk covariance of rows[N,D]; zero in directions in which they do not vary."""
    from sklearn.covariance import LedoitWolf

    found: np.ndarray = LedoitWolf().fit(rows).precision_
    return found


def _components(images: Tensor, mean: Tensor, count: int) -> Tensor:
    values = math.prod(images.shape[1:])
    found = principal_components(images, mean, min(count, values, len(images)))
    if found is None:  # too expensive
        found = principal_components(images[:MAX_CODE], mean, min(count, MAX_CODE))
        assert found is not None
    rows = images.flatten(1).double() - mean
    shares = (rows @ found).square().sum(0).cumsum(0) / rows.square().sum().clamp_min(TINY)
    return found[:, : int((shares < PCA_VARIANCE).sum()) + 1]


def _mirrored(images: Tensor) -> Tensor:
    """images[N,C,H,W] -> [N,C,H+10,W+10], so that there is a window around every pixel."""
    return torch.nn.functional.pad(images, [WINDOW // 2] * 4, mode="reflect")


@dataclass(frozen=True)
class Fusion:
    """Mean and deviation of the logarithm of each score of normal images, by its name; of a score that may be negative,
    such as ``likelihood``, of the score itself."""

    moments: Mapping[str, tuple[float, float]]

    def __call__(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores [N] by name -> the largest of their standard scores [N]: max over s of (log s - mean_s) / deviation_s.

        Gaussian scaling (Kriegel, Kröger, Schubert & Zimek 2011, "Interpreting and unifying outlier scores"), by which
        a log-normal score becomes its standard normal quantile, and the maximum (Aggarwal & Sathe 2015, "Theoretical
        foundations and algorithms for outlier ensembles"): an anomaly need not be unusual in every way.
        """
        standard = [(_level(name, scores[name]) - mean) / deviation for name, (mean, deviation) in self.moments.items()]
        found: np.ndarray = np.max(standard, 0)
        return found


def fit_fusion(scores: Mapping[str, np.ndarray], names: Sequence[str] = FUSED_FROM) -> Fusion:
    """The fusion of the scores of these names, where there are any, by scores [N] of normal images."""
    levels = {name: _level(name, scores[name]) for name in names if name in scores}
    return Fusion({name: (float(level.mean()), _deviation(level)) for name, level in levels.items()})


def _deviation(levels: np.ndarray) -> float:
    """The standard deviation; 1 for values that are equal up to rounding."""
    found = float(levels.std())
    return found if found > 1e-9 * max(1.0, abs(float(levels.mean()))) else 1.0


def _level(name: str, scores: np.ndarray) -> np.ndarray:
    found: np.ndarray = scores if name == LIKELIHOOD else np.log(scores + TINY)
    return found
