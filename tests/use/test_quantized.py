"""Codes of quantized latents as indices: stored, searched, decoded, and sampled."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from aerun.cli import embed as embed_command
from aerun.cli import generate as generate_command
from aerun.cli import search as search_command
from aerun.core.codebooks import sample_frequencies
from aerun.core.mixture import nearest_valid_codes
from aerun.errors import ConfigError, DataError
from aerun.use.collection.embedding import embed
from aerun.use.collection.fingerprint_files import load_fingerprints, save_fingerprints
from aerun.use.generation.sampling import sample_codes
from aerun.use.opened_run import OpenedRun, open_run
from aerun.use.search.code_search import search

Trained = Callable[..., Path]
SMALL = ("model.code_size=8", "trainer.epochs=1", "dataset.train_limit=64", "trainer.figures=none")
MAPS = ("model=conv", "model.hidden=[4,4]", "trainer.epochs=1", "dataset.train_limit=64", "trainer.figures=none")
RUNS = {
    "vq": (*SMALL, "latent=vq", "latent.entries=16", "latent.dimension=4"),
    "residual": (*MAPS, "latent=residual_vq", "latent.entries=8", "latent.dimension=2"),
    "fsq": (*MAPS, "latent=fsq", "latent.levels=[3,5]"),
    "lfq": (*SMALL, "latent=lfq", "latent.dimension=4"),
}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", RUNS)
def test_images_are_decoded_from_stored_indices_to_the_last_bit(
    trained: Trained, name: str, images: torch.Tensor, tmp_path: Path
) -> None:
    run = open_run(trained(*RUNS[name]))
    made = embed(run, images)
    known = made.quantized
    assert known is not None and np.array_equal(made.codes, run.encode(images).flatten(1).numpy())
    packed = made.pack("indices")
    entries = known.codebooks.shape[2]
    bits = (entries - 1).bit_length()
    assert known.bits_per_image == bits * known.indices.shape[1]
    assert packed.images["indices"].nbytes == -(-20 * known.bits_per_image // 8)
    save_fingerprints(made, tmp_path / "codes.npz", packed)
    back = load_fingerprints(tmp_path / "codes.npz")
    assert back.quantized is not None and np.array_equal(back.quantized.indices, known.indices)
    assert np.array_equal(back.codes, made.codes)
    codes = torch.from_numpy(back.codes).view(-1, *run.autoencoder.code_shape)
    assert run.decode(codes).equal(run.reconstruct(images))
    indices = run.indices(images)
    assert torch.allclose(run.autoencoder.decode_indices(indices), run.reconstruct(images), atol=1e-6)
    with_views = embed(run, images[:3], views=2)
    assert with_views.codes.shape == (3, 2, made.codes.shape[1])
    assert np.array_equal(with_views.codes[:, 0], made.codes[:3])


def test_codes_without_indices_have_none(trained: Trained, images: torch.Tensor) -> None:
    run = open_run(trained(*SMALL))
    with pytest.raises(ConfigError, match="form indices: these codes have none"):
        embed(run, images).pack("indices")
    with pytest.raises(DataError, match="this model's latent is not quantized: its code has no indices"):
        run.indices(images)


def test_damaged_indices_are_said_so(trained: Trained, images: torch.Tensor, tmp_path: Path) -> None:
    made = embed(open_run(trained(*RUNS["vq"])), images)
    packed = made.pack("indices")
    for name, array in (("codebooks", packed.shared["codebooks"][:, :, :8]), ("groups", np.array([3, 1]))):
        damaged = type(packed)("indices", packed.shape, packed.images, {**packed.shared, name: array})
        with pytest.raises(DataError, match="the codes are damaged"):
            damaged.unpack()


def test_the_hamming_distance_is_the_number_of_bits(trained: Trained, images: torch.Tensor) -> None:
    made = embed(open_run(trained(*RUNS["lfq"])), images)
    assert made.quantized is not None
    bits = [
        "".join(f"{number:04b}"[::-1] for number in row) for row in made.quantized.indices.tolist()
    ]  # the first value changes fastest
    found = search(made, made.codes[:4], k=20, metric="hamming")
    for query in range(4):
        counted = [sum(a != b for a, b in zip(bits[query], other, strict=True)) for other in bits]
        assert found.distances[query].tolist() == sorted(counted)
        assert [counted[row] for row in found.rows[query]] == sorted(counted)
    euclidean = search(made, made.codes[:4], k=20, metric="euclidean")
    assert np.allclose(euclidean.distances**2, 4 * found.distances)
    with pytest.raises(ConfigError, match="index=hnsw and metric=hamming"):
        search(made, made.codes[:1], metric="hamming", index="hnsw")


def test_frequencies_are_those_of_each_place() -> None:
    random = np.random.default_rng(0)
    indices = np.stack([random.choice(4, 500, p=p) for p in ([0.7, 0.1, 0.1, 0.1], [0, 0, 0.5, 0.5])], 1)
    known = torch.from_numpy(indices)
    drawn = sample_frequencies(known, 20_000).numpy()
    for place in range(2):
        expected, found = (np.bincount(rows[:, place], minlength=4) / len(rows) for rows in (indices, drawn))
        np.testing.assert_allclose(found, expected, atol=0.015)
    assert np.array_equal(sample_frequencies(known, 7), drawn[:7])


@pytest.mark.parametrize("name", ["vq", "residual", "fsq"])
def test_new_codes_consist_of_entries(trained: Trained, name: str, images: torch.Tensor) -> None:
    run = open_run(trained(*RUNS[name]))
    drawn = sample_codes(run, 5, images=images, source="frequencies")
    assert drawn.equal(sample_codes(run, 5, indices=run.indices(images), source="frequencies"))
    indices = run.indices(images).flatten(1)
    assert drawn.shape == (5, *run.autoencoder.code_shape)
    places = [set(column.tolist()) for column in indices.T]
    again = nearest_valid_codes(run.autoencoder, drawn)
    if name != "residual":  # where other sums of entries may be nearer
        assert torch.allclose(again, drawn)
    middle = nearest_valid_codes(run.autoencoder, drawn + 0.1)
    assert nearest_valid_codes(run.autoencoder, middle).shape == drawn.shape and places
    if name == "vq":
        books = run.autoencoder.latent.codebooks[0]
        for row, group in itertools.product(range(5), range(2)):
            distances = (books[group] - (drawn + 0.1)[row, 4 * group : 4 * group + 4]).norm(dim=1)
            assert middle[row, 4 * group : 4 * group + 4].equal(books[group][distances.argmin()])
    by_prior = sample_codes(run, 5, images=images)
    assert by_prior.equal(sample_codes(run, 5, source="prior", indices=run.indices(images)))
    assert by_prior.shape == drawn.shape
    if name != "residual":
        assert nearest_valid_codes(run.autoencoder, by_prior).allclose(by_prior)
    mixed = sample_codes(run, 5, source="mixture", images=images, components=1)
    if name != "residual":
        assert torch.allclose(nearest_valid_codes(run.autoencoder, mixed), mixed)


def test_the_commands_store_search_and_sample_bits(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(trained(*RUNS["lfq"]))

    def said(command: object, *words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["aerun", *words])
        assert command.main() == code  # type: ignore[attr-defined]
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    file = str(tmp_path / "bits.npz")
    text = said(embed_command, run, "--split", "test", "-o", file)
    assert "8 bits per image: 2 indices of 4 bits, 16 entries in a codebook" in text
    assert "indices: 1.0 per image" in text
    text = said(search_command, run, file, "test/000003", "-k", "4", "--metric", "hamming")
    assert "hamming distance" in text and "searched for 1 image among" in text
    plain = str(trained(*SMALL))
    said(embed_command, plain, "--split", "test", "-o", str(tmp_path / "plain.npz"))
    text = said(search_command, plain, str(tmp_path / "plain.npz"), "test/000003", "--metric", "hamming", code=1)
    assert "--metric hamming: the codes of" in text and "are not quantized; use cosine or euclidean" in text
    said(generate_command, "samples", run, "-n", "4", "-o", str(tmp_path / "made"))
    assert (tmp_path / "made" / "samples.png").exists()


def test_opened_runs_are_the_models(trained: Trained, images: torch.Tensor) -> None:
    run: OpenedRun = open_run(trained(*RUNS["fsq"]))
    assert run.indices(images).equal(run.autoencoder.indices(images))
