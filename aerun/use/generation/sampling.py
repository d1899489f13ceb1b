"""Codes that no image gave: from the prior of a Gaussian latent, or from a mixture fitted to codes."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
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
COMPONENT_COUNTS = (1, 2, 5, 10, 20)  # of which the mixture's number is chosen
RANDN_ROW_MULTIPLE = 16  # of normals are drawn together
MAX_FULL_COVARIANCE_VALUES = 64  # code values up to which components have full covariances
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture of codes; ``fitted`` is of codes standardised by ``mean`` [D] and ``deviation`` [D].

    Values that were the same for all codes have deviation 0, and come out of it as they were.
    """

    fitted: GaussianMixture
    mean: np.ndarray
    deviation: np.ndarray

    @property
    def components(self) -> int:
        """How many Gaussians."""
        return int(self.fitted.n_components)

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Codes [N,D]; the same for the same seed, of more of them the first ones, too. In random order, not by
        component."""
        # Components and normals from generators of their own, row by row: what a row is depends on none after it.
        shares = np.random.default_rng([seed, 0]).random(count)
        chosen = np.searchsorted(np.cumsum(self.fitted.weights_)[:-1], shares, side="right")
        normals = np.random.default_rng([seed, 1]).standard_normal((count, len(self.mean)))
        values = np.empty_like(normals)
        for number in range(self.components):
            rows, spread = chosen == number, self.fitted.covariances_[number]
            if self.fitted.covariance_type == "full":  # einsum: a product of matrices rounds by how many rows there are
                moved = np.einsum("ij,nj->ni", np.linalg.cholesky(spread), normals[rows])
            else:
                moved = np.sqrt(spread) * normals[rows]
            values[rows] = self.fitted.means_[number] + moved
        return torch.from_numpy((values * self.deviation + self.mean).astype(np.float32))


def fit_mixture(codes: Tensor, components: int | Sequence[int] = COMPONENT_COUNTS, seed: int = 0) -> Mixture:
    """A Gaussian mixture of codes[N,D], by expectation-maximisation (scikit-learn).

    Of several numbers of ``components`` the one with the lowest Bayesian information criterion (Schwarz 1978) is taken,
    among those with at least 10 codes a component. Covariances are full up to ``FULL`` dimensions, diagonal beyond.
    ConfigError for more components than codes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    values = codes.flatten(1).double().numpy()
    mean, deviation = values.mean(0), values.std(0)
    deviation[deviation <= 1e-9 * np.abs(mean)] = 0
    standard = (values - mean) / np.where(deviation > 0, deviation, 1)
    kind = "full" if values.shape[1] <= MAX_FULL_COVARIANCE_VALUES else "diag"
    if isinstance(components, int):
        if components > len(values):
            raise ConfigError(f"{components} components: there are only {len(values)} codes to fit them to")
        tried = [components]
    else:
        tried = [number for number in components if number * 10 <= len(values)] or [1]
    if len(values) < 2:
        raise ConfigError("a mixture needs two codes at least")
    best, lowest = None, math.inf
    for number in _with_progress(tried):
        model = GaussianMixture(number, covariance_type=kind, random_state=seed, max_iter=200)
        with warnings.catch_warnings():  # one that has not come to rest is judged as it stands
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(standard)
        found = model.bic(standard)
        if best is None or found < lowest:
            best, lowest = model, found
    assert best is not None
    return Mixture(best, mean, deviation)


def _with_progress(numbers: Sequence[int]) -> Iterator[int]:
    with progress_bar("mixtures", len(numbers)) as bar:
        for number in numbers:
            yield number
            bar.update()


def sample_codes(
    run: OpenedRun,
    count: int,
    *,
    source: Source | None = None,
    images: Tensor | None = None,
    components: int | Sequence[int] = COMPONENT_COUNTS,
    seed: int = 0,
) -> Tensor:
    """Codes [N,*code_shape] from the prior (of a Gaussian latent, unless told otherwise), or from a mixture fitted to
    the codes of ``images``; made such as the model's codes are (``like_codes``).

    ConfigError for the prior of a model that has none.
    """
    source = source or ("prior" if run.is_gaussian else "mixture")
    shape = run.autoencoder.code_shape
    if source == "prior":
        if not run.is_gaussian:
            raise ConfigError(f"{run.folder}: its latent is deterministic and has no prior; use the mixture")
        generator = Randomness(seed, torch.device("cpu")).at("samples", 0)  # seed 0: as in the run's own figure
        # Of sixteen rows or a multiple of them: torch fills small and ragged tensors in another way, and the first
        # samples would not be the first of more.
        return torch.randn((-(-count // RANDN_ROW_MULTIPLE) * RANDN_ROW_MULTIPLE, *shape), generator=generator)[:count]
    if images is None:
        raise ConfigError("a mixture is fitted to codes of images: none are given")
    mixture = fit_mixture(run.encode(images), components, seed)
    kind = f"{mixture.fitted.covariance_type} covariances"
    log.info("mixture of %d Gaussians with %s, fitted to %d codes", mixture.components, kind, len(images))
    return nearest_valid_codes(run, mixture.sample(count, seed).view(count, *shape))


def nearest_valid_codes(run: OpenedRun, codes: Tensor) -> Tensor:
    """codes[N,*code_shape], the nearest such as the encoder can make: within the range of the code's nonlinearity, and
    of a k-sparse model only the k largest values of each (of each channel) others than 0."""
    sparsity = run.autoencoder.sparsity
    codes = clamp_to_range(run, codes)
    k = getattr(sparsity, "k", None)
    return keep_largest(codes, k) if k is not None else codes


def clamp_to_range(run: OpenedRun, codes: Tensor) -> Tensor:
    """codes[...] within the range of the code's nonlinearity, [0,1] for a sigmoid."""
    function = activation(getattr(run.autoencoder.sparsity, "activation", "identity"))
    values = function(torch.cat([torch.tensor([-1e6, 1e6]), torch.linspace(-10, 10, 2001)]))
    return codes.clamp(float(values.min()), float(values.max()))
