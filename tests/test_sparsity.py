"""Every constraint on the code against plain loops in float64: values, gradients, and how many entries stay."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from torch import Tensor

from aerun.sparsity import KL, L1, Lifetime, NoSparsity, TopK, TopKLifetime

SHAPES = {"vectors": (8, 10), "maps": (8, 4, 3, 5)}
# The function and its derivative.
ACTIVATIONS = {
    "identity": (lambda x: x, lambda x: 1.0),
    "relu": (lambda x: max(x, 0.0), lambda x: float(x > 0)),
    "leaky_relu": (lambda x: x if x > 0 else 0.01 * x, lambda x: 1.0 if x > 0 else 0.01),
    "tanh": (math.tanh, lambda x: 1 - math.tanh(x) ** 2),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
activations = pytest.mark.parametrize("activation", ACTIVATIONS)

Place = tuple[int, ...]


def rows(shape: Place) -> list[list[Place]]:
    """The places among which TopK chooses: a sample's features, or one channel's positions in one sample."""
    inner = [range(size) for size in (shape[1:] if len(shape) == 2 else shape[2:])]
    outer = [range(size) for size in (shape[:1] if len(shape) == 2 else shape[:2])]
    return [[(*start, *end) for end in product(*inner)] for start in product(*outer)]


def units(shape: Place) -> list[list[Place]]:
    """The places among which Lifetime chooses: a feature in all samples, a channel in all samples and positions."""
    everywhere = list(product(*[range(size) for size in shape]))
    return [[place for place in everywhere if place[1] == unit] for unit in range(shape[1])]


def largest(code: np.ndarray, groups: list[list[Place]], count: int) -> np.ndarray:
    chosen = np.zeros(code.shape, dtype=bool)
    for group in groups:
        for place in sorted(group, key=lambda place: code[place])[-count:]:
            chosen[place] = True
    return chosen


def winners(sparsity: Any, code: np.ndarray, training: bool) -> np.ndarray:
    """Which entries of the activated code survive."""
    shape, batch = code.shape, code.shape[0]
    everything = np.ones(shape, dtype=bool)
    alive = largest(code, rows(shape), sparsity.k) if hasattr(sparsity, "k") else everything
    if not hasattr(sparsity, "fraction") or not training:
        return alive
    per_unit = {
        Lifetime: batch * math.prod(shape[2:]),
        TopKLifetime: batch * (sparsity.k if len(shape) > 2 and hasattr(sparsity, "k") else 1),
    }[type(sparsity)]
    groups = [[place for place in unit if alive[place]] for unit in units(shape)]
    return largest(code, groups, max(1, round(sparsity.fraction * per_unit)))


def check(sparsity: Any, features: Tensor, training: bool) -> None:
    """Code and gradient of sum(code * slope) against the loops."""
    apply, derivative = ACTIVATIONS[sparsity.activation]
    values = features.double().numpy()
    activated = np.vectorize(apply, otypes=[float])(values)
    alive = winners(sparsity, activated, training)
    slope = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    gradient = slope.double().numpy() * np.vectorize(derivative, otypes=[float])(values) * alive

    leaf = features.clone().requires_grad_()
    code, penalties = sparsity(leaf, training)
    (code * slope).sum().backward()
    assert penalties == []
    np.testing.assert_allclose(code.detach().numpy(), activated * alive, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(leaf.grad.numpy(), gradient, rtol=1e-5, atol=1e-6)


def normal(shape: Place, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@shapes
@activations
@pytest.mark.parametrize("training", [True, False])
def test_no_sparsity_is_the_activation(shape: Place, activation: str, training: bool) -> None:
    check(NoSparsity(activation), normal(shape), training)


@shapes
@activations
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_topk_keeps_the_largest_of_each_row(shape: Place, activation: str, training: bool, k: int) -> None:
    check(TopK(k, activation), normal(shape), training)


@shapes
@activations
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fraction", [0.05, 0.25, 1.0])
def test_lifetime_keeps_the_largest_of_each_unit(
    shape: Place, activation: str, training: bool, fraction: float
) -> None:
    check(Lifetime(fraction, activation), normal(shape), training)


@shapes
@activations
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("k", "fraction"), [(1, 0.25), (2, 0.5), (3, 0.05)])
def test_topk_lifetime_is_lifetime_among_the_survivors_of_topk(
    shape: Place, activation: str, training: bool, k: int, fraction: float
) -> None:
    check(TopKLifetime(k, fraction, activation), normal(shape), training)


@shapes
@pytest.mark.parametrize("activation", ["identity", "leaky_relu"])
@pytest.mark.parametrize("sparsity", ["topk", "lifetime", "topk_lifetime"])
def test_negative_features_compare_by_signed_value(shape: Place, activation: str, sparsity: str) -> None:
    features = -0.1 - torch.rand(shape, generator=torch.Generator().manual_seed(0))
    part = {
        "topk": TopK(2, activation),
        "lifetime": Lifetime(0.25, activation),
        "topk_lifetime": TopKLifetime(2, 0.25, activation),
    }[sparsity]
    check(part, features, training=True)


def test_topk_prefers_a_small_positive_feature_to_a_large_negative_one() -> None:
    code, _ = TopK(1, "identity")(torch.tensor([[-9.0, 0.5, -0.1]]), True)
    assert code.tolist() == [[0.0, 0.5, 0.0]]


@pytest.mark.parametrize("k", [1, 4, 10])
def test_topk_leaves_exactly_k_features_a_sample(k: int) -> None:
    code, _ = TopK(k, "identity")(normal((8, 10)), True)
    assert (code != 0).sum(1).tolist() == [k] * 8


@pytest.mark.parametrize("k", [1, 4, 15])
def test_topk_leaves_exactly_k_positions_a_channel(k: int) -> None:
    code, _ = TopK(k, "identity")(normal((8, 4, 3, 5)), True)
    assert (code != 0).sum((2, 3)).tolist() == [[k] * 4] * 8


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 1), (0.125, 1), (0.2, 2), (0.3, 2), (0.75, 6), (1.0, 8)])
def test_lifetime_leaves_exactly_its_share_of_the_batch(fraction: float, count: int) -> None:
    code, _ = Lifetime(fraction, "identity")(normal((8, 10)), True)
    assert (code != 0).sum(0).tolist() == [count] * 10


@pytest.mark.parametrize(("fraction", "count"), [(0.001, 1), (0.05, 6), (0.5, 60), (1.0, 120)])
def test_lifetime_leaves_exactly_its_share_of_a_channel(fraction: float, count: int) -> None:
    code, _ = Lifetime(fraction, "identity")(normal((8, 4, 3, 5)), True)
    assert (code != 0).sum((0, 2, 3)).tolist() == [count] * 4


@pytest.mark.parametrize(("k", "fraction", "count"), [(1, 0.25, 2), (2, 0.25, 4), (3, 0.5, 12), (1, 0.01, 1)])
def test_topk_lifetime_leaves_fraction_times_batch_times_k_a_channel(k: int, fraction: float, count: int) -> None:
    code, _ = TopKLifetime(k, fraction, "identity")(normal((8, 4, 3, 5)), True)
    assert (code != 0).sum((0, 2, 3)).tolist() == [count] * 4
    assert (code != 0).sum((2, 3)).max() <= k


def test_topk_lifetime_leaves_the_share_of_the_batch_or_all_survivors_of_a_unit() -> None:
    features = normal((8, 10)) + 10
    survivors = (TopK(4, "identity")(features, True)[0] != 0).sum(0)
    code, _ = TopKLifetime(4, 0.25, "identity")(features, True)
    assert (code != 0).sum(0).tolist() == [min(2, int(count)) for count in survivors]


@shapes
def test_topk_selects_in_evaluation_as_in_training(shape: Place) -> None:
    features = normal(shape)
    assert TopK(2, "relu")(features, True)[0].equal(TopK(2, "relu")(features, False)[0])


@shapes
def test_lifetime_is_dense_in_evaluation(shape: Place) -> None:
    assert Lifetime(0.1, "identity")(normal(shape), False)[0].equal(normal(shape))


@shapes
def test_topk_lifetime_is_topk_in_evaluation(shape: Place) -> None:
    features = normal(shape)
    assert TopKLifetime(2, 0.1, "relu")(features, False)[0].equal(TopK(2, "relu")(features, False)[0])


@shapes
@pytest.mark.parametrize(
    "sparsity",
    [TopK(2, "relu"), Lifetime(0.1, "relu"), TopKLifetime(2, 0.1, "relu"), L1(1.0, "relu"), KL(0.05, 1.0, "sigmoid")],
    ids=lambda sparsity: type(sparsity).__name__,
)
def test_an_image_has_one_code_in_evaluation_whatever_its_batch(shape: Place, sparsity: Any) -> None:
    features = normal(shape)
    alone = torch.cat([sparsity(one, False)[0] for one in features.split(1)])
    torch.testing.assert_close(sparsity(features, False)[0], alone, rtol=1e-6, atol=0)


@shapes
@activations
@pytest.mark.parametrize("training", [True, False])
def test_l1_is_the_mean_over_the_batch_of_sums_of_absolute_values(
    shape: Place, activation: str, training: bool
) -> None:
    apply, derivative = ACTIVATIONS[activation]
    features = normal(shape)
    total, gradient = 0.0, np.zeros(shape)
    for place, value in np.ndenumerate(features.double().numpy()):
        total += abs(apply(value)) / shape[0]
        gradient[place] = math.copysign(1, apply(value)) * derivative(value) / shape[0]

    leaf = features.clone().requires_grad_()
    code, [penalty] = L1(0.3, activation)(leaf, training)
    penalty.value.backward()
    assert code.equal(NoSparsity(activation)(features, training)[0])
    assert (penalty.name, penalty.weight, penalty.per_image) == ("l1", 0.3, False)
    assert penalty.value.item() == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(leaf.grad.numpy(), gradient, rtol=1e-5, atol=1e-7)


def kl_gradient(features: np.ndarray, rho: float) -> np.ndarray:
    """By the chain rule: (1-rho)/(1-q) - rho/q, times the sigmoid's slope, over the number of entries."""
    code = scipy.special.expit(features)
    gradient = np.zeros(features.shape)
    for group in units(features.shape):
        on = sum(code[place] for place in group) / len(group)
        off = sum(scipy.special.expit(-features[place]) for place in group) / len(group)
        for place in group:
            slope = code[place] * scipy.special.expit(-features[place])
            gradient[place] = ((1 - rho) / off - rho / on) * slope / len(group)
    return gradient


@shapes
@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("training", [True, False])
def test_kl_is_the_divergence_between_bernoulli_distributions(shape: Place, rho: float, training: bool) -> None:
    features = normal(shape)
    code = scipy.special.expit(features.double().numpy())
    means = [np.mean([code[place] for place in group]) for group in units(shape)]
    expected = sum(scipy.special.rel_entr(rho, q) + scipy.special.rel_entr(1 - rho, 1 - q) for q in means)

    leaf = features.clone().requires_grad_()
    result, [penalty] = KL(rho, 0.2, "sigmoid")(leaf, training)
    penalty.value.backward()
    np.testing.assert_allclose(result.detach().numpy(), code, rtol=1e-6)
    assert (penalty.name, penalty.weight, penalty.per_image) == ("kl_sparsity", 0.2, False)
    assert penalty.value.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(leaf.grad.numpy(), kl_gradient(features.double().numpy(), rho), rtol=1e-4, atol=1e-7)


def test_kl_vanishes_where_every_mean_is_rho() -> None:
    features = torch.full((4, 3), math.log(0.2 / 0.8), requires_grad=True)
    _, [penalty] = KL(0.2, 1.0, "sigmoid")(features, True)
    penalty.value.backward()
    assert penalty.value.item() == pytest.approx(0, abs=1e-6)
    assert features.grad.abs().max() < 1e-6


@shapes
def test_kl_keeps_the_code_inside_the_unit_interval(shape: Place) -> None:
    code, _ = KL(0.05, 1.0, "sigmoid")(4 * normal(shape), True)
    assert code.min() > 0 and code.max() < 1


@shapes
@pytest.mark.parametrize("level", [-1e4, 1e4])
def test_kl_is_finite_where_units_are_saturated(shape: Place, level: float) -> None:
    features = normal(shape)
    features[:, 0] = level
    features.requires_grad_()
    code, [penalty] = KL(0.05, 1.0, "sigmoid")(features, True)
    (penalty.value + code.sum()).backward()
    assert torch.isfinite(penalty.value) and penalty.value > 0.05 * math.log(0.05 / 0.5)
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("level", [-15.0, -20.0])
def test_kl_still_pushes_a_unit_that_has_died(level: float) -> None:
    """The steepness of the divergence makes up for the flatness of the sigmoid: the push tends to rho, not to 0."""
    features = torch.full((4, 3), level, requires_grad=True)
    _, [penalty] = KL(0.05, 1.0, "sigmoid")(features, True)
    penalty.value.backward()
    np.testing.assert_allclose(features.grad.numpy(), kl_gradient(features.detach().double().numpy(), 0.05), rtol=1e-4)
