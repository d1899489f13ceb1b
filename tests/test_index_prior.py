"""Priors over the indices of quantized codes: a Markov chain of known entropy, order, seeds, kept fits, protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aerun.config.parse import parse
from aerun.core.causal_transformer import CausalTransformer
from aerun.core.codebooks import sample_frequencies
from aerun.core.index_prior import fit_index_prior, order_of
from aerun.errors import ConfigError
from aerun.latent.quantizer import FiniteScalarQuantizer, LookupFreeQuantizer, Quantizer, VectorQuantizer
from aerun.runs.run import run

Compose = Callable[[Sequence[str]], dict[str, Any]]
ENTRIES, LENGTH = 4, 6


def quantizer(shape: tuple[int, ...], dimension: int, entries: int, shared: bool = False, stages: int = 1) -> Quantizer:
    averages = {"learned": False, "cosine": False, "decay": 0.9, "commitment": 1.0, "restart": 0.0, "restart_every": 1}
    return VectorQuantizer(shape, dimension, entries, shared=shared, stages=stages, **averages)  # type: ignore[arg-type]


LATENTS = {
    "vector code": (quantizer((4,), 2, 5), (4,)),
    "shared": (quantizer((4, 2, 3), 2, 5, shared=True), (4, 2, 3)),
    "maps": (quantizer((4, 2, 3), 2, 5), (4, 2, 3)),
    "residual": (quantizer((4, 2, 3), 2, 5, stages=3), (4, 2, 3)),
    "fsq": (FiniteScalarQuantizer((4, 2, 2), [3, 5]), (4, 2, 2)),
    "lfq": (LookupFreeQuantizer((6,), 3, commitment=1, entropy=0, diversity=0, temperature=1), (6,)),
}


def chain(count: int, seed: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Sequences [N,T] of a stationary Markov chain, its stationary distribution [K] and transitions [K,K]."""
    transitions = np.random.default_rng(7).dirichlet(np.full(ENTRIES, 0.4), ENTRIES)
    values, vectors = np.linalg.eig(transitions.T)
    stationary = np.real(vectors[:, np.argmax(values.real)])
    stationary = stationary / stationary.sum()
    random = np.random.default_rng(seed)
    found = np.empty((count, LENGTH), int)
    found[:, 0] = random.choice(ENTRIES, count, p=stationary)
    for row in range(count):
        for step in range(1, LENGTH):
            found[row, step] = random.choice(ENTRIES, p=transitions[found[row, step - 1]])
    return torch.from_numpy(found), stationary, transitions


def test_a_fitted_prior_has_the_entropy_and_the_pairs_of_a_markov_chain(tmp_path: Path, monkeypatch: Any) -> None:
    """H = H(p) + (T - 1) sum_i p_i H(P_i); no prior can be better on average, and independent positions have T H(p)."""
    monkeypatch.setenv("AERUN_DATA", str(tmp_path))
    latent, shape = quantizer((1, 2, 3), 1, ENTRIES, shared=True), (1, 2, 3)
    known, stationary, transitions = chain(1500, 0)
    prior = fit_index_prior(known.view(-1, 1, 1, LENGTH), latent, shape, steps=300)
    own = -float((stationary * np.log(stationary)).sum())
    conditional = -float((stationary[:, None] * transitions * np.log(transitions)).sum())
    entropy, independent = own + (LENGTH - 1) * conditional, LENGTH * own
    assert independent - entropy > 1
    unseen = chain(3000, 1)[0].view(-1, 1, 1, LENGTH)
    nats = prior.nats_of(unseen)
    error = 4 * float(nats.std()) / math.sqrt(len(nats))
    assert entropy - error < float(nats.mean()) < entropy + 0.2 + error
    assert float(prior.independent_nats_of(unseen).mean()) == pytest.approx(independent, abs=0.1)
    assert prior.nats == pytest.approx(entropy, abs=0.6) and prior.independent_nats > prior.nats  # of 150 images
    drawn = prior.sample(4000, seed=1).flatten(1).numpy()
    pairs = np.zeros((ENTRIES, ENTRIES))
    np.add.at(pairs, (drawn[:, :-1].ravel(), drawn[:, 1:].ravel()), 1 / (len(drawn) * (LENGTH - 1)))
    expected = stationary[:, None] * transitions
    assert np.abs(pairs - expected).max() < 0.03 < np.abs(np.outer(stationary, stationary) - expected).max()
    again = fit_index_prior(known.view(-1, 1, 1, LENGTH), latent, shape, steps=300)  # read back
    assert again.nats == prior.nats and again.sample(5, seed=1).flatten(1).numpy().tolist() == drawn[:5].tolist()
    assert not prior.sample(5, seed=2).equal(prior.sample(5, seed=1))


def test_a_fit_depends_only_on_its_arguments(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("AERUN_DATA", str(tmp_path))
    latent, shape = LATENTS["maps"]
    indices = torch.randint(5, (40, 1, 2, 6), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    first = fit_index_prior(indices, latent, shape, steps=3, keep=False)
    assert torch.rand(1).equal(before) and not list(tmp_path.iterdir())
    second = fit_index_prior(indices, latent, shape, steps=3)
    assert second.sample(70).equal(first.sample(70)) and first.sample(70)[:9].equal(first.sample(9))
    (kept,) = (tmp_path / "priors").iterdir()
    kept.write_bytes(kept.read_bytes()[:-50])  # damaged: fitted again
    assert fit_index_prior(indices, latent, shape, steps=3).nats == first.nats
    other = fit_index_prior(indices, latent, shape, steps=3, seed=1, keep=False)
    assert other.nats != first.nats


@pytest.mark.parametrize("name", LATENTS)
def test_the_indices_of_every_latent_are_a_sequence_in_raster_order(name: str) -> None:
    latent, shape = LATENTS[name]
    features = torch.randn(7, *shape, generator=torch.Generator().manual_seed(0))
    indices = latent.indices(features)
    order = order_of(latent, shape)
    sequences = order.sequence(indices)
    assert order.indices(sequences).equal(indices)
    stages, groups, length = indices.shape[1:]
    positions = math.prod(shape[1:])
    per_position = stages * groups * length // positions
    for position in range(positions):  # what changes with the features of one position is one stretch of the sequence
        changed = features.clone().flatten(2) if positions > 1 else features.clone().unsqueeze(-1)
        changed[..., position] = -3 * changed[..., position]
        other = order.sequence(latent.indices(changed.view(features.shape)))
        places = (other != sequences).any(0).nonzero()[:, 0].tolist()
        assert places and {place // per_position for place in places} == {position}
    flat = torch.arange(stages * groups * length)
    assert order.books.equal(flat[order.places] // length)


@pytest.mark.parametrize("name", LATENTS)
def test_no_index_is_predicted_from_itself_or_a_later_one(name: str) -> None:
    latent, shape = LATENTS[name]
    order = order_of(latent, shape)
    torch.manual_seed(0)
    network = CausalTransformer(order.books, order.entries).eval()
    sequences = torch.randint(order.entries, (2, len(order.places)))
    losses = network.losses(sequences)
    for step in range(len(order.places)):
        changed = sequences.clone()
        changed[:, step] = (changed[:, step] + 1) % order.entries
        assert network.losses(changed)[:, :step].allclose(losses[:, :step], atol=1e-5)
        logits = network.next_logits(sequences[:, :step])
        expected = -logits.log_softmax(1).gather(1, sequences[:, step : step + 1])[:, 0]
        assert losses[:, step].allclose(expected, atol=1e-4)


@pytest.mark.parametrize("name", LATENTS)
def test_new_codes_of_every_latent_have_the_indices_that_were_drawn(name: str) -> None:
    latent, shape = LATENTS[name]
    indices = latent.indices(torch.randn(30, *shape, generator=torch.Generator().manual_seed(1)))
    for drawn in (
        fit_index_prior(indices, latent, shape, steps=2, keep=False).sample(6),
        sample_frequencies(indices, 6),
    ):
        assert drawn.shape == (6, *indices.shape[1:])
        codes = latent.from_indices(drawn)
        assert codes.shape == (6, *shape)
        if name in ("fsq", "lfq"):  # features at the centers of their cells
            assert latent.indices(codes if name == "lfq" else codes.clamp(-0.9, 0.9).atanh() * 1.5).shape == drawn.shape


def test_codes_without_indices_and_long_ones_are_rejected_in_a_line() -> None:
    from aerun.latent import Deterministic

    with pytest.raises(ConfigError, match="this model's latent is not quantized; use the mixture"):
        order_of(Deterministic(), (4,))
    with pytest.raises(ConfigError, match="1600 indices of 5 entries; at most 256 indices of 4096 entries"):
        order_of(quantizer((2, 40, 40), 2, 5), (2, 40, 40))
    latent, shape = LATENTS["maps"]
    with pytest.raises(ConfigError, match="at least two codes"):
        fit_index_prior(torch.zeros(1, 1, 2, 6, dtype=torch.long), latent, shape)


def test_the_protocol_reports_the_prior_and_the_frequencies(compose: Compose, tmp_path: Path) -> None:
    words = [
        *("dataset.train_limit=400", "model=fc", "model.hidden=[32]", "model.code_size=8", "trainer.epochs=2"),
        *("latent=vq", "latent.entries=8", "latent.dimension=2", "trainer.figures=none", "trainer.device=cpu"),
        *("trainer.threads=1", "tracker=none", "protocol=samples", "protocol.samples.images=150"),
    ]
    config = compose([*words, "protocol.samples.draws=1", "protocol.samples.sources=[prior,frequencies]"])
    test = run(parse(config), config, tmp_path / "run")["test"]
    assert math.isfinite(test["frechet_distance"]) and math.isfinite(test["frechet_distance@frequencies"])
    assert 0 < test["prior_nats"] < 4 * math.log(8) and 0 < test["independent_nats"] < 4 * math.log(8) + 0.5
    config = compose([*words[:5], *words[8:], "protocol.samples.sources=[frequencies]"])
    with pytest.raises(ConfigError, match=r"sources=\[frequencies\]: this model's latent is not quantized"):
        run(parse(config), config, tmp_path / "other")
    config = compose([*words, "model.condition=label", "protocol.samples.sources=[prior]"])
    with pytest.raises(ConfigError, match=r"sources=\[prior\]: codes of a conditional model depend on the label"):
        run(parse(config), config, tmp_path / "conditional")
