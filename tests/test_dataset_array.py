"""Valid and invalid .npy and .npz files of a user."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aerun.dataset import Array, Data
from aerun.dataset.array import as_images
from aerun.errors import DataError
from tests.keys import PLAIN

KEYS: dict[str, Any] = {
    **PLAIN,
    "images_key": "images",
    "labels_key": "labels",
    "test": 0.2,
}
CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (20, 3, 5, 7), dtype=np.uint8)
VECTORS = RANDOM.standard_normal((20, 6)).astype(np.float32)


def load(path: Path, **keys: Any) -> Data:
    return Array(root=str(path), **{**KEYS, **keys}).load(CPU)


def npy(tmp_path: Path, array: Any) -> Path:
    np.save(tmp_path / "data.npy", array, allow_pickle=True)
    return tmp_path / "data.npy"


def npz(tmp_path: Path, **arrays: Any) -> Path:
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def everything(data: Data) -> np.ndarray:
    return np.concatenate([data.train.inputs.numpy(), data.test.inputs.numpy()])


def rows(array: np.ndarray) -> list[bytes]:
    """Rows in an order that does not depend on the split."""
    return sorted(row.tobytes() for row in array)


def assert_refused(path: Path, *words: str, **keys: Any) -> None:
    with pytest.raises(DataError) as caught:
        load(path, **keys)
    for word in (*words, str(path)):
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_uint8_images_stay_what_they_are(tmp_path: Path) -> None:
    data = load(npy(tmp_path, IMAGES))
    assert data.train.inputs.dtype == torch.uint8 and data.input_shape == (3, 5, 7)
    assert (len(data.train), len(data.test)) == (16, 4)
    assert rows(everything(data)) == rows(IMAGES)
    assert data.train.labels is None and data.classes is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ">f4"])
def test_other_numbers_are_taken_as_they_are(dtype: Any, tmp_path: Path) -> None:
    images = np.arange(20 * 1 * 2 * 3).reshape(20, 1, 2, 3).astype(dtype) * 3 - 7
    data = load(npy(tmp_path, images))
    assert data.train.inputs.dtype == torch.float32
    assert rows(everything(data)) == rows(images.astype(np.float32))


def test_images_of_whole_numbers_are_uint8(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be uint8"):
        load(npy(tmp_path, IMAGES.astype(np.int64)))


def test_channels_in_the_last_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looks like \[N,H,W,C\]"):
        load(npy(tmp_path, np.zeros((20, 8, 9, 3), np.uint8)))


def test_vectors_have_one_dimension(tmp_path: Path) -> None:
    data = load(npy(tmp_path, VECTORS))
    assert data.input_shape == (6,) and data.output_shape == (6,)
    assert rows(everything(data)) == rows(VECTORS)


def test_uint8_vectors_mean_0_to_255(tmp_path: Path) -> None:
    data = load(npy(tmp_path, np.arange(20, dtype=np.uint8)[:, None].repeat(3, 1) * 12))
    for row in everything(data):
        assert row == pytest.approx([round(float(row[0]) * 255 / 12) * 12 / 255] * 3)
    assert everything(data).max() == pytest.approx(19 * 12 / 255)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_does_not_matter(order: Any, tmp_path: Path) -> None:
    assert rows(everything(load(npy(tmp_path, np.asarray(IMAGES, order=order))))) == rows(IMAGES)
    plain = load(npy(tmp_path, IMAGES))
    assert load(npy(tmp_path, np.asarray(IMAGES, order=order))).checksum == plain.checksum


def test_labels_stay_with_their_images(tmp_path: Path) -> None:
    labels = IMAGES[:, 0, 0, 0].astype(np.int32)
    data = load(npz(tmp_path, images=IMAGES, labels=labels))
    for split in (data.train, data.test):
        assert split.labels is not None and split.labels.dtype == torch.int64
        assert split.labels.tolist() == split.inputs[:, 0, 0, 0].tolist()
    assert data.classes is not None and data.classes[:3] == ["0", "1", "2"]
    assert len(data.classes) == labels.max() + 1


def test_a_test_part_of_ones_own_is_used(tmp_path: Path) -> None:
    other = IMAGES[:6] // 2
    labels, test_labels = np.arange(20) % 3, np.arange(6) % 4
    path = npz(tmp_path, images=IMAGES, labels=labels, test_images=other, test_labels=test_labels)
    data = load(path)
    assert (data.train.inputs.numpy() == IMAGES).all() and (data.test.inputs.numpy() == other).all()
    assert data.test.labels is not None and data.test.labels.tolist() == test_labels.tolist()
    assert data.classes == ["0", "1", "2", "3"]


def test_other_keys_can_be_named(tmp_path: Path) -> None:
    path = npz(tmp_path, x=IMAGES, y=np.zeros(20, int), test_x=IMAGES[:5])
    data = load(path, images_key="x", labels_key="y")
    assert (len(data.train), len(data.test)) == (20, 5)


def test_the_test_share_is_drawn_by_split_seed(tmp_path: Path) -> None:
    path = npy(tmp_path, IMAGES)
    first, again, other = (load(path, split_seed=seed).test.inputs for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_missing_key_lists_those_that_are_there(tmp_path: Path) -> None:
    assert_refused(npz(tmp_path, pictures=IMAGES, labels=np.zeros(20)), "images", "pictures", "dataset.images_key")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None], dtype=object)
    assert_refused(npy(tmp_path, objects))
    assert_refused(npz(tmp_path, images=objects))


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    path = npy(tmp_path, np.array([Trap()], dtype=object))
    assert_refused(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 19])
def test_numbers_that_are_not_finite_are_refused(value: float, row: int, tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[row, 3] = value
    with pytest.raises(DataError, match="not finite"):
        load(npy(tmp_path, vectors))


def test_numbers_beyond_float32_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not finite"), np.errstate(over="ignore"):
        load(npy(tmp_path, VECTORS.astype(np.float64) * 1e300))


@pytest.mark.parametrize("shape", [(), (20,), (20, 5, 7), (20, 1, 1, 5, 7), (0, 6), (20, 0), (20, 1, 0, 7)])
def test_other_numbers_of_dimensions_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    assert_refused(npy(tmp_path, np.zeros(shape)), str(shape))


@pytest.mark.parametrize("array", [np.zeros((5, 3), complex), np.full((5, 3), "a"), np.zeros((5, 3), bool)])
def test_what_is_not_a_number_is_refused(array: np.ndarray, tmp_path: Path) -> None:
    assert_refused(npy(tmp_path, array), "not numbers")


@pytest.mark.parametrize(
    "labels",
    [np.zeros(19, int), np.zeros(21, int), np.zeros((20, 1), int), np.zeros(20), np.arange(20) - 1, np.full(20, "a")],
)
def test_wrong_labels_are_refused(labels: np.ndarray, tmp_path: Path) -> None:
    assert_refused(npz(tmp_path, images=IMAGES, labels=labels), "labels must be 20 integers")


def test_wrong_test_labels_are_refused(tmp_path: Path) -> None:
    labels = np.zeros(20, int)
    path = npz(tmp_path, images=IMAGES, labels=labels, test_images=IMAGES[:5], test_labels=np.zeros(4, int))
    assert_refused(path, "labels must be 5 integers")


def test_a_test_part_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="test images"):
        load(npz(tmp_path, images=IMAGES, test_images=IMAGES[:, :1]))


def test_one_row_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 images"):
        load(npy(tmp_path, VECTORS[:1]))


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere.npy", "dataset.root")
    for name, content in {"text.npy": b"1, 2, 3", "empty.npz": b"", "zip.npz": b"PK\x03\x04"}.items():
        (tmp_path / name).write_bytes(content)
        assert_refused(tmp_path / name)
    assert_refused(tmp_path)


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, IMAGES)
    else:
        {"npz": np.savez, "compressed": np.savez_compressed}[kind](
            buffer, images=np.sort(IMAGES, axis=None).reshape(IMAGES.shape)
        )
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_a_truncated_file_is_refused(kind: str, tmp_path: Path) -> None:
    whole = saved(kind)
    path = tmp_path / "data.npz"
    for length in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:length])
        assert_refused(path)


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_a_wrong_byte_is_refused_or_read_but_never_a_crash(kind: str, tmp_path: Path) -> None:
    whole = saved(kind)
    path = tmp_path / "data.npz"
    for position in [*range(130), *range(130, len(whole), 7)]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        try:
            load(path)
        except DataError as error:
            assert str(path) in str(error)


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    path = npy(tmp_path, VECTORS)
    true, false = b"(20, 6), }".ljust(30), b"(20000000000000, 6), }".ljust(30)
    assert true in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(true, false))
    assert_refused(path)


def test_an_encrypted_or_unknown_compression_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, images=IMAGES)
    with zipfile.ZipFile(path) as archive:
        entry = archive.infolist()[0]
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    for offset, value in ((8, 1), (10, 99)):  # general purpose flags, compression method
        changed = content.copy()
        changed[central + offset] = value
        changed[entry.header_offset + offset - 2] = value
        path.write_bytes(bytes(changed))
        assert_refused(path)


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (("images", "labels", "test_images", "test_labels"), {}),
        (("x_train", "y_train", "x_test", "y_test"), {"images_key": "x_train", "labels_key": "y_train"}),
        (("train_x", "train_y", "test_x", "test_y"), {"images_key": "train_x", "labels_key": "train_y"}),
        (("train", "y", "test_train", "test_y"), {"images_key": "train", "labels_key": "y"}),
    ],
)
def test_the_test_part_of_a_file_is_found(names: tuple[str, ...], keys: dict[str, str], tmp_path: Path) -> None:
    labels = np.arange(20) % 3
    data = load(npz(tmp_path, **dict(zip(names, (IMAGES, labels, IMAGES[:4], labels[:4]), strict=True))), **keys)
    assert (len(data.train), len(data.test)) == (20, 4)
    assert data.test.labels is not None and data.test.labels.tolist() == [0, 1, 2, 0]


def test_arrays_that_are_not_read_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load(npz(tmp_path, images=IMAGES, y=np.arange(20), masks=IMAGES))
    assert f"{tmp_path / 'data.npz'}: arrays that are not read: masks, y" in caplog.messages


def test_blank_images_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = IMAGES.copy()
    images[[3, 5]] = np.array([1, 2, 3], np.uint8)[:, None, None]
    load(npy(tmp_path, images))
    assert caplog.messages == ["2 of 20 images are blank, every pixel of one color: images[3], images[5]"]


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.npy")
    assert_refused(tmp_path / "data.npy", "it is a pipe")


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.full((20, 1, 4, 4), 255.0), "images from 255 to 255, not in [0,1]"),
        (np.arange(320.0).reshape(20, 16) % 256, "whole numbers from 0 to 255"),
        (np.arange(320).reshape(20, 16) % 256, "whole numbers from 0 to 255"),
        (np.linspace(0, 1, 320).reshape(20, 1, 4, 4), ""),
        (np.linspace(-3, 300, 320).reshape(20, 16), ""),
        (np.zeros((20, 16)), ""),
        ((np.arange(320) % 256).astype(np.uint8).reshape(20, 16), ""),
    ],
)
def test_numbers_that_look_like_unscaled_pixels_are_named(
    images: np.ndarray, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As Keras leaves them. Vectors may be in any units."""
    as_images(tmp_path / "a.npy", images)
    assert (said in caplog.text and "array.astype('uint8')" in caplog.text) if said else not caplog.text


def test_images_without_channels_are_refused_with_the_remedy(tmp_path: Path) -> None:
    images = np.zeros((20, 8, 8), np.uint8)
    with pytest.raises(DataError, match=r"gray images \[N,H,W\] need a dimension of one channel: array\[:, None\]"):
        as_images(tmp_path / "a.npy", images)
    assert as_images(tmp_path / "a.npy", images[:, None]).shape == (20, 1, 8, 8)
