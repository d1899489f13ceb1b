"""Binary images sampled from gray ones: frequencies, reproducibility, and what is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aerun.config.parse import parse
from aerun.contracts import Loss
from aerun.core.autoencoder import Result
from aerun.dataset.binarize import binarize_all, sample_binary
from aerun.dataset.data import Data, first_batch
from aerun.dataset.rows import Rows
from aerun.dataset.shared import map_shared, write_shared
from aerun.errors import ConfigError
from aerun.metrics.baselines import baselines
from aerun.metrics.evaluation import corrupted_batches
from aerun.noise import NoNoise
from aerun.training.build import build_parts
from aerun.training.step import make_step
from tests.test_dataset_parts import load

CPU = torch.device("cpu")
Compose = Callable[[Sequence[str]], dict[str, Any]]


def gray(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 5, 4), np.uint8)


def is_binary(images: Tensor) -> bool:
    assert images.dtype == torch.uint8 or images.is_floating_point()
    return set(images.unique().tolist()) == {0, 255 if images.dtype == torch.uint8 else 1}


def assert_states_probabilities(draws: Tensor, images: Tensor) -> None:
    """Means of draws[D,...] are within 5 standard deviations of the probabilities, per position and in total."""
    means, p = draws.double().mean(0), images.double() / 255
    deviation = (p * (1 - p) / len(draws)).sqrt()
    assert ((means - p).abs() <= 5 * deviation).all()  # exactly, where p is 0 or 1
    assert abs((means - p).sum()) < 4 * deviation.square().sum().sqrt()


def test_a_pixel_is_one_as_often_as_it_states() -> None:
    images = torch.from_numpy(gray(50))
    images[0, 0, 0, :2] = torch.tensor([0, 255], dtype=torch.uint8)
    generator = torch.Generator().manual_seed(1)
    assert_states_probabilities(torch.stack([sample_binary(images, generator) for _ in range(2000)]), images)
    fixed = torch.stack([torch.as_tensor(binarize_all(images, seed)[:]) for seed in range(2000)])
    assert fixed.dtype == torch.uint8 and is_binary(fixed)
    assert_states_probabilities(fixed / 255, images)


def test_floats_and_bytes_have_the_same_draws() -> None:
    images = torch.from_numpy(gray(20))
    one, other = (sample_binary(batch, torch.Generator().manual_seed(1)) for batch in (images, images / 255))
    assert torch.equal(one, other)


def test_one_draw_is_the_same_in_a_file_and_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aerun.dataset.cache import cached_rows

    monkeypatch.setenv("AERUN_DATA", str(tmp_path))
    images = gray(5000)  # more than a chunk
    file = cached_rows("these", lambda: iter([images]))
    assert file is not None
    stored, held = binarize_all(Rows(file), 7), binarize_all(torch.from_numpy(images), 7)
    assert isinstance(stored, Rows) and isinstance(held, Tensor)
    assert torch.equal(stored[:], held) and not torch.equal(
        held, torch.as_tensor(binarize_all(held.new_tensor(images), 8))
    )
    # The sample of an image does not depend on how many images follow it.
    assert torch.equal(torch.as_tensor(binarize_all(torch.from_numpy(images[:30]), 7)), held[:30])


@pytest.mark.parametrize("binarise", ["static", "dynamic"])
def test_evaluated_images_are_drawn_once_by_the_split_seed(binarise: str) -> None:
    parts = [load(gray(40), gray(30, 1), validation=10, binarise=binarise, split_seed=seed) for seed in (0, 0, 1)]
    for data in parts:
        assert data.validation is not None and data.same
        assert is_binary(torch.as_tensor(data.test.inputs)) and is_binary(torch.as_tensor(data.validation.inputs))
    assert torch.equal(parts[0].test.inputs[:], parts[1].test.inputs[:])
    assert parts[0].checksum == parts[1].checksum != parts[2].checksum
    assert not torch.equal(parts[0].test.inputs[:], parts[2].test.inputs[:])
    train = torch.as_tensor(parts[0].train.inputs)
    assert parts[0].train.binarise == (binarise == "dynamic") and is_binary(train) == (binarise == "static")


def test_the_same_images_are_held_out_however_they_are_drawn() -> None:
    static, dynamic = (load(gray(40), validation=10, binarise=binarise) for binarise in ("static", "dynamic"))
    assert static.validation is not None and dynamic.validation is not None
    assert torch.equal(static.validation.inputs[:], dynamic.validation.inputs[:])


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.random.default_rng(0).random((30, 7), np.float32), "dataset.binarise=static: needs images.* vectors of 7"),
        (np.full((30, 1, 2, 2), 1.5, np.float32), r"binarise=static: needs images in \[0,1\].* from 1.5 to 1.5"),
    ],
)
def test_what_states_no_probabilities_is_refused(images: np.ndarray, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(images, binarise="static")


def test_evaluations_of_dynamically_binarized_images_use_one_sample() -> None:
    part = load(gray(40), binarise="dynamic").train
    one, other = (next(corrupted_batches(part, NoNoise())) for _ in range(2))
    assert is_binary(one[0]) and one[0] is one[2] and torch.equal(one[0], other[0])


def test_shared_data_are_binarized_dynamically_too(tmp_path: Path) -> None:
    for binarise in ("static", "dynamic"):
        write_shared(load(gray(40), validation=5, binarise=binarise), tmp_path / binarise)
        data = map_shared(tmp_path / binarise, CPU)
        assert data.train.binarise == (binarise == "dynamic")
        assert not data.test.binarise and data.validation is not None and not data.validation.binarise


class Seen:
    """Records the inputs and targets of an autoencoder."""

    def __init__(self, compose: Compose, overrides: list[str]) -> None:
        settings = parse(compose(["dataset=random", "dataset.images=60", "dataset.binarise=dynamic", *overrides]))
        self.parts = build_parts(settings, settings.dataset.load(CPU), CPU)
        self.inputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        loss, forward = settings.loss, self.parts.autoencoder.forward

        class Recorded(Loss):
            takes_logits, scale = loss.takes_logits, loss.scale

            def __call__(_, prediction: Tensor, target: Tensor) -> Tensor:
                self.targets.append(target)
                return loss(prediction, target)  # type: ignore[no-any-return]

        def seen(images: Tensor, draw: Tensor | None = None) -> Result:
            self.inputs.append(images)
            return forward(images, draw)

        self.parts.loss = Recorded()
        self.parts.autoencoder.forward = seen  # type: ignore[method-assign]
        step = make_step(self.parts, learning_rate=lambda number: 0.0)
        for number in (0, 1, 0):
            step(first_batch(self.parts.data.train, 12), number)


def test_every_minibatch_is_a_draw_of_its_own(compose: Compose) -> None:
    seen = Seen(compose, ["loss=bce", "model=fc_vae"])
    assert all(is_binary(images) for images in seen.inputs)
    assert all(torch.equal(*pair) for pair in zip(seen.inputs, seen.targets, strict=True))
    assert not torch.equal(seen.inputs[0], seen.inputs[1])
    assert torch.equal(seen.inputs[0], seen.inputs[2])  # the seed and the step decide


def test_noise_corrupts_the_draw(compose: Compose) -> None:
    seen = Seen(compose, ["noise=masking", "noise.rate=0.5"])
    for noisy, target in zip(seen.inputs, seen.targets, strict=True):
        assert is_binary(target)
        assert (noisy <= target).all() and 0.4 < noisy.sum() / target.sum() < 0.6


def test_baselines_are_those_of_binary_images() -> None:
    """The mean of draws is the gray mean, and their covariance that of the gray images plus the mean of p(1-p) on the
    diagonal. Pixels that are always gray have all their variance there: no component of gray images has them."""
    images = gray(40) // 4
    images[:, :, 0] = 128
    images = np.repeat(images, 200, 0)
    data: Data = load(images, images, binarise="dynamic")
    found = baselines(data, NoNoise(), 4)
    p = images[::200].reshape(40, 20) / 255
    mean = p.mean(0)
    assert found["mean_image/mse"] == pytest.approx((mean * (1 - mean)).mean(), rel=0.02)
    covariance = np.cov(p.T, bias=True) + np.diag((p * (1 - p)).mean(0))
    assert found["pca/mse"] == pytest.approx(np.linalg.eigvalsh(covariance)[:-4].sum() / 20, rel=0.02)
