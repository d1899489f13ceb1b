"""Metrics of hand-made autoencoders compared with sums over plain float64 arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aerun.core.autoencoder import Autoencoder
from aerun.dataset import Split, as_float
from aerun.latent import Deterministic
from aerun.latent import Gaussian as GaussianLatent
from aerun.loss import MAE, MSE
from aerun.metrics.evaluation import corrupted_batches, evaluate
from aerun.noise import Gaussian, Masking, NoNoise
from aerun.sparsity import L1, NoSparsity

SHAPE = (1, 3, 4)
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2300, *SHAPE), dtype=np.uint8))


class Apply(nn.Module):
    """A function as a module, with a parameter that decides device and dtype."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def autoencoder(
    encoder: Callable[[Tensor], Tensor] = lambda x: x.flatten(1),
    decoder: Callable[[Tensor], Tensor] = lambda code: code.view(-1, *SHAPE),
    **parts: Any,
) -> Autoencoder:
    """The identity by default."""
    defaults: dict[str, Any] = {"sparsity": NoSparsity("identity"), "latent": Deterministic(), "code_shape": (12,)}
    return Autoencoder(
        encoder if isinstance(encoder, nn.Module) else Apply(encoder),
        Apply(decoder),
        input_shape=SHAPE,
        output_shape=SHAPE,
        output_activation="identity",
        **{**defaults, **parts},
    )


def split(inputs: Tensor, targets: Tensor | None = None) -> Split:
    return Split(inputs, inputs if targets is None else targets, None)


def metrics(model: Autoencoder, part: Split | None = None, noise: Any = None, loss: Any = None) -> dict[str, float]:
    return evaluate(model, part or split(IMAGES), noise or NoNoise(), loss or MSE("mean"))


def exact(images: Tensor) -> np.ndarray:
    return as_float(images).flatten(1).numpy().astype(np.float64)


def stretched(code: Tensor) -> Tensor:
    """1.5 x - 0.2, which leaves [0,1] at both ends."""
    return (1.5 * code - 0.2).view(-1, *SHAPE)


def test_errors_are_means_over_all_images() -> None:
    result = metrics(autoencoder(decoder=stretched))
    squares, decibels = [], []
    for row in exact(IMAGES):
        output = 1.5 * row - 0.2
        squares.append(sum((output - row) ** 2))
        decibels.append(-10 * math.log10(sum((np.clip(output, 0, 1) - row) ** 2) / 12))
    assert result["sse"] == pytest.approx(np.mean(squares), rel=1e-6)
    assert result["mse"] == pytest.approx(np.mean(squares) / 12, rel=1e-6)
    assert result["psnr"] == pytest.approx(np.mean(decibels), abs=1e-4)
    clipped = np.clip(1.5 * exact(IMAGES) - 0.2, 0, 1) - exact(IMAGES)
    assert result["psnr_pooled"] == pytest.approx(-10 * math.log10(np.mean(clipped**2)), abs=1e-4)
    assert result["psnr_pooled"] < result["psnr"]  # Jensen's inequality
    assert result["loss"] == result["reconstruction"] == pytest.approx(np.mean(squares) / 12, rel=1e-6)


def test_the_loss_is_reduced_as_in_training() -> None:
    outputs, targets = 1.5 * exact(IMAGES) - 0.2, exact(IMAGES)
    summed = metrics(autoencoder(decoder=stretched), loss=MSE("sum"))
    assert summed["loss"] == pytest.approx(((outputs - targets) ** 2).sum(1).mean(), rel=1e-6)
    assert summed["mse"] == pytest.approx(((outputs - targets) ** 2).mean(), rel=1e-6)
    absolute = metrics(autoencoder(decoder=stretched), loss=MAE("mean"))
    assert absolute["loss"] == pytest.approx(np.abs(outputs - targets).mean(), rel=1e-6)


def test_an_exact_reconstruction_has_no_error_and_100_decibels() -> None:
    result = metrics(autoencoder())
    assert result["mse"] == result["sse"] == result["loss"] == 0
    assert result["psnr"] == pytest.approx(100)
    assert result["output_spread"] == pytest.approx(1)


def test_a_known_error_has_known_decibels() -> None:
    black = split(torch.zeros(2, *SHAPE))
    for value, decibels in ((0.1, 20.0), (-5.0, 100.0), (5.0, 0.0)):
        result = metrics(autoencoder(decoder=lambda code, value=value: torch.full((len(code), *SHAPE), value)), black)
        assert result["psnr"] == pytest.approx(decibels) and result["psnr_pooled"] == pytest.approx(decibels)


def test_a_constant_output_has_no_spread_and_the_error_of_a_constant() -> None:
    result = metrics(autoencoder(decoder=lambda code: torch.full((len(code), *SHAPE), 0.25)))
    assert result["output_spread"] == pytest.approx(0, abs=1e-12)
    assert result["mse"] == pytest.approx(((exact(IMAGES) - 0.25) ** 2).mean(), rel=1e-6)


def test_output_spread_is_a_ratio_of_variances() -> None:
    def uneven(code: Tensor) -> Tensor:
        return (code * torch.arange(12) / 12 + 7).view(-1, *SHAPE)

    variances = exact(IMAGES).var(0)
    expected = (variances * (np.arange(12) / 12) ** 2).sum() / variances.sum()
    assert metrics(autoencoder(decoder=uneven))["output_spread"] == pytest.approx(expected, rel=1e-5)


def test_active_and_dead_units_of_a_code() -> None:
    def encoder(images: Tensor) -> Tensor:
        pixels = images.flatten(1)
        zero, constant = torch.zeros(len(pixels), 2), torch.full((len(pixels), 3), 0.7)
        return torch.cat([zero, constant, (pixels[:, :4] - 0.5).relu(), -pixels[:, :3]], 1)

    result = metrics(autoencoder(encoder))
    assert result["dead_units"] == pytest.approx(5 / 12)
    pixels = exact(IMAGES)
    assert result["active_units"] == pytest.approx(
        3 + ((pixels[:, :4] > 0.5).sum(1) + (pixels[:, :3] > 0).sum(1)).mean()
    )


@pytest.mark.parametrize("image", [0, 999, 1000, 2299])
@pytest.mark.parametrize(("usual", "other"), [(0, 1), (1, 0)])
def test_a_unit_that_one_image_changes_is_not_dead(usual: int, other: int, image: int) -> None:
    part = torch.full_like(IMAGES, usual)
    part[image, 0, 0, 0] = other
    result = metrics(autoencoder(), split(part))
    assert result["dead_units"] == pytest.approx(11 / 12)
    assert result["active_units"] == pytest.approx(12 * usual + (other - usual) / 2300)


def test_units_of_a_feature_map_are_channels() -> None:
    def encoder(images: Tensor) -> Tensor:
        return torch.cat([images, torch.full_like(images, 2.0), torch.zeros_like(images)], 1)

    part = split(torch.full_like(IMAGES, 255).index_fill(3, torch.tensor([0]), 0))
    result = metrics(autoencoder(encoder, lambda code: code[:, :1], code_shape=(3, 3, 4)), part)
    assert result["dead_units"] == pytest.approx(2 / 3)
    assert result["active_units"] == pytest.approx(9 + 12)


def test_penalties_are_reported_unweighted() -> None:
    result = metrics(autoencoder(sparsity=L1(weight=0.5, activation="identity")))
    assert result["l1"] == pytest.approx(exact(IMAGES).sum(1).mean(), rel=1e-6)
    assert result["loss"] == pytest.approx(0.5 * result["l1"], rel=1e-6)


def test_a_stochastic_code_is_drawn_for_the_loss_and_not_for_the_errors() -> None:
    def encoder(images: Tensor) -> Tensor:
        means = images.flatten(1)
        return torch.cat([means, torch.full_like(means, math.log(0.04))], 1)

    result = metrics(autoencoder(encoder, latent=GaussianLatent(beta=0.0)))
    assert result["mse"] == 0 and result["psnr"] == pytest.approx(100)
    # The mean of 27,600 squared normal numbers of variance 0.04, within 5 of its deviations.
    assert result["reconstruction"] == pytest.approx(0.04, abs=5 * 0.04 * math.sqrt(2 / 27_600))
    assert result["kl"] == pytest.approx(0.5 * (exact(IMAGES) ** 2 + 0.04 - math.log(0.04) - 1).sum(1).mean(), rel=1e-5)


def test_masked_input_has_the_decibels_of_what_is_missing() -> None:
    white = split(torch.full((1500, *SHAPE), 255, dtype=torch.uint8))
    result = metrics(autoencoder(decoder=lambda code: torch.ones(len(code), *SHAPE)), white, Masking(0.25, 0.0))
    assert result["input_psnr"] == pytest.approx(-10 * math.log10(0.25), abs=1e-5)
    assert result["mse"] == 0


def test_noisy_input_is_clipped_before_its_decibels_are_taken() -> None:
    black = split(torch.zeros(1500, 1, 3, 4, dtype=torch.uint8))
    result = metrics(autoencoder(), black, Gaussian(mean=-0.5, variance=0.0, clip=False))
    assert result["input_psnr"] == pytest.approx(100)
    assert result["mse"] == pytest.approx(0.25)


def test_clean_or_differently_shaped_input_has_no_decibels() -> None:
    assert "input_psnr" not in metrics(autoencoder())
    larger = torch.zeros(5, 1, 6, 8)
    part = split(larger, as_float(IMAGES[:5]))
    model = autoencoder(lambda images: images[:, :, ::2, ::2].flatten(1))
    assert "input_psnr" not in metrics(model, part, Masking(0.5, 0.0))


def test_targets_and_inputs_of_their_own_are_compared_rightly() -> None:
    targets = IMAGES.flip(0)
    result = metrics(autoencoder(), split(IMAGES, targets))
    assert result["mse"] == pytest.approx(((exact(IMAGES) - exact(targets)) ** 2).mean(), rel=1e-6)


@pytest.mark.parametrize("row", [0, 1200])
@pytest.mark.parametrize("value", [1.5, -0.5])
@pytest.mark.parametrize("name", ["psnr", "input_psnr"])
def test_no_decibels_where_a_target_leaves_the_unit_range(name: str, value: float, row: int) -> None:
    images = as_float(IMAGES[:1500]).clone()
    assert name in metrics(autoencoder(), split(images), Masking(0.5, 0.0))
    images[row, 0, 0, 0] = value
    assert name not in metrics(autoencoder(), split(images), Masking(0.5, 0.0))


def test_repeated_calls_and_the_seed_of_the_run_change_nothing() -> None:
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        model = autoencoder(lambda x: x.flatten(1).repeat(1, 2), latent=GaussianLatent(beta=1.0))
        results.append(metrics(model, noise=Gaussian(mean=0.0, variance=0.1, clip=False)))
        assert torch.equal(torch.get_rng_state(), before)
    assert results[0] == results[1] == results[2]


def test_batches_are_of_1000_in_order_each_with_noise_of_its_own() -> None:
    noise = Gaussian(mean=0.0, variance=0.1, clip=False)
    batches = list(corrupted_batches(split(IMAGES), noise))
    assert [len(noisy) for _, noisy, _ in batches] == [1000, 1000, 300]
    assert torch.equal(torch.cat([clean for clean, _, _ in batches]), as_float(IMAGES))
    assert torch.equal(torch.cat([targets for _, _, targets in batches]), as_float(IMAGES))
    draws = [noisy for _, noisy, _ in corrupted_batches(split(torch.zeros(2300, *SHAPE)), noise)]
    assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[0][:300], draws[2])


def test_the_noise_of_a_batch_does_not_depend_on_what_follows() -> None:
    noise = Gaussian(mean=0.0, variance=0.1, clip=False)
    [first, *_], [alone] = (list(corrupted_batches(split(IMAGES[:n]), noise)) for n in (2300, 1000))
    assert torch.equal(first[1], alone[1])


@pytest.mark.parametrize("count", [1, 999, 1000, 1001])
def test_parts_of_any_size_are_averaged_over_images(count: int) -> None:
    result = metrics(autoencoder(decoder=stretched), split(IMAGES[:count]))
    errors = (1.5 * exact(IMAGES[:count]) - 0.2 - exact(IMAGES[:count])) ** 2
    assert result["loss"] == pytest.approx(errors.mean(), rel=1e-5)
    assert result["sse"] == pytest.approx(errors.sum(1).mean(), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_evaluated_without_dropout_and_left_as_it_was(training: bool) -> None:
    model = autoencoder(nn.Sequential(nn.Flatten(), nn.Dropout(0.5))).train(training)
    assert metrics(model)["mse"] == 0
    assert model.training == training and model.encoder.training == training


def test_no_gradients_are_kept() -> None:
    model = autoencoder(nn.Sequential(nn.Flatten(), nn.Linear(12, 12)))
    metrics(model)
    assert all(parameter.grad is None for parameter in model.parameters())
