"""Latents that compare the codes of a whole minibatch with samples of the prior, by their maximum mean discrepancy.

MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), estimated without bias from n codes x and n samples y of N(0, I): the
first two means are over different rows (Gretton et al. 2012, equation 3). It is 0 in expectation for equal
distributions, and may be negative. A single row has no estimate: 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from aerun.base.activation import at_least_float32
from aerun.contracts import Latent, Metric, NonNegative, Penalty, Probability, Shape, Terms
from aerun.latent.gaussian import _GaussianPosterior, kl_divergences, standard_normal

if TYPE_CHECKING:
    from torch import Generator, Tensor

MMD = Metric("mmd")


@dataclass(frozen=True)
class WassersteinMMD(Latent):
    """The code is the features; the codes of a minibatch are to be distributed as N(0, I).

    Tolstikhin et al. 2018, "Wasserstein Auto-Encoders" (arXiv:1711.01558), algorithm 2: the reconstruction error +
    ``weight`` MMD^2, with the inverse multiquadratic kernel k(x, y) = C / (C + |x - y|^2), C = 2 D for D-dimensional
    codes. The paper's cost is the squared error summed over an image (``loss.reduction=sum``); the penalty is divided
    by the values of an image if the error is.
    """

    weight: NonNegative

    constrains_code: ClassVar[bool] = True
    schedulable = ("weight",)
    metrics = (MMD,)

    def draw(self, shape: Shape, generator: Generator) -> Tensor:
        """Samples of the prior, as many as codes, of that shape [B,...]."""
        return standard_normal(shape, generator)

    def __call__(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,D] or [B,C,H,W] -> the same, and the penalty ``mmd`` if there is a draw."""
        if draw is None:
            return features, []
        codes = at_least_float32(features).flatten(1)
        scale = 2.0 * codes.shape[1]
        value = discrepancy(codes, draw.flatten(1), lambda squares: scale / (scale + squares))
        return features, [Penalty("mmd", value, self.weight, per_image=True)]

    def sample_prior(self, shape: Shape, generator: Generator) -> Tensor:
        return standard_normal(shape, generator)


@dataclass(frozen=True)
class InfoMMD(_GaussianPosterior):
    """A Gaussian posterior whose mixture over the minibatch is to be the prior, N(0, I).

    Zhao, Song & Ermon 2017, "InfoVAE" (arXiv:1706.02262), equation 6: the reconstruction error + (1 - alpha) KL +
    (alpha + lambda - 1) MMD^2, with the Gaussian kernel k(x, y) = exp(-|x - y|^2 / (2 D)) for D-dimensional codes. The
    KL divergence is that of each image's posterior; without it (alpha = 1) codes can tell more about the image. alpha =
    0 and lambda = 1 is the evidence lower bound.
    """

    alpha: Probability
    lambda_: NonNegative

    rowwise: ClassVar[bool] = False
    schedulable = ("alpha", "lambda_")
    metrics = (MMD,)

    def draw(self, shape: Shape, generator: Generator) -> Tensor:
        """Standard normal numbers [B,2,...] for codes of the shape [B,...]: of the posterior, and of the prior."""
        return standard_normal((shape[0], 2, *shape[1:]), generator)

    def __call__(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,2D] or [B,2C,H,W], means first -> code[B,D] or [B,C,H,W], penalties ``kl`` and, if there is a
        draw, ``mmd``. Without one the code is the posterior mean."""
        mean, log_variance = self.posterior(features)
        kl = kl_divergences(mean, log_variance).flatten(1).sum(1).mean()
        terms: Terms = [Penalty("kl", kl, 1 - self.alpha, per_image=True)]
        if draw is None:
            return mean, terms
        code = mean + (0.5 * log_variance).exp() * draw[:, 0]
        scale = 2.0 * code[0].numel()
        value = discrepancy(code.flatten(1), draw[:, 1].flatten(1), lambda squares: (-squares / scale).exp())
        return code, [*terms, Penalty("mmd", value, self.alpha + self.lambda_ - 1, per_image=True)]


def discrepancy(codes: Tensor, samples: Tensor, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """MMD^2 of codes[B,D] and samples[B,D]; ``kernel`` is a function of the squared distance."""
    count = len(codes)
    if count < 2:
        return 0 * codes.sum()
    pairs = count * (count - 1)
    within, among = (squared_distances(rows, rows) for rows in (codes, samples))
    same = sum((kernel(squares).sum() - kernel(squares.diagonal()).sum()) / pairs for squares in (within, among))
    return same - 2 * kernel(squared_distances(codes, samples)).mean()


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances [N,M] of the rows of x[N,D] and y[M,D]."""
    squares = x.square().sum(1, keepdim=True) + y.square().sum(1)
    return (squares - 2 * x @ y.T).clamp_min(0)
