"""Patches of photographs: their scaling, where they are cut, and what is rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aerun.dataset import Data, Patches
from aerun.dataset.patches import scale_patches
from aerun.errors import DataError
from tests.keys import PLAIN

CPU = torch.device("cpu")


def patches(**keys: Any) -> Patches:
    return Patches(**{**PLAIN, "root": None, "size": 8, "count": 500, "test": 0.2, **keys})


def photographs(folder: Path, *arrays: np.ndarray) -> str:
    folder.mkdir(exist_ok=True)
    for number, array in enumerate(arrays):
        Image.fromarray(array.astype(np.uint8)).save(folder / f"{number}.png")
    return str(folder)


def numbered(height: int, width: int) -> np.ndarray:
    """A picture in which every pixel differs from its neighbors: rows by 7, columns by 3, both modulo 251."""
    return (7 * np.arange(height)[:, None] ** 2 + 3 * np.arange(width)[None] ** 2) % 251


@pytest.fixture(scope="module")
def shipped() -> Data:
    return patches(count=2000).load(CPU)


def test_shapes_range_and_deviation(shipped: Data) -> None:
    train, test = shipped.train.inputs[:], shipped.test.inputs[:]
    assert train.shape == (2000, 1, 8, 8) and test.shape == (400, 1, 8, 8)
    assert train.dtype == torch.float32 and shipped.is_image
    for part in (train, test):
        # Both ends are reached: some values lie beyond three deviations.
        torch.testing.assert_close(torch.stack([part.min(), part.max()]), torch.tensor([0.1, 0.9]))
    # A patch without values that were cut off keeps its mean of zero, which is 0.5 here.
    whole = ((train > 0.1001) & (train < 0.8999)).flatten(1).all(1)
    assert whole.float().mean() > 0.5
    torch.testing.assert_close(train[whole].flatten(1).mean(1), torch.full((int(whole.sum()),), 0.5))


def test_values_are_those_of_the_notes_in_double_precision() -> None:
    random = np.random.default_rng(0)
    train, test = (random.standard_t(3, (count, 1, 5, 5)).astype(np.float32) for count in (300, 40))
    centered = [np.array([patch - patch.mean() for patch in part.astype(np.float64)]) for part in (train, test)]
    limit = 3 * centered[0].std()
    for found, part in zip(scale_patches(train, test), centered, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, (np.clip(part, -limit, limit) / limit + 1) * 0.4 + 0.1, atol=1e-6)


def test_the_seed_of_the_parts_alone_draws_them() -> None:
    one, same, other = (patches(split_seed=seed).load(CPU) for seed in (0, 0, 1))
    assert one.checksum == same.checksum != other.checksum
    assert one.train.inputs[:].equal(same.train.inputs[:])


def test_no_pixel_is_in_training_and_test_patches(tmp_path: Path) -> None:
    """The right fifth has different pixel values than the rest, compared in the patches before scaling."""
    left, right = np.full((30, 40), 10), np.full((30, 10), 200)
    left[::2], right[::2] = 20, 210
    part = patches(root=photographs(tmp_path, np.concatenate([left, right], 1)), size=5, count=300)
    train, test = part._regions()
    assert {round(float(v) * 255) for v in np.unique(train[0])} == {10, 20}
    assert {round(float(v) * 255) for v in np.unique(test[0])} == {200, 210}
    assert train[0].shape == (30, 40) and test[0].shape == (30, 10)


def test_no_place_is_drawn_twice_and_every_one_can_be() -> None:
    regions = [numbered(12, 15).astype(np.float32), numbered(13, 15)[::-1].astype(np.float32)]
    count = 9 * 12 + 10 * 12
    drawn = patches(size=4)._sample("training", regions, count, np.random.default_rng(0))
    places = [r[i : i + 4, j : j + 4] for r in regions for i in range(len(r) - 3) for j in range(12)]
    assert {patch.tobytes() for patch in drawn} == {np.ascontiguousarray(place).tobytes() for place in places}
    assert len({patch.tobytes() for patch in drawn}) == count


def test_photographs_of_any_size_and_mode_and_none_that_is_too_small(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    root = photographs(tmp_path, random.integers(0, 256, (60, 50, 3)), random.integers(0, 256, (3, 3)))
    data = patches(root=root, size=6, count=40).load(CPU)
    assert data.train.inputs.shape == (40, 1, 6, 6) and data.test.inputs.shape == (8, 1, 6, 6)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    root = photographs(tmp_path / "small", numbered(12, 15))
    for keys, words in [
        ({"root": str(tmp_path / "none")}, "dataset.root"),
        ({"root": photographs(tmp_path / "empty")}, "dataset.root"),
        ({"root": root, "size": 4, "count": 300}, "dataset.count=300: the training part .* 81 places"),
        ({"root": root, "size": 13, "count": 1}, "0 places for patches of 13x13"),
        ({"root": photographs(tmp_path / "flat", np.full((40, 40), 7)), "count": 9}, "dataset.root.*single color"),
    ]:
        with pytest.raises(DataError, match=words) as caught:
            patches(**keys).load(CPU)
        assert len(str(caught.value).splitlines()) == 1
    (tmp_path / "small" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad\.png: cannot be decoded"):
        patches(root=root, count=9).load(CPU)


def test_a_camera_of_12_bits_is_named_and_scaled_by_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (40, 60))
    bright, dark = tmp_path / "bright", tmp_path / "dark"
    photographs(bright, gray)
    dark.mkdir()
    Image.fromarray((gray * 16).astype(np.uint16)).save(dark / "0.png")
    expected = patches(root=str(bright), count=50).read().train
    found = patches(root=str(dark), count=50, white_value=255 * 16).read().train
    np.testing.assert_array_equal(found, expected)
    assert not caplog.messages
    assert not np.array_equal(patches(root=str(dark), count=50).read().train, expected)
    assert "brightest value is 4,080 of 65,535" in caplog.text
