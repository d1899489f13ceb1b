"""Steps after reading that all data sets share: parts, transforms, statistics, checksum, memory."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aerun.dataset import Data, Dataset, as_float, memory_limit
from aerun.dataset.data import Arrays, Split, spread
from aerun.dataset.row_file import RowFile, write_rows
from aerun.dataset.rows import Rows
from aerun.errors import ConfigError, DataError
from tests.keys import PLAIN

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)
COLOR = RANDOM.integers(0, 256, (50, 3, 6, 8), dtype=np.uint8)
VECTORS = RANDOM.standard_normal((50, 4)).astype(np.float32) * [1, 10, 0.01, 3] + [0, 5, -2, 100]


@dataclass(frozen=True, kw_only=True)
class Given(Dataset):
    """A data set that reads the given arrays."""

    arrays: Arrays

    def read(self) -> Arrays:
        return self.arrays


def load(train: np.ndarray, test: np.ndarray | None = None, **keys: Any) -> Data:
    arrays = Arrays(train, train[:5] if test is None else test)
    return Given(arrays=arrays, **{**PLAIN, **keys}).load(CPU)


def numbered(count: int = 100) -> np.ndarray:
    """Images whose pixels contain their number."""
    return np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(2, 2).repeat(3, 3)


def numbers(data: Data) -> tuple[list[int], list[int]]:
    """Numbers of the images in the training part and in the validation part."""
    parts = (data.train, data.validation)
    train, validation = ([] if part is None else part.inputs[:, 0, 0, 0].tolist() for part in parts)
    return train, validation


@pytest.mark.parametrize(("validation", "expected"), [(0, 0), (0.0, 0), (1, 1), (30, 30), (0.3, 30), (0.004, 0)])
def test_validation_is_a_count_or_a_share(validation: float, expected: int) -> None:
    data = load(numbered(), validation=validation)
    train, held_out = numbers(data)
    assert (len(train), len(held_out)) == (100 - expected, expected)
    assert (data.validation is None) == (expected == 0)
    assert sorted(train + held_out) == list(range(100))


def test_parts_keep_the_stored_order_and_labels_stay_with_their_images() -> None:
    arrays = Arrays(numbered(), numbered(5), np.arange(100), np.arange(5))
    data = Given(arrays=arrays, **{**PLAIN, "validation": 20, "train_limit": 50}).load(CPU)
    assert data.validation is not None
    for split in (data.train, data.validation, data.test):
        assert split.labels is not None
        assert split.labels.tolist() == split.inputs[:, 0, 0, 0].tolist() == sorted(split.labels.tolist())


def test_the_test_part_is_left_alone() -> None:
    data = load(numbered(), numbered(7), validation=0.5, train_limit=3)
    assert data.test.inputs[:, 0, 0, 0].tolist() == list(range(7))


def test_train_limit_does_not_change_the_validation_part() -> None:
    whole, limited = (numbers(load(numbered(), validation=0.2, train_limit=limit)) for limit in (None, 10))
    assert whole[1] == limited[1]
    assert len(limited[0]) == 10 and set(limited[0]) < set(whole[0])


def test_parts_are_drawn_by_split_seed_and_not_by_the_seed_of_the_run() -> None:
    drawn = []
    for seed, split_seed in ((1, 0), (2, 0), (1, 3)):
        torch.manual_seed(seed)
        np.random.seed(seed)
        drawn.append(numbers(load(numbered(), validation=20, train_limit=40, split_seed=split_seed)))
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[2][0] and drawn[0][1] != drawn[2][1]


def test_the_parts_are_a_random_sample() -> None:
    train, held_out = numbers(load(numbered(), validation=0.5))
    assert 30 < np.mean(train) < 70 and 30 < np.mean(held_out) < 70


def test_loading_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    load(COLOR, validation=0.1, input_transform=["RandomHorizontalFlip"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"validation": 100}, "dataset.validation=100"),
        ({"validation": 0.999}, "dataset.validation=0.999"),
        ({"train_limit": 101}, "dataset.train_limit=101"),
        ({"validation": 50, "train_limit": 51}, "dataset.train_limit=51"),
    ],
)
def test_parts_larger_than_the_data_are_refused(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(numbered(), **keys)
    assert str(caught.value).startswith(named) and "100" in str(caught.value)


def test_parts_as_large_as_the_data_are_taken() -> None:
    assert len(numbers(load(numbered(), validation=99))[0]) == 1
    assert len(numbers(load(numbered(), validation=50, train_limit=50))[0]) == 50


def test_uint8_stays_uint8_and_inputs_are_targets() -> None:
    data = load(COLOR)
    assert data.train.inputs.dtype == torch.uint8
    assert data.train.targets is data.train.inputs and data.test.targets is data.test.inputs
    assert data.same and data.is_image and data.input_statistics is None
    assert torch.equal(as_float(data.train.inputs), torch.from_numpy(COLOR.astype(np.float32) / np.float32(255)))


def test_statistics_of_images_are_per_channel() -> None:
    images = np.concatenate([COLOR] * 100)  # more than one chunk
    images[:, 1] //= 3
    data = load(images, normalize="standardise")
    assert data.input_statistics is not None
    mean, deviation = data.input_statistics
    assert mean.shape == deviation.shape == (3, 1, 1)
    values = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean.flatten(), values.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(deviation.flatten(), values.std((0, 2, 3)), rtol=1e-6)


def test_statistics_of_vectors_are_per_feature() -> None:
    data = load(VECTORS.astype(np.float32), normalize="standardise")
    assert data.input_statistics is not None
    mean, deviation = data.input_statistics
    assert mean.shape == deviation.shape == (4,)
    np.testing.assert_allclose(mean, VECTORS.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(deviation, VECTORS.astype(np.float64).std(0), rtol=1e-5)


def test_statistics_are_of_the_training_part_alone() -> None:
    data = load(VECTORS.astype(np.float32), validation=20, train_limit=15, normalize="standardise")
    assert data.input_statistics is not None and len(data.train) == 15
    np.testing.assert_allclose(data.input_statistics[0], data.train.inputs.double().numpy().mean(0), rtol=1e-5)
    np.testing.assert_allclose(data.input_statistics[1], data.train.inputs.double().numpy().std(0), rtol=1e-5)


@pytest.mark.parametrize("rows", [50, 997, 10_001])
def test_a_constant_feature_has_deviation_1(rows: int) -> None:
    values = np.random.default_rng(1).uniform(-1000, 1000, 200).astype(np.float32)
    data = load(np.tile(values, (rows, 1)), normalize="standardise")
    assert data.input_statistics is not None
    np.testing.assert_allclose(data.input_statistics[0], values, rtol=1e-6)
    assert data.input_statistics[1].tolist() == [1.0] * 200


def test_a_constant_channel_has_deviation_1() -> None:
    for value in range(256):
        images = COLOR.copy()
        images[:, 0] = value
        data = load(images, normalize="standardise")
        assert data.input_statistics is not None
        assert float(data.input_statistics[1][0]) == 1.0


def test_a_feature_of_small_spread_far_from_zero_keeps_its_deviation() -> None:
    vectors = np.tile(np.array([[100_000.0], [100_000.5]], np.float32), (500, 3))
    data = load(vectors, normalize="standardise")
    assert data.input_statistics is not None
    assert data.input_statistics[1].tolist() == pytest.approx([0.25] * 3, rel=1e-4)


def test_a_transform_of_the_input_leaves_the_target() -> None:
    data = load(COLOR, input_transform=["Grayscale"], normalize="standardise")
    assert data.input_shape == (1, 6, 8) and data.output_shape == (3, 6, 8)
    assert not data.same and data.is_image
    assert (data.train.targets.numpy() == COLOR).all()
    gray = np.einsum("nchw,c->nhw", COLOR.astype(np.float64), [0.2989, 0.587, 0.114])
    assert np.abs(data.train.inputs[:, 0].numpy() - gray).max() <= 1
    assert data.input_statistics is not None and data.target_statistics is not None
    assert (len(data.input_statistics[0]), len(data.target_statistics[0])) == (1, 3)


def test_a_transform_of_the_target_leaves_the_input() -> None:
    data = load(COLOR, target_transform=[{"RandomInvert": {"p": 1.0}}])
    assert (data.train.inputs.numpy() == COLOR).all()
    assert (data.train.targets.numpy() == 255 - COLOR).all() and data.train.targets.dtype == torch.uint8


def test_transforms_take_arguments_and_act_in_order() -> None:
    steps = [{"Resize": {"size": [12, 16]}}, {"CenterCrop": {"size": [4, 2]}}, "Grayscale"]
    data = load(COLOR, input_transform=steps, target_transform=[{"Resize": {"size": [3, 4]}}])
    assert data.input_shape == (1, 4, 2) and data.output_shape == (3, 3, 4)
    cropped = load(COLOR, input_transform=[{"CenterCrop": {"size": [4, 2]}}]).train.inputs
    assert (cropped.numpy() == COLOR[:, :, 1:5, 3:5]).all()


def test_the_same_transforms_on_both_sides_leave_inputs_and_targets_one_tensor() -> None:
    resize = [{"Resize": {"size": [3, 4]}}]
    data = load(COLOR, input_transform=resize, target_transform=resize)
    assert torch.equal(data.train.inputs, data.train.targets)
    assert data.same


def test_random_transforms_differ_between_images_but_not_between_loads() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (200, 1, 2, 1))
    loads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        loads.append(load(stripes, input_transform=["RandomHorizontalFlip"]).train.inputs)
    assert torch.equal(*loads)
    flipped = (loads[0][:, 0, 0, 0] == 255).sum()
    assert 70 <= flipped <= 130  # 100 expected, deviation 7


def test_an_unknown_transform_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^dataset\.input_transform: Greyscale.*Did you mean 'Grayscale'\?"):
        load(COLOR, input_transform=["Greyscale"])
    with pytest.raises(ConfigError, match=r"^dataset\.target_transform: Resise.*Did you mean 'Resize'\?"):
        load(COLOR, target_transform=[{"Resise": {"size": 3}}])


@pytest.mark.parametrize(
    "transform",
    [
        {"Resize": {"sise": 3}},
        {"Resize": {"size": "large"}},
        {"Resize": 3},
        "Resize",
        {"RandomCrop": {"size": 100}},
        {"Grayscale": {}, "Resize": {"size": 3}},
        "functional",
        "InterpolationMode",
        "__name__",
        3,
        None,
    ],
)
def test_transforms_that_cannot_work_are_refused(transform: Any) -> None:
    with pytest.raises(ConfigError, match=r"^dataset\.input_transform"):
        load(COLOR, input_transform=[transform])


def test_transforms_that_give_different_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="different shapes"):
        load(COLOR, input_transform=[{"ScaleJitter": {"target_size": [6, 8], "scale_range": [1.0, 3.0]}}])


def test_transforms_of_vectors_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.target_transform: .*vectors"):
        load(VECTORS.astype(np.float32), target_transform=["Grayscale"])


def test_the_checksum_tells_one_pixel() -> None:
    first = load(COLOR, COLOR[:5]).checksum
    assert load(COLOR.copy(), COLOR[:5].copy(), validation=0.3, split_seed=4).checksum == first
    changed = COLOR.copy()
    changed[49, 2, 5, 7] ^= 1
    sums = [
        load(changed, COLOR[:5]).checksum,
        load(COLOR, np.concatenate([COLOR[:4], changed[49:]])).checksum,
        load(COLOR[::-1].copy(), COLOR[:5]).checksum,
        load(COLOR.reshape(50, 3, 8, 6), COLOR[:5].reshape(5, 3, 8, 6)).checksum,
        load(COLOR, COLOR[:5], input_transform=["Grayscale"]).checksum,
        load(COLOR, COLOR[:5], target_transform=["Grayscale"]).checksum,
    ]
    assert len({first, *sums}) == 7
    assert len(first) == 16 and int(first, 16) >= 0


@pytest.fixture
def _no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AERUN_DATA", str(tmp_path / "file"))  # no folder can be made below it


@pytest.mark.usefixtures("_no_cache")
def test_data_that_fit_nowhere_are_refused_with_their_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((1024, 1, 32, 64), np.uint8)  # 2 MiB
    monkeypatch.setattr(memory_limit, "available_memory", lambda: 2.0**20)
    with pytest.raises(DataError) as caught:
        load(images, images[:10])
    for word in ("1024x1x32x64", "GiB", "cpu"):
        assert word in str(caught.value)


@pytest.mark.usefixtures("_no_cache")
def test_the_message_about_memory_is_in_gibibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((2**16, 1, 32, 48), np.uint8)  # 96 MiB
    monkeypatch.setattr(memory_limit, "available_memory", lambda: 2.0**25)  # 32 MiB
    with pytest.raises(DataError, match=r"need 0\.09 GiB.* has 0\.03 GiB free"):
        load(images, images[:1])


def test_inputs_and_targets_of_their_own_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((900, 1, 32, 32), np.uint8)
    monkeypatch.setattr(memory_limit, "available_memory", lambda: 2.0**20)
    load(images, images[:1])
    with pytest.raises(DataError, match=r"dataset\.memory_limit=1GiB, or use"):
        load(images, images[:1], input_transform=["RandomInvert"])


@pytest.mark.parametrize("free", [2.0**15, 2.0**40])
def test_how_much_is_free_does_not_decide_the_order_of_training(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    images = np.zeros((900, 1, 32, 32), np.uint8)
    monkeypatch.setattr(memory_limit, "available_memory", lambda: free)
    assert load(images, images[:1], memory_limit="400KiB").chunk_bytes == 100 * 1024


def test_a_train_limit_that_fits_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((1024, 1, 32, 64), np.uint8)
    monkeypatch.setattr(memory_limit, "available_memory", lambda: 2.0**20)
    data = load(images, images[:10], train_limit=100)
    assert len(data.train) == 100 and not data.streamed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can be asked")
def test_the_available_memory_is_between_nothing_and_a_petabyte() -> None:
    assert 2**20 < memory_limit.available_memory() < 2**50


@pytest.mark.parametrize("streamed", [False, True])
def test_images_that_are_shown_are_spread_over_a_part(streamed: bool, tmp_path: Path) -> None:
    stored = torch.from_numpy(numbered())
    images: Any = stored
    if streamed:
        write_rows(tmp_path / "rows", "key", [stored.numpy()], dict)
        images = Rows(RowFile(tmp_path / "rows", "key"))
    shown = spread(Split(images, images, torch.arange(100)), 7)
    chosen = shown.inputs[:][:, 0, 0, 0].tolist()
    assert chosen == shown.labels.tolist() == sorted(set(chosen)) and len(chosen) == 7
    assert max(np.diff([0, *chosen, 100])) <= 100 / 7 + 1
    assert spread(Split(images, images, None), 1000).inputs[:].equal(stored)
