"""New codes: from the prior of a Gaussian latent, or from a Gaussian mixture fitted to codes."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from aerun.base.activation import activation
from aerun.base.progress_bar import progress_bar
from aerun.base.seeding import Randomness
from aerun.errors import ConfigError
from aerun.sparsity import keep_largest
from aerun.use.opened_run import OpenedRun

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

Source = Literal["prior", "mixture"]
COMPONENT_COUNTS = (1, 2, 5, 10, 20)  # tried for a mixture
MIN_CODES_PER_COMPONENT = 10
MAX_EM_STEPS = 200
MAX_FULL_COVARIANCE_VALUES = 64  # codes of more values get diagonal covariances
CONSTANT_DEVIATION = 1e-9  # of the mean: values that deviate less are constant
RANDN_ROW_MULTIPLE = 16
log = logging.getLogger(__name__)


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


def sample_codes(
    run: OpenedRun,
    count: int,
    *,
    source: Source | None = None,
    images: Tensor | None = None,
    components: int | Sequence[int] = COMPONENT_COUNTS,
    seed: int = 0,
) -> Tensor:
    """New codes [N,*code_shape] from the prior or from a mixture fitted to the codes of ``images``.

    The default is the prior if the latent has one, otherwise the mixture. Codes of the mixture are made valid
    (``nearest_valid_codes``). ConfigError for the prior of a model that has none.
    """
    source = source or ("prior" if run.has_prior else "mixture")
    shape = run.autoencoder.code_shape
    if source == "prior":
        if not run.has_prior:
            raise ConfigError(f"{run.folder}: its latent has no prior; use the mixture")
        generator = Randomness(seed, torch.device("cpu")).at("samples", 0)  # seed 0: as in the run's own figure
        # A multiple of 16 rows: torch fills small and ragged tensors in another way, and more samples would not begin
        # with the same ones.
        rows = -(-count // RANDN_ROW_MULTIPLE) * RANDN_ROW_MULTIPLE
        samples = run.autoencoder.latent.sample_prior((rows, *shape), generator)
        assert samples is not None  # it has a prior
        return samples[:count]
    if images is None:
        raise ConfigError("images: needed to fit a mixture to their codes")
    mixture = fit_mixture(run.encode(images), components, seed)
    kind = f"{mixture.fitted.covariance_type} covariances"
    log.info("mixture of %d Gaussians with %s, fitted to %d codes", mixture.components, kind, len(images))
    return nearest_valid_codes(run, mixture.sample(count, seed).view(count, *shape))


def nearest_valid_codes(run: OpenedRun, codes: Tensor) -> Tensor:
    """codes[N,*code_shape] -> the nearest codes that the encoder can produce.

    They are within the range of the code's nonlinearity; a k-sparse model keeps the k largest values of each code (of
    each channel).
    """
    codes = clamp_to_range(run, codes)
    k = run.autoencoder.sparsity.max_nonzeros
    return codes if k is None else keep_largest(codes, k)


def clamp_to_range(run: OpenedRun, codes: Tensor) -> Tensor:
    """codes[...], clamped to the range of the code's nonlinearity, such as [0,1] for a sigmoid."""
    function = activation(run.autoencoder.sparsity.activation)
    values = function(torch.cat([torch.tensor([-1e6, 1e6]), torch.linspace(-10, 10, 2001)]))
    return codes.clamp(float(values.min()), float(values.max()))
