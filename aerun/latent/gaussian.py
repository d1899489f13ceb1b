"""Latents with a Gaussian posterior: a sample of it is the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from aerun.base.activation import at_least_float32
from aerun.contracts import (
    Diagnostic,
    Latent,
    Metric,
    Moment,
    NonNegative,
    NonNegativeInt,
    Penalty,
    Range,
    Shape,
    Terms,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor


class _GaussianPosterior(Latent):
    """Means and log-variances along dimension 1 of the features; the prior is the standard normal."""

    parameters_per_code = 2
    rowwise: ClassVar[bool] = True

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = at_least_float32(features).chunk(2, dim=1)
        return mean, log_variance

    def sample_prior(self, shape: Shape, generator: Generator) -> Tensor:
        return standard_normal(shape, generator)


@dataclass(frozen=True)
class Gaussian(_GaussianPosterior):
    """code = mean + exp(log_variance / 2) * epsilon, and the KL divergence to the standard normal.

    KL = 1/2 sum_j (mean_j^2 + exp(log_variance_j) - log_variance_j - 1), in nats per image, mean over the batch:
    Kingma & Welling 2013, "Auto-Encoding Variational Bayes" (arXiv:1312.6114), equation 10 and appendix B.
    If ``loss.reduction`` divides the reconstruction error by the values of an image, it divides the KL too. So
    ``beta = 1`` is the evidence lower bound for either reduction (the loss is the observation model, see
    ``aerun.loss``); other values give the beta-VAE of Higgins et al. 2017.

    Against a posterior that collapses to the prior, each changes the penalty, while ``kl`` remains the divergence:

    - ``warmup_epochs``: beta rises linearly from 0 (Bowman et al. 2016, arXiv:1511.06349; Sønderby et al. 2016).
    - ``cyclical``: in this number of equal cycles beta rises linearly from 0 over half a cycle, and stays there (Fu et
      al. 2019, arXiv:1903.10145). Evaluation uses beta itself. Other courses: the group ``schedule``.
    - ``free_bits``: sum_j max(free_bits, KL_j), KL_j in nats per dimension, mean over the batch (Kingma et al. 2016,
      "Improved Variational Inference with Inverse Autoregressive Flow", arXiv:1606.04934, equation 15).
    - ``capacity``: |KL - capacity|, in nats per image (Burgess et al. 2018, arXiv:1804.03599, equation 8, where it
      rises during training: ``schedule=linear schedule.linear.key=latent.capacity``).
    """

    beta: NonNegative
    warmup_epochs: NonNegative = 0.0
    cyclical: NonNegativeInt = 0
    free_bits: NonNegative = 0.0
    capacity: NonNegative | None = None

    schedulable = ("beta", "capacity")
    metrics = (Metric("kl_penalty", "nats per image"),)

    def __post_init__(self) -> None:
        if self.warmup_epochs and self.cyclical:
            raise ValueError(f"warmup_epochs={self.warmup_epochs:g} and cyclical={self.cyclical}: use one of the two")
        if self.free_bits and self.capacity is not None:
            raise ValueError(f"free_bits={self.free_bits:g} and capacity={self.capacity:g}: use one of the two")

    @property
    def rowwise(self) -> bool:  # type: ignore[override]
        """Floors and targets are compared with the mean over the whole batch."""
        return not self.free_bits and self.capacity is None

    def check_settings(self, settings: Any) -> None:
        super().check_settings(settings)
        trainer = settings.trainer
        if trainer.epochs and trainer.steps is None and self.warmup_epochs > trainer.epochs:
            raise ValueError(
                f"latent.warmup_epochs={self.warmup_epochs:g} is longer than the run, trainer.epochs={trainer.epochs}"
            )

    def schedules(self) -> Mapping[str, Callable[[Moment], float]]:
        if self.cyclical:
            return {"beta": lambda at: self.beta * at.share_of_cycle(self.cyclical, 0.5)}
        return {"beta": lambda at: self.beta * at.share_of(self.warmup_epochs)} if self.warmup_epochs else {}

    def draw(self, shape: Shape, generator: Generator) -> Tensor:
        """Standard normal numbers for codes of that shape [B,...]."""
        return standard_normal(shape, generator)

    def __call__(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,2D] or [B,2C,H,W], means first -> code[B,D] or [B,C,H,W], and the divergence ``kl``, which is the
        penalty; with ``free_bits`` or ``capacity`` the penalty is ``kl_penalty``.

        Without a draw the code is the posterior mean.
        """
        mean, log_variance = self.posterior(features)
        divergences = kl_divergences(mean, log_variance).flatten(1)
        kl = divergences.sum(1).mean()
        code = mean if draw is None else mean + (0.5 * log_variance).exp() * draw
        if self.free_bits:
            changed = divergences.mean(0).clamp_min(self.free_bits).sum()
        elif self.capacity is not None:
            changed = (kl - self.capacity).abs()
        else:
            return code, [Penalty("kl", kl, self.beta, per_image=True)]
        return code, [Diagnostic("kl", kl), Penalty("kl_penalty", changed, self.beta, per_image=True)]


@dataclass(frozen=True)
class ImportanceWeighted(_GaussianPosterior):
    """``samples`` codes of each image, z_i = mean + exp(log_variance / 2) * epsilon_i, weighted by their importance.

    The bound L_k = E log 1/k sum_i p(x, z_i) / q(z_i | x) of Burda, Grosse & Salakhutdinov 2016, "Importance Weighted
    Autoencoders" (arXiv:1509.00519), equation 8, with p(z) the standard normal; k = 1 is the evidence lower bound
    with its KL divergence estimated from the sample. ``aerun.core.autoencoder`` computes the bound.
    """

    samples: Annotated[int, Range(1, 100_000)]

    def check_settings(self, settings: Any) -> None:
        super().check_settings(settings)
        if not settings.loss.is_likelihood:
            raise ValueError(
                f"{settings.name('latent')} and {settings.name('loss')}: this loss is not a likelihood; "
                "use bce, mse or mae"
            )

    def draw(self, shape: Shape, generator: Generator) -> Tensor:
        """Standard normal numbers [B,k,...] for codes of the shape [B,...]."""
        return standard_normal((shape[0], self.samples, *shape[1:]), generator)

    def __call__(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,2D] or [B,2C,H,W], means first -> codes[B,k,D] or [B,k,C,H,W], and the penalty ``kl`` with the
        samples log q(z_i|x) / p(z_i) [B,k].

        Without a draw the code is the posterior mean [B,...], and the KL divergence is exact.
        """
        if draw is None:
            return Gaussian(1.0)(features, None)
        mean, log_variance = (part.unsqueeze(1) for part in self.posterior(features))
        code = mean + (0.5 * log_variance).exp() * draw
        # The normalizing constants of both densities cancel.
        ratio = 0.5 * (code.square() - draw.square() - log_variance).flatten(2).sum(2)
        return code, [Penalty("kl", ratio.mean(), 1.0, per_image=True, samples=ratio)]


def standard_normal(shape: Shape, generator: Generator) -> Tensor:
    """Standard normal float32 numbers of that shape, on the generator's device."""
    import torch

    return torch.randn(shape, generator=generator, device=generator.device)


def kl_divergences(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The KL divergence of each dimension from the standard normal, in nats; all tensors have the same shape."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)
