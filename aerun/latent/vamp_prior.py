"""The module of ``VampPrior``."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from aerun.contracts import Pass, Penalty, Shape, Terms
from aerun.latent.gaussian import _GaussianPosterior, standard_normal
from aerun.latent.total_correlation import log_normal


class PseudoInputs(nn.Module, _GaussianPosterior):
    """Pseudo-inputs [K,*input_shape], and the means and log-variances [K,*code_shape] that the encoder last gave them,
    which are the prior in use: of a trained model, whose evaluation renews them, those of its weights."""

    schedulable = ("beta",)

    prior_mean: Tensor
    prior_log_variance: Tensor

    def __init__(self, components: int, beta: float, input_shape: Shape, code_shape: Shape) -> None:
        super().__init__()
        self.beta = beta
        self.pseudo_inputs = nn.Parameter(torch.rand(components, *input_shape))
        self.register_buffer("prior_mean", torch.zeros(components, *code_shape))
        self.register_buffer("prior_log_variance", torch.zeros(components, *code_shape))

    def draw(self, shape: Shape, generator: Generator) -> Tensor:
        """Standard normal numbers for codes of that shape [B,...]."""
        return standard_normal(shape, generator)

    def forward(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,2D] or [B,2C,H,W], means first -> code[B,D] or [B,C,H,W]; without a draw the posterior mean."""
        mean, log_variance = self.posterior(features)
        return (mean if draw is None else mean + (0.5 * log_variance).exp() * draw), []

    def penalties(self, run: Pass) -> Terms:
        """``kl``: log q(z|x) - log p(z) for the code of each image, mean over the batch."""
        mean, log_variance = self.posterior(run.encoder(self.pseudo_inputs))
        with torch.no_grad():
            self.prior_mean.copy_(mean)
            self.prior_log_variance.copy_(log_variance)
        code = run.code.to(mean.dtype)
        given = log_normal(code, *self.posterior(run.features)).flatten(1).sum(1)
        return [Penalty("kl", (given - log_mixture(code, mean, log_variance)).mean(), self.beta, per_image=True)]

    def log_prior(self, codes: Tensor) -> Tensor:
        return log_mixture(codes, self.prior_mean.to(codes.dtype), self.prior_log_variance.to(codes.dtype))

    def sample_prior(self, shape: Shape, generator: Generator) -> Tensor:
        chosen = torch.randint(len(self.prior_mean), shape[:1], generator=generator, device=generator.device)
        mean, log_variance = (x.to(generator.device)[chosen] for x in (self.prior_mean, self.prior_log_variance))
        return mean + (0.5 * log_variance).exp() * standard_normal(shape, generator)


def log_mixture(codes: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log 1/K sum_k N(code; mean_k, exp(log_variance_k)) of codes[B,...], for components [K,...] -> [B]."""
    each = log_normal(codes.unsqueeze(1), mean, log_variance).flatten(2).sum(2)
    return each.logsumexp(1) - math.log(len(mean))
