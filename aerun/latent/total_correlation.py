"""A latent whose KL term is decomposed, so that the dependence between dimensions has a weight of its own."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from aerun.contracts import Diagnostic, Latent, Metric, NonNegative, Penalty, Shape, Terms, TrainingData
from aerun.latent.gaussian import _GaussianPosterior, kl_divergences, standard_normal

if TYPE_CHECKING:
    from torch import Generator, Tensor

MAX_PAIRS = 1 << 24  # numbers in the memory of one block of dimensions
NATS = "nats per image"


@dataclass(frozen=True)
class TotalCorrelation(_GaussianPosterior):
    """The KL divergence of a Gaussian posterior as the sum of three terms, each with a weight.

    Chen et al. 2018, "Isolating Sources of Disentanglement in Variational Autoencoders" (arXiv:1802.04942), equation 2:

    - ``index_code_mi`` = KL(q(z,n) || q(z) p(n)), the mutual information of image and code, weight ``alpha``;
    - ``total_correlation`` = KL(q(z) || prod_j q(z_j)), the dependence between dimensions, weight ``beta``;
    - ``dimension_wise_kl`` = sum_j KL(q(z_j) || p(z_j)), weight ``gamma``.

    q(z) is that of all N training images, estimated from the sample z_i of each image of the minibatch by
    minibatch-stratified sampling (appendix C.2): for M + 1 images, q(z_i) = 1/N q(z_i|n_i) + 1/M sum of M - 1 others
    + (N - M) / (N M) q(z_i|n_{i+1}). The estimates differ with the size of the minibatch, and may be negative. All in
    nats per image, scaled as in ``Gaussian``; with three weights of 1 their sum is an estimate of ``kl``.
    """

    alpha: NonNegative
    beta: NonNegative
    gamma: NonNegative
    images: int = field(default=0, init=False)

    rowwise: ClassVar[bool] = False
    schedulable = ("alpha", "beta", "gamma")
    metrics = tuple(Metric(name, NATS) for name in ("index_code_mi", "total_correlation", "dimension_wise_kl"))

    def for_data(self, data: TrainingData) -> Latent:
        known = copy.copy(self)
        object.__setattr__(known, "images", data.images)
        return known

    def draw(self, shape: Shape, generator: Generator) -> Tensor:
        """Standard normal numbers for codes of that shape [B,...]."""
        return standard_normal(shape, generator)

    def __call__(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,2D] or [B,2C,H,W], means first -> code[B,D] or [B,C,H,W], three penalties, and ``kl``.

        Without a draw the code is the posterior mean, and there are no penalties.
        """
        mean, log_variance = self.posterior(features)
        kl = Diagnostic("kl", kl_divergences(mean, log_variance).flatten(1).sum(1).mean())
        if draw is None:
            return mean, [kl]
        code = mean + (0.5 * log_variance).exp() * draw
        z, mu, s = code.flatten(1), mean.flatten(1), log_variance.flatten(1)
        given = log_normal(z, mu, s).sum(1)  # log q(z_i|n_i)
        prior = log_normal(z, 0 * mu, 0 * s).sum(1)
        joint, product = aggregate_log_densities(z, mu, s, self.images)
        values = {"index_code_mi": given - joint, "total_correlation": joint - product}
        values["dimension_wise_kl"] = product - prior
        weights = (self.alpha, self.beta, self.gamma)
        penalties = zip(values.items(), weights, strict=True)
        return code, [*(Penalty(name, v.mean(), weight, per_image=True) for (name, v), weight in penalties), kl]


def aggregate_log_densities(z: Tensor, mean: Tensor, log_variance: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """log q(z_i) and sum_j log q(z_ij), each [B], for the samples z[B,D] of posteriors with these parameters [B,D]."""
    weights = stratified_log_weights(z, images)
    joint, product = weights, z.new_zeros(len(z))
    # In blocks of dimensions: B^2 D numbers of a code of feature maps would not fit the memory.
    block = max(1, MAX_PAIRS // len(z) ** 2)
    for part, mu, s in zip(*(x.split(block, dim=1) for x in (z, mean, log_variance)), strict=True):
        pairs = log_normal(part.unsqueeze(1), mu, s)  # [i,n,j]: log q(z_ij|n)
        joint = joint + pairs.sum(2)
        product = product + (weights.unsqueeze(2) + pairs).logsumexp(1).sum(1)
    return joint.logsumexp(1), product


def stratified_log_weights(z: Tensor, images: int) -> Tensor:
    """The logarithms [B,B] of the weights of q(z_i|n_j), row i, for B rows; those of a row sum to 1."""
    import torch

    rows, total = len(z), max(images, len(z))
    if rows == 1:
        return z.new_zeros(1, 1)
    others = rows - 1
    own = torch.eye(rows, device=z.device, dtype=z.dtype)
    rest = (total - others) / (total * others) - 1 / others
    weights = 1 / others + own * (1 / total - 1 / others) + own.roll(1, 1) * rest
    return weights.log()


def log_normal(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The logarithm of the normal density, value by value."""
    return -0.5 * (math.log(2 * math.pi) + log_variance + (z - mean).square() * (-log_variance).exp())
