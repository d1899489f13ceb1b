"""The estimated likelihood compared with models whose likelihood is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Data, Split
from aerun.latent import Gaussian
from aerun.loss import BCE, MSE
from aerun.noise import NoNoise
from aerun.protocol import Likelihood, Subject
from aerun.sparsity import NoSparsity

PIXELS, CODE = 6, 2


class Encoder(nn.Module):
    """An encoder from any function of flat images to means and log-variances."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images.flatten(1))


def ask(
    encoder: Callable[[Tensor], Tensor], decoder: nn.Module, images: Tensor, loss: Any, protocol: Likelihood
) -> dict[str, float]:
    """The numbers of the protocol for test images [N,P]."""
    shaped = images.view(len(images), 1, 1, -1)
    autoencoder = Autoencoder(
        Encoder(encoder),
        nn.Sequential(decoder, nn.Unflatten(1, shaped.shape[1:])),
        input_shape=tuple(shaped.shape[1:]),
        output_shape=tuple(shaped.shape[1:]),
        code_shape=(CODE,),
        sparsity=NoSparsity("identity"),
        latent=Gaussian(1.0),
        output_activation="sigmoid" if loss.takes_logits else "identity",
    ).eval()
    split = Split(shaped, shaped, None)
    return protocol(Subject(autoencoder, Data(split, None, split, None, ""), NoNoise(), loss, None, 0))


class LinearGaussian:
    """z ~ N(0, I), x|z ~ N(W z + b, I/2): p(x) = N(b, W W' + I/2), and the posterior is normal."""

    def __init__(self, weight: Tensor, count: int = 300) -> None:
        generator = torch.Generator().manual_seed(0)
        self.decoder = nn.Linear(CODE, PIXELS)
        with torch.no_grad():
            self.decoder.weight.copy_(weight)
        self.weight, self.bias = weight.double(), self.decoder.bias.detach().double()
        self.p = MultivariateNormal(self.bias, self.weight @ self.weight.T + torch.eye(PIXELS).double() / 2)
        z = torch.randn(count, CODE, generator=generator).double()
        noise = torch.randn(count, PIXELS, generator=generator).double() * math.sqrt(0.5)
        self.images = (z @ self.weight.T + self.bias + noise).float()
        self.precision = torch.eye(CODE).double() + 2 * self.weight.T @ self.weight

    def encoder(self, images: Tensor) -> Tensor:
        """The posterior's mean, and the variances that it would have were its precision diagonal."""
        mean = torch.linalg.solve(self.precision, 2 * self.weight.T @ (images.double() - self.bias).T).T
        return torch.cat([mean, -self.precision.diagonal().log().expand_as(mean)], 1).float()

    def log_likelihoods(self) -> Tensor:
        return self.p.log_prob(self.images.double())


def orthogonal() -> Tensor:
    return torch.linalg.qr(torch.randn(PIXELS, CODE, generator=torch.Generator().manual_seed(1)))[0] * 1.5


def correlated() -> Tensor:
    return torch.randn(PIXELS, CODE, generator=torch.Generator().manual_seed(2)) + 0.5


@pytest.mark.parametrize("samples", [1, 30])
def test_with_the_exact_posterior_every_sample_tells_the_exact_likelihood(samples: int) -> None:
    model = LinearGaussian(orthogonal())
    found = ask(model.encoder, model.decoder, model.images, MSE("mean"), Likelihood(samples, None, None, 500))
    exact = model.log_likelihoods()
    assert found["log_likelihood"] == pytest.approx(exact.mean().item(), abs=1e-4)
    assert found["nll"] == -found["log_likelihood"]
    assert found["nll_error"] == pytest.approx(exact.std().item() / math.sqrt(300), rel=1e-3)
    assert (found["likelihood_samples"], found["likelihood_images"]) == (samples, 300)
    if samples == 30:  # q is the posterior, so the bound is tight, but for the noise of its own expectation
        assert found["elbo"] == pytest.approx(exact.mean().item(), abs=0.06)


def test_with_another_proposal_many_samples_tell_it() -> None:
    model = LinearGaussian(correlated())
    found = ask(model.encoder, model.decoder, model.images, MSE("sum"), Likelihood(3000, None, None, 3000))
    exact = model.log_likelihoods().mean().item()
    assert found["log_likelihood"] == pytest.approx(exact, abs=0.01)
    posterior = MultivariateNormal(torch.zeros(CODE).double(), precision_matrix=model.precision)
    proposal = MultivariateNormal(torch.zeros(CODE).double(), precision_matrix=model.precision.diagonal().diag())
    gap = kl_divergence(proposal, posterior).item()
    assert gap > 0.1 and found["elbo"] == pytest.approx(exact - gap, abs=0.01)


def test_bernoulli_pixels_against_quadrature() -> None:
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(CODE, 8), nn.Tanh(), nn.Linear(8, PIXELS))
    with torch.no_grad():
        decoder[2].weight.mul_(4)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=PIXELS)))
    ticks = torch.linspace(-8, 8, 401).double()
    z = torch.cartesian_prod(ticks, ticks)
    prior = Normal(0.0, 1.0).log_prob(z).sum(1) + 2 * math.log(16 / 400)
    with torch.no_grad():
        logits = decoder.double()(z)
    p = Bernoulli(logits=logits)
    exact = torch.stack([(prior + p.log_prob(image.double()).sum(1)).logsumexp(0) for image in images])
    assert exact.exp().sum().item() == pytest.approx(1, abs=1e-6)  # these are all the images there are
    wide = torch.tensor([0.1, -0.2, 0.3, 0.2])
    found = ask(
        lambda x: wide.expand(len(x), 4), decoder.float(), images, BCE("mean"), Likelihood(20_000, None, None, 5000)
    )
    assert found["log_likelihood"] == pytest.approx(exact.mean().item(), abs=0.01)


SMALL = LinearGaussian(correlated(), 1200)  # more than an evaluation's batch


def small(samples: int, images: int | None = None, rest: int | None = None, batch_size: int = 500) -> dict[str, float]:
    protocol = Likelihood(samples, images, rest, batch_size)
    return ask(SMALL.encoder, SMALL.decoder, SMALL.images, MSE("mean"), protocol)


def test_the_size_of_a_batch_makes_no_difference() -> None:
    expected = small(7, 200, 3)
    for batch_size in (1, 3, 10, 100_000):
        assert small(7, 200, 3, batch_size) == pytest.approx(expected, rel=1e-5)


def test_an_image_has_the_same_draws_whichever_others_are_asked_of() -> None:
    """The mean over some is that over all, of those."""
    whole, part = small(7), small(7, 200)
    assert part["likelihood_images"] == 200 and part["nll"] != whole["nll"]
    assert abs(part["nll"] - whole["nll"]) < 5 * part["nll_error"]
    first = ask(SMALL.encoder, SMALL.decoder, SMALL.images[:200], MSE("mean"), Likelihood(7, None, None, 500))
    assert part["nll"] != pytest.approx(first["nll"], abs=1e-3)  # they are not the first 200


def test_the_rest_with_fewer_samples_estimate_all_with_many() -> None:
    whole, fewer, both = small(50), small(2), small(50, 600, 2)
    assert both["nll_2"] == pytest.approx(fewer["nll"], abs=0.02)  # half of the draws are others
    error = both["nll_all_error"]
    assert abs(both["nll_all"] - whole["nll"]) < 3 * error < 3 * 0.5 * whole["nll_error"]
    assert both["nll_2"] - whole["nll"] > 4 * error
    assert "nll_all" not in whole and "nll_all" not in small(7, 200)


def test_what_latent_dimensions_do() -> None:
    """One whose means vary by 0.02, one by 0.005: the first is active. Each one's KL is that of torch.distributions."""
    values = torch.randn(500, PIXELS, generator=torch.Generator().manual_seed(0))
    values = (values - values.mean(0)) / values.std(0, correction=0)

    def encoder(images: Tensor) -> Tensor:
        means = images[:, :2] * torch.tensor([0.02, 0.005]).sqrt()
        return torch.cat([means, torch.tensor([-0.3, 0.1]).expand_as(means)], 1)

    found = ask(encoder, nn.Linear(CODE, PIXELS), values, MSE("mean"), Likelihood(1, None, None, 500))
    assert found["active_latents"] == 1
    features = encoder(values).double()
    divergence = kl_divergence(Normal(features[:, :2], (features[:, 2:] / 2).exp()), Normal(0.0, 1.0)).mean(0)
    assert [found["kl_dimension_00"], found["kl_dimension_01"]] == pytest.approx(divergence.tolist(), rel=1e-5)
