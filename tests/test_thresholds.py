"""Sparsities with thresholds, and dead units, against plain loops in float64: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aerun.config.parse import parse
from aerun.core.autoencoder import Autoencoder, objective
from aerun.errors import ConfigError
from aerun.sparsity import BatchTopK, Gated, JumpReLU
from aerun.training.build import build_autoencoder, prepare

Compose = Callable[[Sequence[str]], dict[str, Any]]
SHAPES = {"vectors": (6, 10), "maps": (6, 4, 3, 2)}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
TINY = [
    *("dataset=random", "dataset.images=64", "dataset.shape=[12]", "model=fc", "model.code_size=8"),
    *(
        "model.activation=relu",
        "trainer.batch_size=16",
        "trainer.figures=none",
        "trainer.device=cpu",
        "trainer.threads=1",
    ),
]


def normal(shape: Sequence[int], seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def as_double(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@shapes
def test_batch_topk_keeps_k_values_a_row_on_average(shape: tuple[int, ...]) -> None:
    part = BatchTopK(k=3, decay=0.75, activation="relu").build(shape[1:])
    average = 0.0
    for number in range(6):
        features = normal(shape, number).requires_grad_()
        slope = normal(shape, 100)
        code, terms = part(features, True)
        (code * slope).sum().backward()
        values = np.maximum(as_double(features), 0)
        kept = sorted((place for place in product(*map(range, shape))), key=lambda place: values[place])[-3 * 6 :]
        expected, gradient = np.zeros(shape), np.zeros(shape)
        for place in kept:
            if values[place] > 0:
                expected[place], gradient[place] = values[place], slope[place]
        np.testing.assert_allclose(as_double(code), expected, rtol=1e-6)
        np.testing.assert_allclose(as_double(features.grad), gradient, rtol=1e-6)
        assert terms == []
        share = max(1 / (number + 1), 0.25)
        average += share * (min(values[place] for place in kept if values[place] > 0) - average)
    assert part.threshold.item() == pytest.approx(average, rel=1e-5)
    features = normal(shape, 50)
    code, _ = part(features, False)
    np.testing.assert_allclose(as_double(code), np.where(as_double(features) >= average, as_double(features), 0))
    assert torch.equal(torch.cat([part(row, False)[0] for row in features.split(1)]), code)
    assert part.threshold.item() == pytest.approx(average, rel=1e-5)  # evaluation does not move it


def test_a_batch_without_positive_values_leaves_the_threshold() -> None:
    part = BatchTopK(k=2, decay=0.9, activation="relu").build((4,))
    part(torch.tensor([[0.5, 3.0, 1.0, 2.0]]), True)
    part(-torch.ones(1, 4), True)
    assert (part.threshold.item(), part.steps.item()) == (2.0, 1)


@shapes
def test_jumprelu_is_a_step_with_the_gradients_of_a_kernel(shape: tuple[int, ...]) -> None:
    width = 0.6
    part = JumpReLU(weight=0.1, threshold=0.4, bandwidth=width, activation="relu").build(shape[1:])
    with torch.no_grad():
        part.log_threshold += 0.3 * normal(part.log_threshold.shape, 7)
    features, slope = normal(shape).requires_grad_(), normal(shape, 1)
    code, [penalty] = part(features, True)
    ((code * slope).sum() + 5 * penalty.value).backward()
    thresholds = as_double(part.log_threshold.exp()).reshape(-1)
    expected, gradient = np.zeros(shape), np.zeros(shape)
    count, of_threshold = 0, np.zeros(shape[1])
    for place, value in np.ndenumerate(as_double(features)):
        theta = thresholds[place[1]]
        if value > theta:
            expected[place], gradient[place] = value, slope[place]
            count += 1
        if abs(value - theta) / width <= 0.5:
            of_threshold[place[1]] -= float(slope[place]) * theta / width + 5 / (width * shape[0])
    np.testing.assert_allclose(as_double(code), expected, rtol=1e-6)
    np.testing.assert_allclose(as_double(features.grad), gradient, rtol=1e-6)
    assert (penalty.name, penalty.weight, penalty.value.item()) == ("l0", 0.1, pytest.approx(count / shape[0]))
    assert (of_threshold != 0).sum() > 2
    np.testing.assert_allclose(as_double(part.log_threshold.grad).reshape(-1), of_threshold * thresholds, rtol=1e-4)


@shapes
def test_gated_separates_the_gate_from_the_magnitude(shape: tuple[int, ...]) -> None:
    part = Gated(weight=0.1, activation="relu").build(shape[1:])
    with torch.no_grad():
        part.log_scale += 0.3 * normal(part.log_scale.shape, 7)
        part.bias += 0.5 * normal(part.bias.shape, 8)
    features, slope = normal(shape).requires_grad_(), normal(shape, 1)
    code, [penalty] = part(features, True)
    ((code * slope).sum() + 5 * penalty.value).backward()
    scales, biases = as_double(part.log_scale.exp()).reshape(-1), as_double(part.bias).reshape(-1)
    expected, gradient, of_bias, of_scale = np.zeros(shape), np.zeros(shape), *np.zeros((2, shape[1]))
    total = 0.0
    for place, value in np.ndenumerate(as_double(features)):
        magnitude = scales[place[1]] * value + biases[place[1]]
        if value > 0:
            total += value
            gradient[place] += 5 / shape[0]
            if magnitude > 0:
                expected[place] = magnitude
                gradient[place] += slope[place] * scales[place[1]]
                of_bias[place[1]] += slope[place]
                of_scale[place[1]] += float(slope[place]) * scales[place[1]] * value
    np.testing.assert_allclose(as_double(code), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(as_double(features.grad), gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(as_double(part.bias.grad).reshape(-1), of_bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(as_double(part.log_scale.grad).reshape(-1), of_scale, rtol=1e-4, atol=1e-5)
    assert penalty.value.item() == pytest.approx(total / shape[0], rel=1e-5)


def built(compose: Compose, *words: str) -> tuple[Autoencoder, Any, Tensor]:
    """An autoencoder in training mode, its loss, and ten inputs."""
    settings = parse(compose([*TINY, *words]))
    autoencoder = build_autoencoder(settings, settings.dataset.load(prepare(settings)))
    return autoencoder.train(), settings.loss, torch.rand(10, 12, generator=torch.Generator().manual_seed(3))


def linear_layers(autoencoder: Autoencoder) -> tuple[np.ndarray, ...]:
    """Weights and biases of model=fc in float64: W [8,12], b, V [12,8], c."""
    state = autoencoder.state_dict()
    names = ("encoder.1.weight", "encoder.1.bias", "decoder.0.weight", "decoder.0.bias")
    return tuple(as_double(state[name]) for name in names)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_gate_reconstructs_with_a_frozen_decoder(compose: Compose, reduction: str) -> None:
    autoencoder, loss, images = built(compose, "sparsity=gated", f"loss.reduction={reduction}")
    w, b, v, c = linear_layers(autoencoder)
    x = as_double(images)
    gate = x @ w.T + b
    errors = np.maximum(gate, 0) @ v.T + c - x
    share = 1 / 12 if reduction == "mean" else 1.0
    terms = objective(autoencoder(images), images, autoencoder, loss)
    assert terms["gate_reconstruction"].item() == pytest.approx((errors**2).sum(1).mean() * share, rel=1e-5)
    total = terms["reconstruction"] + 1e-4 * terms["gate_l1"] + terms["gate_reconstruction"]
    assert terms["loss"].item() == pytest.approx(total.item(), rel=1e-6)
    terms["gate_reconstruction"].backward()
    assert all(parameter.grad is None for parameter in autoencoder.decoder.parameters())
    slope = 2 * share / 10 * (errors @ v) * (gate > 0)
    np.testing.assert_allclose(as_double(autoencoder.get_parameter("encoder.1.weight").grad), slope.T @ x, rtol=1e-4)


def test_every_prefix_of_a_matryoshka_reconstructs(compose: Compose) -> None:
    autoencoder, loss, images = built(
        compose, "sparsity=matryoshka", "sparsity.k=3", "sparsity.prefixes=[0.25,0.5]", "sparsity.weight=0.7"
    )
    _, _, v, c = linear_layers(autoencoder)
    result = autoencoder(images)
    code, x = as_double(result.code), as_double(images)
    errors = [((code[:, :size] @ v[:, :size].T + c - x) ** 2).mean() for size in (2, 4)]
    terms = objective(result, images, autoencoder, loss)
    assert terms["prefixes"].item() == pytest.approx(sum(errors), rel=1e-5)
    assert terms["loss"].item() == pytest.approx(terms["reconstruction"].item() + 0.7 * sum(errors), rel=1e-5)
    terms["prefixes"].backward()
    gradient = np.zeros((12, 8))
    for size in (2, 4):
        gradient[:, :size] += 2 / 120 * (code[:, :size] @ v[:, :size].T + c - x).T @ code[:, :size]
    found = autoencoder.get_parameter("decoder.0.weight").grad
    np.testing.assert_allclose(as_double(found), gradient, rtol=1e-4, atol=1e-8)


def test_dead_units_reconstruct_the_residual(compose: Compose) -> None:
    """Units 1 and 5 are dead for two steps; then unit 5 is active."""
    words = ["regularizer=aux_k", "regularizer.aux_k.k=1", "regularizer.aux_k.after_steps=2", "sparsity=topk"]
    autoencoder, loss, images = built(compose, *words, "sparsity.k=2", "loss.reduction=sum")
    with torch.no_grad():
        autoencoder.get_parameter("encoder.1.bias")[[1, 5]] -= 0.5
        autoencoder.get_parameter("encoder.1.bias")[[0, 2, 3, 4, 6, 7]] += 3
    w, b, v, c = linear_layers(autoencoder)
    x = as_double(images)
    features = x @ w.T + b
    for step in range(3):
        terms = objective(autoencoder(images), images, autoencoder, loss)
        code = as_double(autoencoder(images).code)
        idle = ~(code != 0).any(0)
        assert idle[[1, 5]].all()
        residual = x - (code @ v.T + c)
        chosen = np.zeros_like(features)
        for row in range(len(x) if step else 0):  # none is dead after one step
            best = max((unit for unit in range(8) if idle[unit]), key=lambda unit: features[row, unit])
            chosen[row, best] = max(features[row, best], 0)
        left = residual - chosen @ v.T
        assert terms["aux_k"].item() == pytest.approx((left**2).sum(1).mean(), rel=1e-5)
    assert chosen.any()
    autoencoder.zero_grad()
    terms["aux_k"].backward()
    np.testing.assert_allclose(
        as_double(autoencoder.get_parameter("decoder.0.weight").grad), -2 / 10 * left.T @ chosen, rtol=1e-4, atol=1e-6
    )
    slope = -2 / 10 * (left @ v) * (chosen > 0)
    found = autoencoder.get_parameter("encoder.1.weight").grad
    np.testing.assert_allclose(as_double(found), slope.T @ x, rtol=1e-4, atol=1e-6)
    counts = autoencoder.get_buffer("regularizer.aux_k.idle").clone()
    assert counts[[1, 5]].tolist() == [3, 3]
    autoencoder.eval()
    objective(autoencoder(images), images, autoencoder, loss)
    assert autoencoder.get_buffer("regularizer.aux_k.idle").equal(counts)
    autoencoder.train()
    with torch.no_grad():
        autoencoder.get_parameter("encoder.1.bias")[5] += 99
    objective(autoencoder(images), images, autoencoder, loss)
    assert autoencoder.get_buffer("regularizer.aux_k.idle")[[1, 5]].tolist() == [4, 0]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["sparsity=gated", "model.tied=true"], "model.tied=true and sparsity=gated"),
        (["sparsity=batch_topk", "sparsity.k=9"], "sparsity.k=9 is larger than the code size, model.code_size=8"),
        (["sparsity=matryoshka", "sparsity.k=2", "sparsity.prefixes=[0.5,0.25]"], "must be ascending shares"),
        (["sparsity=matryoshka", "sparsity.k=1", "model.code_size=1"], "a code of one unit has no prefixes"),
        (["latent=gaussian", "regularizer=aux_k"], "regularizer=aux_k and latent="),
        (["sparsity=jumprelu", "sparsity.activation=tanh"], "sparsity.activation=tanh"),
    ],
)
def test_what_does_not_fit_is_rejected_in_a_line(compose: Compose, words: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        built(compose, *words)
    assert text in str(refusal.value) and "\n" not in str(refusal.value)
