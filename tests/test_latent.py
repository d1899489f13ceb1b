"""The Gaussian latent against torch.distributions, and the evidence lower bound that the objective promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Laplace, Normal, kl_divergence

from aerun.core.autoencoder import Autoencoder, objective
from aerun.latent import Deterministic, Gaussian, ImportanceWeighted
from aerun.loss import BCE, MAE, MSE
from aerun.sparsity import L1, NoSparsity

SHAPE, CODE, BATCH = (1, 6, 5), 4, 7
PIXELS = math.prod(SHAPE)
losses = pytest.mark.parametrize("loss", [MSE, MAE, BCE])
code_shapes = pytest.mark.parametrize("shape", [(7, 4), (7, 4, 3, 2)], ids=["vectors", "maps"])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def posterior(features: Tensor) -> Normal:
    """Means first, then log-variances."""
    units = features.shape[1] // 2
    return Normal(features[:, :units].double(), features[:, units:].double().exp().sqrt())


def parameters(shape: tuple[int, ...]) -> Tensor:
    """Features that describe codes of ``shape``."""
    return normal(shape[0], 2 * shape[1], *shape[2:])


def build(latent: Any, output_activation: str = "identity", sparsity: Any = None) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(
        nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CODE * latent.parameters_per_code)),
        nn.Sequential(nn.Linear(CODE, PIXELS), nn.Unflatten(1, SHAPE)),
        input_shape=SHAPE,
        output_shape=SHAPE,
        code_shape=(CODE,),
        sparsity=sparsity or NoSparsity("identity"),
        latent=latent,
        output_activation=output_activation,
    )


def terms_and_gradient(autoencoder: Autoencoder, loss: Any) -> tuple[dict[str, Tensor], Tensor]:
    images = torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(3))
    draw = autoencoder.draw(BATCH, torch.Generator().manual_seed(4))
    terms = objective(autoencoder(images, draw), images, autoencoder, loss)
    gradients = torch.autograd.grad(terms["loss"], list(autoencoder.parameters()))
    return terms, torch.cat([gradient.flatten() for gradient in gradients])


def test_deterministic_is_the_features() -> None:
    features = normal(7, 4)
    code, penalties = Deterministic()(features, None)
    assert code.equal(features) and penalties == []
    assert Deterministic().draw((7, 4), torch.Generator()) is None


@code_shapes
def test_kl_is_that_of_torch_distributions(shape: tuple[int, ...]) -> None:
    features = parameters(shape)
    distribution = posterior(features)
    divergences = kl_divergence(distribution, Normal(torch.zeros_like(distribution.mean), 1.0))
    _, [penalty] = Gaussian(1.0)(features, None)
    assert penalty.name == "kl"
    assert penalty.value.item() == pytest.approx(divergences.sum().item() / len(features), rel=1e-5)


def test_kl_of_the_standard_normal_is_zero() -> None:
    _, [penalty] = Gaussian(1.0)(torch.zeros(7, 8), None)
    assert penalty.value == 0


@code_shapes
def test_kl_gradient_is_that_of_torch_distributions(shape: tuple[int, ...]) -> None:
    features = parameters(shape).requires_grad_()
    [actual] = torch.autograd.grad(Gaussian(1.0)(features, None)[1][0].value, features)
    distribution = posterior(features)
    divergences = kl_divergence(distribution, Normal(torch.zeros_like(distribution.mean), 1.0))
    [expected] = torch.autograd.grad(divergences.sum() / len(features), features)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@code_shapes
def test_code_is_a_reparametrised_sample(shape: tuple[int, ...]) -> None:
    """code = mean + deviation * draw: its slope is 1 along the mean, deviation * draw / 2 along the log-variance."""
    features = parameters(shape).requires_grad_()
    draw, slope = normal(*shape, seed=1), normal(*shape, seed=2)
    code, _ = Gaussian(1.0)(features, draw)
    distribution = posterior(features.detach())
    expected = distribution.mean + distribution.stddev * draw
    torch.testing.assert_close(code.detach().double(), expected, rtol=1e-5, atol=1e-6)
    [gradient] = torch.autograd.grad((code * slope).sum(), features)
    along_mean, along_log_variance = gradient.chunk(2, dim=1)
    torch.testing.assert_close(along_mean, slope)
    torch.testing.assert_close(
        along_log_variance.double(), slope * draw * distribution.stddev / 2, rtol=1e-5, atol=1e-6
    )


@code_shapes
def test_without_a_draw_the_code_is_the_mean(shape: tuple[int, ...]) -> None:
    features = parameters(shape)
    assert Gaussian(1.0)(features, None)[0].equal(features[:, : shape[1]])


def test_draws_are_standard_normal_and_belong_to_their_seed() -> None:
    draw = Gaussian(1.0).draw((1000, 50), torch.Generator().manual_seed(0))
    count = draw.numel()
    assert abs(draw.mean()) < 5 / count**0.5
    assert abs(draw.var() - 1) < 5 * (2 / count) ** 0.5
    assert draw.equal(Gaussian(1.0).draw((1000, 50), torch.Generator().manual_seed(0)))
    assert not draw.equal(Gaussian(1.0).draw((1000, 50), torch.Generator().manual_seed(1)))


def test_encode_gives_posterior_means() -> None:
    autoencoder = build(Gaussian(1.0))
    images = torch.rand(BATCH, *SHAPE)
    linear = autoencoder.encoder[1]
    expected = images.flatten(1) @ linear.weight[:CODE].T + linear.bias[:CODE]
    torch.testing.assert_close(autoencoder.encode(images), expected)


@losses
@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_the_objective_is_the_same_whatever_the_reduction(loss: Any, beta: float) -> None:
    autoencoder = build(Gaussian(beta))
    mean, mean_gradient = terms_and_gradient(autoencoder, loss("mean"))
    total, total_gradient = terms_and_gradient(autoencoder, loss("sum"))
    torch.testing.assert_close(mean["loss"] * PIXELS, total["loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(mean_gradient * PIXELS, total_gradient, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean["reconstruction_nats"], total["reconstruction_nats"], rtol=1e-6, atol=0)
    assert mean["kl"].equal(total["kl"])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@losses
def test_beta_one_is_the_evidence_lower_bound(loss: Any, reduction: str) -> None:
    """E log p(x|z) - KL per image, with the likelihood that goes with each loss."""
    autoencoder = build(Gaussian(1.0), "sigmoid" if loss is BCE else "identity")
    terms, _ = terms_and_gradient(autoencoder, loss(reduction))
    images = torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(3))
    draw = autoencoder.draw(BATCH, torch.Generator().manual_seed(4))
    with torch.no_grad():
        distribution = posterior(autoencoder.encoder(images))
        logits = autoencoder.decoder((distribution.mean + distribution.stddev * draw).float()).double()
    likelihood, constant = {
        MSE: (Normal(logits, 0.5**0.5), 0.5 * math.log(math.pi)),
        MAE: (Laplace(logits, 1.0), math.log(2)),
        BCE: (Bernoulli(logits=logits, validate_args=False), 0.0),
    }[loss]
    log_likelihood = likelihood.log_prob(images.double()).sum().item() / BATCH
    divergence = kl_divergence(distribution, Normal(torch.zeros_like(distribution.mean), 1.0)).sum().item() / BATCH
    scale = PIXELS if reduction == "mean" else 1
    bound = terms["loss"].item() * scale + PIXELS * constant
    assert bound == pytest.approx(divergence - log_likelihood, rel=1e-5)
    assert terms["kl"].item() == pytest.approx(divergence, rel=1e-5)
    assert terms["reconstruction_nats"].item() == pytest.approx(-log_likelihood - PIXELS * constant, rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_beta_weights_the_divergence_and_not_its_report(reduction: str) -> None:
    plain, weighted, without = (
        terms_and_gradient(build(Gaussian(beta)), MSE(reduction))[0] for beta in (1.0, 3.0, 0.0)
    )
    assert plain["kl"].equal(weighted["kl"])
    assert without["loss"].equal(without["reconstruction"])
    divergence = plain["loss"] - without["loss"]
    torch.testing.assert_close(weighted["loss"] - without["loss"], 3 * divergence, rtol=1e-4, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_penalty_that_is_not_per_image_is_added_by_its_weight_alone(reduction: str) -> None:
    autoencoder = build(Deterministic(), sparsity=L1(0.3, "identity"))
    terms, _ = terms_and_gradient(autoencoder, MSE(reduction))
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 0.3 * terms["l1"])
    assert "reconstruction_nats" not in terms


def test_importance_weighted_draws_are_of_every_sample() -> None:
    draw = ImportanceWeighted(6).draw((500, 4, 3, 2), torch.Generator().manual_seed(0))
    assert draw.shape == (500, 6, 4, 3, 2) and abs(draw.var() - 1) < 5 * (2 / draw.numel()) ** 0.5


def test_a_pass_of_several_samples() -> None:
    autoencoder = build(ImportanceWeighted(3), "sigmoid")
    images = torch.rand(BATCH, *SHAPE)
    draw = autoencoder.draw(BATCH, torch.Generator().manual_seed(4))
    assert draw is not None
    result = autoencoder(images, draw)
    assert result.code.shape == (BATCH, CODE)
    assert result.reconstruction.shape == result.logits.shape == (BATCH, 3, *SHAPE)
    for i in range(3):
        single = build(Gaussian(1.0), "sigmoid")(images, draw[:, i])
        torch.testing.assert_close(result.reconstruction[:, i], single.reconstruction)
    torch.testing.assert_close(autoencoder(images).code, autoencoder.encode(images))


def likelihoods(loss: Any, logits: Tensor, images: Tensor) -> Tensor:
    """-log p(x|z) of each image, without what is constant."""
    if loss is BCE:
        return -Bernoulli(logits=logits, validate_args=False).log_prob(images).sum()
    return (logits - images).square().sum() if loss is MSE else (logits - images).abs().sum()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("samples", [1, 2, 5])
@losses
def test_the_importance_weighted_bound_is_equation_8_with_its_gradient(loss: Any, samples: int, reduction: str) -> None:
    """Against a loop over images and samples, in float64, with the densities of torch.distributions."""
    autoencoder = build(ImportanceWeighted(samples), "sigmoid" if loss is BCE else "identity")
    terms, gradient = terms_and_gradient(autoencoder, loss(reduction))
    images = torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(3)).double()
    draw = autoencoder.draw(BATCH, torch.Generator().manual_seed(4))
    assert draw is not None
    exact = build(ImportanceWeighted(samples)).double()
    bound, nats, ratios = torch.zeros((), dtype=torch.float64), 0.0, 0.0
    for image, draws in zip(images, draw.double(), strict=True):
        features = exact.encoder(image[None])[0]
        q = Normal(features[:CODE], (0.5 * features[CODE:]).exp())
        weights = []
        for one in draws:
            z = q.loc + q.scale * one
            error = likelihoods(loss, exact.decoder(z[None])[0], image)
            ratio = (q.log_prob(z) - Normal(torch.zeros(CODE).double(), 1.0).log_prob(z)).sum()
            weights.append((-error - ratio).exp())
            nats, ratios = nats + error.item(), ratios + ratio.item()
        bound = bound - torch.stack(weights).mean().log() / BATCH
    scale = 1 / PIXELS if reduction == "mean" else 1.0
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(bound * scale, list(exact.parameters()))])
    assert terms["loss"].item() == pytest.approx(bound.item() * scale, rel=1e-5)
    assert terms["bound_nats"].item() == pytest.approx(bound.item(), rel=1e-5)
    assert terms["reconstruction_nats"].item() == pytest.approx(nats / BATCH / samples, rel=1e-5)
    assert terms["kl"].item() == pytest.approx(ratios / BATCH / samples, rel=1e-4)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@losses
def test_one_sample_gives_the_evidence_lower_bound_in_expectation(loss: Any) -> None:
    """And more samples a higher bound (Burda et al. 2016, theorem 1)."""
    found = []
    images = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(3))
    for latent in (Gaussian(1.0), ImportanceWeighted(1), ImportanceWeighted(20)):
        autoencoder = build(latent, "sigmoid" if loss is BCE else "identity").eval()
        generator, values = torch.Generator().manual_seed(0), []
        with torch.no_grad():
            for _ in range(400):
                many = images.repeat(20, 1, 1, 1)
                result = autoencoder(many, autoencoder.draw(len(many), generator))
                values.append(objective(result, many, autoencoder, loss("sum"))["loss"].double())
        found.append((torch.stack(values).mean(), torch.stack(values).std() / 20))
    (elbo, error), (one, one_error), (twenty, twenty_error) = found
    assert abs(elbo - one) < 4 * (error**2 + one_error**2) ** 0.5
    assert elbo - twenty > 8 * (error**2 + twenty_error**2) ** 0.5


@losses
def test_errors_of_images_never_broadcast(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"predictions have shape .* target"):
        loss("sum").nats(torch.zeros(4, 2, 6), torch.zeros(1, 1, 6))
