"""Latents around a Gaussian against loops in float64, torch.distributions and their papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from aerun.config.parse import parse
from aerun.contracts import Pass, TrainingData
from aerun.latent import InfoMMD, TotalCorrelation, VampPrior, WassersteinMMD
from aerun.training import build

Compose = Callable[[Sequence[str]], dict[str, Any]]
shapes = pytest.mark.parametrize("shape", [(7, 3), (5, 2, 2, 3)])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features_of(shape: tuple[int, ...]) -> Tensor:
    return (0.7 * normal(shape[0], 2 * shape[1], *shape[2:])).requires_grad_()


def posterior(features: Tensor) -> Normal:
    mean, log_variance = features.chunk(2, dim=1)
    return Normal(mean.flatten(1), (0.5 * log_variance).exp().flatten(1))


def values(terms: Any) -> dict[str, Tensor]:
    return {term.name: term.value for term in terms}


def same_with_gradient(found: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    for one, other in zip(*(torch.autograd.grad(x, inputs, retain_graph=True) for x in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


def loop_mmd(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Algorithm 2 of Tolstikhin et al. 2018, term by term."""
    n, total = len(x), torch.zeros((), dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            if i != j:
                total = total + (kernel(x[i] - x[j]) + kernel(y[i] - y[j])) / (n * (n - 1))
            total = total - 2 * kernel(x[i] - y[j]) / n**2
    return total


@shapes
def test_wae_is_the_papers_algorithm(shape: tuple[int, ...]) -> None:
    features, prior = normal(*shape).requires_grad_(), normal(*shape, seed=1)
    code, [penalty] = WassersteinMMD(3.0)(features, prior)
    size = 2 * math.prod(shape[1:])
    expected = loop_mmd(features.flatten(1), prior.flatten(1), lambda d: size / (size + d.square().sum()))
    assert code is features and penalty.weight == 3 and penalty.per_image
    same_with_gradient(penalty.value, expected, features)


@shapes
def test_info_vae_is_its_two_divergences(shape: tuple[int, ...]) -> None:
    features = features_of(shape)
    draw = normal(shape[0], 2, *shape[1:], seed=1)
    code, terms = InfoMMD(0.25, 8.0)(features, draw)
    q = posterior(features)
    z = q.loc + q.scale * draw[:, 0].flatten(1)
    torch.testing.assert_close(code.flatten(1), z)
    size = 2 * math.prod(shape[1:])
    mmd = loop_mmd(z, draw[:, 1].flatten(1), lambda d: (-d.square().sum() / size).exp())
    same_with_gradient(values(terms)["mmd"], mmd, features)
    kl = kl_divergence(q, Normal(torch.zeros_like(q.loc), 1.0)).sum() / shape[0]
    same_with_gradient(values(terms)["kl"], kl, features)
    assert [term.weight for term in terms] == [0.75, 7.25]


def test_the_discrepancy_of_equal_distributions_is_zero_in_expectation() -> None:
    found = [
        WassersteinMMD(1.0)(normal(20, 4, seed=2 * i), normal(20, 4, seed=2 * i + 1))[1][0].value for i in range(300)
    ]
    mean, error = np.mean(found), np.std(found) / 300**0.5
    assert abs(mean) < 4 * error
    shifted = WassersteinMMD(1.0)(normal(200, 4) + 1, normal(200, 4, seed=1))[1][0].value
    assert shifted > 20 * error


@shapes
@pytest.mark.parametrize("images", [1000, 3])
def test_the_three_terms_are_those_of_the_stratified_estimate(shape: tuple[int, ...], images: int) -> None:
    """Appendix C.2 of Chen et al. 2018, image by image; with fewer images than rows there are as many."""
    latent = TotalCorrelation(1.0, 6.0, 2.0).for_data(TrainingData((1,), images))
    features, draw = features_of(shape), normal(*shape, seed=1)
    code, terms = latent(features, draw)
    q, rows = posterior(features), shape[0]
    z = q.loc + q.scale * draw.flatten(1)
    torch.testing.assert_close(code.flatten(1), z)
    total, others = max(images, rows), rows - 1

    def mixture(i: int, density: Callable[[Normal], Tensor]) -> Tensor:
        result = density(Normal(q.loc[i], q.scale[i])).exp() / total
        for step in range(1, rows):
            j = (i + step) % rows
            weight = (total - others) / (total * others) if step == 1 else 1 / others
            result = result + weight * density(Normal(q.loc[j], q.scale[j])).exp()
        return result.log()

    mi = tc = dimensions = torch.zeros((), dtype=torch.float64)
    for i in range(rows):
        joint = mixture(i, lambda p, i=i: p.log_prob(z[i]).sum())
        product = mixture(i, lambda p, i=i: p.log_prob(z[i])).sum()
        mi = mi + (Normal(q.loc[i], q.scale[i]).log_prob(z[i]).sum() - joint) / rows
        tc = tc + (joint - product) / rows
        dimensions = dimensions + (product - Normal(0.0, 1.0).log_prob(z[i]).sum()) / rows
    found = values(terms)
    same_with_gradient(found["index_code_mi"], mi, features)
    same_with_gradient(found["total_correlation"], tc, features)
    same_with_gradient(found["dimension_wise_kl"], dimensions, features)
    kl = kl_divergence(q, Normal(torch.zeros_like(q.loc), 1.0)).sum() / rows
    torch.testing.assert_close(found["kl"], kl)
    assert [term.weight for term in terms[:3]] == [1.0, 6.0, 2.0]


def test_independent_dimensions_have_less_total_correlation_than_dependent_ones() -> None:
    latent = TotalCorrelation(1.0, 1.0, 1.0).for_data(TrainingData((1,), 300))
    independent = normal(300, 2)
    dependent = independent[:, :1].repeat(1, 2)
    log_variance = torch.full((300, 2), -4.0, dtype=torch.float64)
    found = [
        values(latent(torch.cat([mean, log_variance], 1), normal(300, 2, seed=1))[1])["total_correlation"]
        for mean in (independent, dependent)
    ]
    assert found[0] < 0.3 and found[1] > found[0] + 0.8


def vamp(components: int, code: tuple[int, ...], inputs: tuple[int, ...]) -> Any:
    torch.manual_seed(0)
    return VampPrior(components, 2.0).for_data(TrainingData(inputs, 10)).build(code).double()


def test_a_vamp_prior_is_the_mixture_of_its_pseudo_inputs_posteriors() -> None:
    latent = vamp(4, (3,), (1, 2, 2))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 6)).double()
    images, draw = normal(7, 1, 2, 2), normal(7, 3, seed=1)
    features = encoder(images)
    code, none = latent(features, draw)
    run = Pass(
        images,
        features,
        code,
        images,
        images,
        images,
        encoder,
        nn.Identity(),
        encoder,
        None,
        nn.Identity(),
        nn.Identity(),
    )
    [penalty] = latent.penalties(run)
    q, p = posterior(features), posterior(encoder(latent.pseudo_inputs))
    mixture = MixtureSameFamily(Categorical(torch.ones(4, dtype=torch.float64)), Independent(p, 1))
    z = q.loc + q.scale * draw
    expected = (q.log_prob(z).sum(1) - mixture.log_prob(z)).mean()
    assert not none and penalty.name == "kl" and penalty.weight == 2 and penalty.per_image
    same_with_gradient(penalty.value, expected, latent.pseudo_inputs, *encoder.parameters())
    torch.testing.assert_close(latent.log_prior(z), mixture.log_prob(z))
    samples = latent.sample_prior((40_000, 3), torch.Generator().manual_seed(0))
    assert (samples.mean(0) - mixture.mean).abs().max() < 5 * (mixture.variance.max() / 40_000) ** 0.5
    torch.testing.assert_close(samples.var(0), mixture.variance, rtol=0.05, atol=0)


def test_the_likelihood_under_a_vamp_prior_is_the_integral(compose: Compose) -> None:
    """One dimension, on a grid."""
    words = ["model=fc_vae", "model.hidden=[4]", "model.code_size=1", "latent=vamp", "latent.components=3"]
    words += ["dataset=random", "dataset.images=20", "dataset.shape=[1,2,2]", "loss.reduction=sum"]
    words += ["protocol=likelihood", "protocol.likelihood.samples=4000", "trainer.device=cpu"]
    settings = parse(compose(words), overrides=words)
    device = build.prepare(settings)
    parts = build.build_parts(settings, settings.dataset.load(device), device)
    autoencoder = parts.autoencoder.eval()
    from aerun.metrics.evaluation import evaluate
    from aerun.protocol.subject import Subject

    evaluate(autoencoder, parts.data.test, parts.noise, parts.loss)  # sets the prior in use
    subject = Subject(autoencoder, parts.data, parts.noise, parts.loss, settings.dataset, 0)
    numbers = settings.protocol["likelihood"](subject)
    grid = torch.linspace(-12, 12, 4001)[:, None]
    with torch.no_grad():
        decoded = autoencoder.output_activation(autoencoder.decoder(grid)).flatten(1).double()
        prior = autoencoder.latent.log_prior(grid).double()
        images = parts.data.test.inputs.flatten(1).double() / 255
        likelihood = Normal(decoded, 0.5**0.5).log_prob(images[:, None]).sum(2)
        expected = -((likelihood + prior).logsumexp(1) + math.log(24 / 4000)).mean()
    assert numbers["nll"] == pytest.approx(expected.item(), abs=0.01)
    assert numbers["elbo"] < numbers["log_likelihood"] and "kl_dimension_00" not in numbers


@pytest.mark.parametrize("latent", ["wae_mmd", "info_mmd", "tc", "vamp"])
def test_a_single_row_has_finite_terms_and_gradients(compose: Compose, latent: str) -> None:
    words = ["model=conv", f"latent={latent}", "dataset=random", "dataset.images=20", "trainer.device=cpu"]
    settings = parse(compose(words), overrides=words)
    device = build.prepare(settings)
    parts = build.build_parts(settings, settings.dataset.load(device), device)
    from aerun.dataset.data import first_batch
    from aerun.training.step import make_step

    step = make_step(parts, learning_rate=lambda number: 1.0)
    parts.autoencoder.train()
    terms = step(first_batch(parts.data.train, 1), 0).terms
    assert all(torch.isfinite(value) for value in terms.values())
    assert all(torch.isfinite(p).all() for p in parts.autoencoder.parameters())
