"""Quantized latents against loops in float64, closed forms, and vector-quantize-pytorch 1.32.0 if installed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aerun.config.parse import parse
from aerun.errors import ConfigError
from aerun.latent import FSQ, LFQ, VQ, ResidualVQ

Compose = Callable[[Sequence[str]], dict[str, Any]]
KEYS: dict[str, Any] = {
    **{"entries": 6, "dimension": 2, "shared": True, "update": "ema", "decay": 0.8, "commitment": 0.25},
    **{"restart": 0.0, "restart_every": 1},
}
SHAPES = [(4,), (4, 3, 2)]


def vq(**keys: Any) -> VQ:
    return VQ(**{**KEYS, "distance": "euclidean", **keys})


def residual(**keys: Any) -> ResidualVQ:
    return ResidualVQ(**{**KEYS, "stages": 3, **keys})


PARTS = {
    "shared": vq(),
    "separate": vq(shared=False),
    "gradient": vq(update="gradient"),
    "cosine": vq(distance="cosine", shared=False),
    "residual": residual(),
    "residual separate": residual(shared=False, update="gradient"),
    "fsq": FSQ([5, 4]),
    "lfq": LFQ(2, 0.25, 0.1, 1.0, 1.0),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(part: Any, shape: tuple[int, ...], steps: int = 3) -> Any:
    torch.manual_seed(0)
    module = part.build(shape)
    for seed in range(steps):
        module(normal(8, *shape, seed=seed), None)
    return module.eval()


def vectors_of(features: np.ndarray, dimension: int) -> np.ndarray:
    """features[B,C,...] -> vectors[B,heads,positions,dimension], value by value."""
    count, channels = features.shape[:2]
    flat = features.reshape(count, channels, -1)
    result = np.empty((count, channels // dimension, flat.shape[2], dimension))
    for b, c, p in itertools.product(range(count), range(channels), range(flat.shape[2])):
        result[b, c // dimension, p, c % dimension] = flat[b, c, p]
    return result


@pytest.mark.parametrize("shape", SHAPES, ids=["vectors", "maps"])
@pytest.mark.parametrize("name", PARTS)
def test_a_code_is_restored_from_its_indices_to_the_last_bit(name: str, shape: tuple[int, ...]) -> None:
    part = trained(PARTS[name], shape)
    features = normal(5, *shape, seed=9)
    code, indices = part(features, None)[0], part.indices(features)
    codebooks = part.codebooks
    assert indices.shape[0] == 5 and indices.shape[1:3] == codebooks.shape[:2]
    assert indices[0].numel() == codebooks.shape[0] * math.prod(shape) // codebooks.shape[-1]
    assert int(indices.min()) >= 0 and int(indices.max()) < codebooks.shape[2]
    assert part.from_indices(indices).equal(code) and code.shape == features.shape
    assert part.from_indices(indices[:0]).shape == (0, *shape)


@pytest.mark.parametrize("shape", SHAPES, ids=["vectors", "maps"])
@pytest.mark.parametrize("name", ["shared", "separate", "gradient", "residual", "residual separate"])
def test_the_code_is_that_of_a_loop_over_vectors_and_entries(name: str, shape: tuple[int, ...]) -> None:
    part = trained(PARTS[name], shape)
    features = normal(5, *shape, seed=9)
    code, terms = part(features, None)
    codebooks = part.codebooks.detach().double().numpy()
    cut = vectors_of(features.double().numpy(), 2)
    expected, errors = np.zeros_like(cut), [[] for _ in codebooks]
    used = np.zeros(codebooks.shape[:3])
    for b, h, p in np.ndindex(cut.shape[:3]):
        left, group = cut[b, h, p], h if codebooks.shape[1] > 1 else 0
        for stage, books in enumerate(codebooks):
            k = int(np.argmin(((books[group] - left) ** 2).sum(1)))
            expected[b, h, p] += books[group, k]
            left = left - books[group, k]
            errors[stage].append((left**2).mean())
            used[stage, group, k] += 1
    np.testing.assert_allclose(vectors_of(code.detach().double().numpy(), 2), expected, rtol=1e-5, atol=1e-6)
    values = {term.name: float(term.value.detach()) for term in terms}
    assert math.isclose(values["commitment"], np.mean(errors), rel_tol=1e-5)
    assert math.isclose(values.get("codebook", values["commitment"]), np.mean(errors), rel_tol=1e-5)
    share = used / used.sum(-1, keepdims=True)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(-1)
    assert math.isclose(values["perplexity"], np.exp(entropy).mean(), rel_tol=1e-5)


def test_averages_move_and_entries_restart_as_in_a_loop() -> None:
    """van den Oord et al. 2017, appendix A.1, entry by entry in float64."""
    torch.manual_seed(0)
    part = vq(restart=0.9, restart_every=4).build((4, 3))
    before = np.random.default_rng(0)
    restarted = 0
    for step in range(16):
        features = before.standard_normal((5, 4, 3)) * (1 + step % 3)
        vectors = vectors_of(features, 2).reshape(-1, 2)
        if step == 0:
            part(torch.from_numpy(features).float(), None)
            codebook, counts = part.codebook[0, 0].double().numpy(), part.counts[0, 0].double().numpy()
            continue
        nearest = np.array([np.argmin(((codebook - z) ** 2).sum(1)) for z in vectors])
        for k in range(6):
            mine = vectors[nearest == k]
            m = 0.8 * counts[k] * codebook[k] + 0.2 * mine.sum(0)
            counts[k] = 0.8 * counts[k] + 0.2 * len(mine)
            codebook[k] = m / counts[k]
        part(torch.from_numpy(features).float(), None)
        new = part.codebook[0, 0].double().numpy()
        dead = counts < 0.9 * counts.mean() if (step + 1) % 4 == 0 else np.zeros(6, bool)
        mean = counts.mean()
        for k in np.flatnonzero(dead):  # a vector of this minibatch, and another for each
            assert np.isclose(vectors, new[k], rtol=1e-5).all(1).any()
            codebook[k], counts[k] = new[k], mean
        assert len(np.unique(new[dead], axis=0)) == dead.sum()
        restarted += dead.sum()
        np.testing.assert_allclose(new, codebook, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(part.counts[0, 0].numpy(), counts, rtol=1e-4)
    assert restarted and int(part.steps) == 16
    kept = {name: value.clone() for name, value in part.eval().state_dict().items()}
    part(torch.from_numpy(features).float(), None)
    assert all(value.equal(kept[name]) for name, value in part.state_dict().items())


@pytest.mark.parametrize("name", ["gradient", "residual separate"])
def test_entries_start_as_different_vectors_of_the_first_minibatch(name: str) -> None:
    part, features = PARTS[name].build((4, 3)), normal(8, 4, 3)
    part(features, None)
    for first, vectors in zip(part.codebooks[0].detach(), part.split(features), strict=True):
        assert len(torch.unique(first, dim=0)) == 6
        assert (first.unsqueeze(1) == vectors).all(2).any(1).all()


def test_gradients_pass_straight_through_and_penalties_pull() -> None:
    part = trained(vq(update="gradient"), (4,))
    features, slope = normal(3, 4, seed=5).requires_grad_(), normal(3, 4, seed=6)
    code, (commitment, codebook, _) = part(features, None)
    entries = code.detach()
    [through] = torch.autograd.grad((code * slope).sum(), features, retain_graph=True)
    assert through.equal(slope)
    [pull] = torch.autograd.grad(commitment.value, features)
    torch.testing.assert_close(pull, 2 * (features - entries).detach() / 12)
    [moves] = torch.autograd.grad(codebook.value, part.codebook)
    expected = torch.zeros_like(moves)
    for number, z, e in zip(
        part.indices(features).flatten(), features.detach().view(-1, 2), entries.view(-1, 2), strict=True
    ):
        expected[0, 0, number] += 2 * (e - z) / 12
    torch.testing.assert_close(moves, expected)
    assert commitment.weight == 0.25 and codebook.weight == 1.0


def test_the_gradient_of_the_cosine_distance_is_that_of_the_unit_vector() -> None:
    part = trained(vq(distance="cosine"), (4,))
    features, slope = normal(3, 4, seed=5).requires_grad_(), normal(3, 4, seed=6)
    code, _ = part(features, None)
    torch.testing.assert_close(code.view(-1, 2).norm(dim=1), torch.ones(6))
    [found] = torch.autograd.grad((code * slope).sum(), features)
    z, g = features.detach().view(-1, 2), slope.view(-1, 2)
    length = z.norm(dim=1, keepdim=True)
    unit = z / length
    torch.testing.assert_close(found.view(-1, 2), (g - (g * unit).sum(1, keepdim=True) * unit) / length)
    numbers = (unit @ part.codebooks[0, 0].T).argmax(1)
    assert numbers.equal(part.indices(features.detach()).flatten())


def test_a_residual_commitment_pulls_at_what_each_stage_left() -> None:
    part = trained(residual(), (2,))
    features = normal(3, 2, seed=5).requires_grad_()
    _, (commitment, _) = part(features, None)
    [pull] = torch.autograd.grad(commitment.value, features)
    books, indices = part.codebooks[:, 0], part.indices(features.detach()).flatten(1)
    entries = torch.stack([books[stage][indices[:, stage]] for stage in range(3)]).cumsum(0)
    torch.testing.assert_close(pull, (2 * (features.detach() - entries) / 6).sum(0) / 3)


@pytest.mark.parametrize("levels", [[5, 4], [2, 3], [8, 7]])
def test_fsq_is_the_equation_of_the_paper(levels: list[int]) -> None:
    part = FSQ(levels).build((4, 2))
    features = (3 * normal(40, 4, 2, seed=1)).requires_grad_()
    code, _ = part(features, None)
    cut = vectors_of(features.detach().double().numpy(), 2)
    found = vectors_of(code.detach().double().numpy(), 2)
    slope = vectors_of(torch.autograd.grad(code.sum(), features)[0].double().numpy(), 2)
    numbers = part.indices(features).numpy()[:, 0]
    expected = np.zeros(numbers.shape, int)
    for channel, count in enumerate(levels):
        half, offset = (count - 1) * 1.001 / 2, 0.5 * (count % 2 == 0)
        bounded = half * np.tanh(cut[..., channel] + np.arctanh(offset / half)) - offset
        np.testing.assert_allclose(found[..., channel], np.round(bounded) / (count // 2), atol=1e-6)
        derivative = half * (1 - ((bounded + offset) / half) ** 2) / (count // 2)
        np.testing.assert_allclose(slope[..., channel], derivative, rtol=1e-3, atol=1e-5)
        expected += (np.round(bounded).astype(int) + count // 2) * math.prod(levels[:channel])
        assert len(np.unique(found[..., channel])) == count
    assert (numbers == expected).all()


@pytest.mark.parametrize("shape", SHAPES, ids=["vectors", "maps"])
def test_lfq_is_the_sign_and_its_entropy_that_of_all_corners(shape: tuple[int, ...]) -> None:
    part = LFQ(2, 0.25, 0.1, 0.7, 1.5).build(shape)
    features = normal(6, *shape, seed=3).requires_grad_()
    code, (commitment, entropy, _) = part(features, None)
    assert code.equal(torch.where(features > 0, 1.0, -1.0))
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2)), dtype=torch.float64)
    wide = features.double().reshape(6, 2, 2, -1).permute(1, 0, 3, 2).reshape(2, -1, 1, 2)
    q = (2 * (wide * corners).sum(-1) / 1.5).softmax(-1)  # [heads,N,corners]
    mean = q.mean(1)
    expected = -(q * q.log()).sum(-1).mean() + 0.7 * (mean * mean.log()).sum(-1).mean()
    assert math.isclose(float(entropy.value.detach()), float(expected.detach()), rel_tol=1e-5) and entropy.weight == 0.1
    found, wanted = (torch.autograd.grad(value, features, retain_graph=True)[0] for value in (entropy.value, expected))
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-6)
    distance = (features - code).detach().square().mean()
    assert math.isclose(float(commitment.value.detach()), float(distance), rel_tol=1e-6)
    [through] = torch.autograd.grad((code * features.detach()).sum(), features)
    assert through.equal(features.detach())


def test_entries_that_no_image_is_near_leave_the_entropys_gradient_finite() -> None:
    part, features = LFQ(4, 0.0, 1.0, 1.0, 1.0).build((4,)), torch.full((3, 4), 60.0, requires_grad=True)
    _, (_, entropy, _) = part(features, None)
    [gradient] = torch.autograd.grad(entropy.value, features)
    assert entropy.value.isfinite() and gradient.isfinite().all()


def test_vector_quantize_pytorch_gives_the_same() -> None:
    other = pytest.importorskip("vector_quantize_pytorch")
    features = normal(40, 4)
    code, numbers = other.FSQ(levels=[5, 4, 3, 7])(features[None])
    part = FSQ([5, 4, 3, 7]).build((4,))
    torch.testing.assert_close(part(features, None)[0], code[0])
    assert part.indices(features).flatten().equal(numbers.flatten().long())

    signs, numbers, _ = other.LFQ(dim=4, codebook_size=16).eval()(features[None])
    bits = LFQ(4, 0.25, 0.1, 1.0, 1.0).build((4,))
    torch.testing.assert_close(bits(features, None)[0], signs[0])
    reversed_bits = [int(f"{number:04b}"[::-1], 2) for number in numbers.flatten().tolist()]  # theirs, highest first
    assert bits.indices(features).flatten().tolist() == reversed_bits

    for distance in ("euclidean", "cosine"):
        ours = trained(vq(dimension=4, distance=distance), (4,))
        quantizer = other.VectorQuantize(dim=4, codebook_size=6, use_cosine_sim=distance == "cosine")
        quantizer._codebook.embed.data.copy_(ours.codebooks[0])
        code, numbers, _ = quantizer.eval()(features)
        torch.testing.assert_close(ours(features, None)[0], code)
        assert ours.indices(features).flatten().equal(numbers), distance

    stages = trained(residual(dimension=4), (4,))
    quantizer = other.ResidualVQ(dim=4, num_quantizers=3, codebook_size=6)
    for layer, codebook in zip(quantizer.layers, stages.codebooks.flatten(0, -3), strict=True):
        layer._codebook.embed.data.copy_(codebook)
    code, numbers, _ = quantizer.eval()(features[None])
    torch.testing.assert_close(stages(features, None)[0], code[0])
    assert stages.indices(features).flatten(1).equal(numbers[0])


def test_bfloat16_finds_the_entries_of_float32() -> None:
    part = trained(vq(), (4,))
    features = normal(50, 4, seed=2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert part(features, None)[0].equal(part(features.float(), None)[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["latent=vq", "latent.dimension=5"], r"latent.dimension: vectors of 5 channels do not divide the 32 channels"),
        (
            ["latent=fsq", "latent.levels=[5,5,5]"],
            r"latent.levels: vectors of 3 channels do not divide the 32",
        ),
        (["latent=fsq", "latent.levels=[]"], r"latent.levels=\[\]: their product must be from 2 to 65536"),
        (["latent=fsq", "latent.levels=[64,64,64]"], r"their product must be from 2 to 65536"),
        (["latent=lfq", "latent.dimension=16"], r"latent.dimension=16: must be .* at most 12"),
        (["latent=vq", "sparsity=topk"], r"latent=vq and sparsity=topk both constrain the code"),
        (["latent=vq", "latent.entries=1"], r"latent.entries=1: must be .* at least 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(compose: Compose, words: list[str], message: str) -> None:
    choices = {word.partition("=")[0]: word.partition("=")[2] for word in words if "." not in word}
    with pytest.raises(ConfigError, match=message):
        parse(compose(words), choices)
