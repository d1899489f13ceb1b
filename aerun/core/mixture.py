"""New codes: Gaussian mixtures fitted to codes, and the nearest codes that an encoder can produce."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aerun.base.activation import activation
from aerun.base.progress_bar import progress_bar
from aerun.core.autoencoder import Autoencoder
from aerun.core.codebooks import nearest_entries
from aerun.errors import ConfigError
from aerun.sparsity import keep_largest

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

COMPONENT_COUNTS = (1, 2, 5, 10, 20)  # tried for a mixture
MIN_CODES_PER_COMPONENT = 10
MAX_EM_STEPS = 200
MAX_FULL_COVARIANCE_VALUES = 64  # codes of more values get diagonal covariances
CONSTANT_DEVIATION = 1e-9  # of the mean: values that deviate less are constant


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture of codes; ``fitted`` describes codes standardized by ``mean`` [D] and ``deviation`` [D].

    Constant values have deviation 0 and are sampled as they were.
    """

    fitted: GaussianMixture
    mean: np.ndarray
    deviation: np.ndarray

    @property
    def components(self) -> int:
        """Number of Gaussians."""
        return int(self.fitted.n_components)

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """``count`` codes [N,D] in random order. More codes of the same seed begin with the same ones."""
        # Separate generators, drawn row by row, make a row independent of the rows after it.
        shares = np.random.default_rng([seed, 0]).random(count)
        chosen = np.searchsorted(np.cumsum(self.fitted.weights_)[:-1], shares, side="right")
        normals = np.random.default_rng([seed, 1]).standard_normal((count, len(self.mean)))
        values = np.empty_like(normals)
        for number in range(self.components):
            rows, covariance = chosen == number, self.fitted.covariances_[number]
            if self.fitted.covariance_type == "full":  # einsum: rounding must not depend on the number of rows
                offsets = np.einsum("ij,nj->ni", np.linalg.cholesky(covariance), normals[rows])
            else:
                offsets = np.sqrt(covariance) * normals[rows]
            values[rows] = self.fitted.means_[number] + offsets
        return torch.from_numpy((values * self.deviation + self.mean).astype(np.float32))


def fit_mixture(codes: Tensor, components: int | Sequence[int] = COMPONENT_COUNTS, seed: int = 0) -> Mixture:
    """Fit a Gaussian mixture to codes[N,D] by expectation maximization (scikit-learn).

    Several numbers of ``components``: the lowest Bayesian information criterion (Schwarz 1978) decides among those with
    at least 10 codes per component. Covariances are full for codes of at most 64 values, otherwise diagonal.
    ConfigError for more components than codes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    values = codes.flatten(1).double().numpy()
    mean, deviation = values.mean(0), values.std(0)
    deviation[deviation <= CONSTANT_DEVIATION * np.abs(mean)] = 0
    standard = (values - mean) / np.where(deviation > 0, deviation, 1)
    kind = "full" if values.shape[1] <= MAX_FULL_COVARIANCE_VALUES else "diag"
    if isinstance(components, int):
        if components > len(values):
            raise ConfigError(f"components={components}: must be at most {len(values)}, the number of codes")
        tried = [components]
    else:
        tried = [number for number in components if number * MIN_CODES_PER_COMPONENT <= len(values)] or [1]
    if len(values) < 2:
        raise ConfigError("a mixture needs at least two codes")
    best, lowest = None, math.inf
    with progress_bar("mixtures", len(tried)) as bar:
        for number in tried:
            model = GaussianMixture(number, covariance_type=kind, random_state=seed, max_iter=MAX_EM_STEPS)
            with warnings.catch_warnings():  # the criterion also judges a mixture that has not converged
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(standard)
            criterion = model.bic(standard)
            if best is None or criterion < lowest:
                best, lowest = model, criterion
            bar.update()
    assert best is not None
    return Mixture(best, mean, deviation)


def nearest_valid_codes(autoencoder: Autoencoder, codes: Tensor) -> Tensor:
    """codes[N,*code_shape] -> the nearest codes that the encoder can produce.

    Codes of a quantized latent consist of its entries. Others are within the range of the code's nonlinearity; a
    k-sparse model keeps the k largest values of each code (of each channel).
    """
    codebooks = autoencoder.latent.codebooks
    if codebooks is not None:
        return nearest_entries(codes, codebooks.detach(), autoencoder.code_shape)
    codes = clamp_to_range(autoencoder, codes)
    k = autoencoder.sparsity.max_nonzeros
    return codes if k is None else keep_largest(codes, k)


def clamp_to_range(autoencoder: Autoencoder, codes: Tensor) -> Tensor:
    """codes[...], clamped to the range of the code's nonlinearity, such as [0,1] for a sigmoid."""
    function = activation(autoencoder.sparsity.activation)
    values = function(torch.cat([torch.tensor([-1e6, 1e6]), torch.linspace(-10, 10, 2001)]))
    return codes.clamp(float(values.min()), float(values.max()))
