"""MNIST-like files: the embedded ones, where files are found, and every way in which they can be invalid."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from aerun.dataset import KMNIST, MNIST, Data, FashionMNIST, FashionMNISTMini
from aerun.dataset import idx as idx_module
from aerun.errors import DataError
from tests.keys import PLAIN

CPU = torch.device("cpu")
FULL = os.environ.get("AERUN_FASHION_MNIST")


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def small() -> dict[str, np.ndarray]:
    """Arrays of the four files: 5 + 3 images of 3x2 pixels, all pixels different."""
    return {
        "train-images-idx3-ubyte": np.arange(30).reshape(5, 3, 2),
        "train-labels-idx1-ubyte": np.array([3, 1, 4, 1, 5]),
        "t10k-images-idx3-ubyte": np.arange(100, 118).reshape(3, 3, 2),
        "t10k-labels-idx1-ubyte": np.array([9, 2, 6]),
    }


def place(folder: Path, zipped: bool, arrays: dict[str, np.ndarray] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (arrays or small()).items():
        content = idx(array)
        (folder / f"{name}{'.gz' if zipped else ''}").write_bytes(gzip.compress(content) if zipped else content)
    return folder


def kmnist(root: Path, download: bool = False) -> KMNIST:
    """KMNIST, of which no checksums are known, so that it takes files made here."""
    return KMNIST(root=str(root), download=download, **PLAIN)


def assert_refused(data: KMNIST | MNIST | FashionMNISTMini, *words: str) -> None:
    """A DataError of one line that has all the words in it."""
    with pytest.raises(DataError) as caught:
        data.load(CPU)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise socket.gaierror(-2, "no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def embedded() -> Data:
    return FashionMNISTMini(**PLAIN).load(CPU)


def test_the_embedded_sample_has_10000_and_2000_images(embedded: Data) -> None:
    assert embedded.train.inputs.shape == (10_000, 1, 28, 28)
    assert embedded.test.inputs.shape == (2_000, 1, 28, 28)
    assert embedded.train.inputs.dtype == torch.uint8
    assert embedded.validation is None


def test_the_embedded_labels_begin_as_those_of_fashion_mnist_do(embedded: Data) -> None:
    assert embedded.train.labels is not None and embedded.test.labels is not None
    assert embedded.train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert embedded.test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert embedded.classes is not None and embedded.classes[9] == "ankle boot" and len(embedded.classes) == 10


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="AERUN_FASHION_MNIST does not name a folder with the four files")
def test_the_embedded_sample_is_the_beginning_of_fashion_mnist(embedded: Data) -> None:
    full = FashionMNIST(root=FULL, download=False, **PLAIN).load(CPU)
    assert (len(full.train), len(full.test)) == (60_000, 10_000)
    assert torch.equal(embedded.train.inputs, full.train.inputs[:10_000])
    assert torch.equal(embedded.test.inputs, full.test.inputs[:2_000])


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_changed_embedded_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(idx_module.EMBEDDED, tmp_path / "copy")
    content = bytearray(gzip.decompress((copy / f"{name}.gz").read_bytes()))
    content[-1] ^= 1
    (copy / f"{name}.gz").write_bytes(gzip.compress(bytes(content), 1))
    monkeypatch.setattr(idx_module, "EMBEDDED", copy)
    assert_refused(FashionMNISTMini(**PLAIN), name, "SHA-256")


def test_a_missing_embedded_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx_module, "EMBEDDED", tmp_path)
    assert_refused(FashionMNISTMini(**PLAIN), "train-images-idx3-ubyte")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("below", ["", "KMNIST/raw"])
def test_files_are_found_zipped_or_not_in_root_and_where_torchvision_puts_them(
    below: str, zipped: bool, tmp_path: Path
) -> None:
    place(tmp_path / below, zipped)
    data = kmnist(tmp_path).load(CPU)
    for split, part in ((data.train, "train"), (data.test, "t10k")):
        assert split.inputs[:, 0].tolist() == small()[f"{part}-images-idx3-ubyte"].tolist()
        assert split.labels is not None
        assert split.labels.tolist() == small()[f"{part}-labels-idx1-ubyte"].tolist()


def test_mnist_is_found_in_mnist_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "sums", {})
    place(tmp_path / "MNIST" / "raw", zipped=True)
    assert MNIST(root=str(tmp_path), download=False, **PLAIN).load(CPU).input_shape == (1, 3, 2)


def test_mnist_with_other_content_is_refused(tmp_path: Path) -> None:
    place(tmp_path, zipped=True)
    data = MNIST(root=str(tmp_path), download=False, **PLAIN)
    assert_refused(data, "train-images-idx3-ubyte.gz", "SHA-256", "ba891046e650")


def shorten(content: bytes) -> bytes:
    return content[:-1]


def lengthen(content: bytes) -> bytes:
    return content + b"\0"


def float_magic(content: bytes) -> bytes:
    return content[:2] + b"\x0d" + content[3:]


def four_dimensions(content: bytes) -> bytes:
    return content[:3] + b"\x04" + content[4:]


def empty(content: bytes) -> bytes:
    return b""


def half_a_header(content: bytes) -> bytes:
    return content[:10]


def endless(content: bytes) -> bytes:
    return content[:4] + b"\xff" * 12 + content[16:]


DAMAGES = [shorten, lengthen, float_magic, four_dimensions, empty, half_a_header, endless]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(damage: Callable[[bytes], bytes], zipped: bool, tmp_path: Path) -> None:
    path = place(tmp_path, zipped) / f"t10k-images-idx3-ubyte{'.gz' if zipped else ''}"
    content = damage(idx(small()["t10k-images-idx3-ubyte"]))
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert_refused(kmnist(tmp_path), str(path))


@pytest.mark.parametrize("left", [0, 1, 5, 15, 30, -9, -1])
def test_a_truncated_gzip_file_is_named(left: int, tmp_path: Path) -> None:
    path = place(tmp_path, zipped=True) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:left])
    assert_refused(kmnist(tmp_path), str(path))


def test_a_gzip_file_with_a_wrong_byte_is_named(tmp_path: Path) -> None:
    path = place(tmp_path, zipped=True) / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for position in range(len(whole) // 2, len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        assert_refused(kmnist(tmp_path), str(path))


@pytest.mark.parametrize("labels", [4, 6])
def test_a_different_number_of_labels_is_refused(labels: int, tmp_path: Path) -> None:
    place(tmp_path, zipped=True, arrays={**small(), "train-labels-idx1-ubyte": np.zeros(labels)})
    assert_refused(kmnist(tmp_path), "train-labels-idx1-ubyte", "5 images", f"{labels} labels")


def test_images_in_place_of_labels_are_refused(tmp_path: Path) -> None:
    place(tmp_path, zipped=True, arrays={**small(), "train-labels-idx1-ubyte": np.zeros((5, 3, 2))})
    assert_refused(kmnist(tmp_path), "train-labels-idx1-ubyte")


def test_a_test_part_of_another_size_is_refused(tmp_path: Path) -> None:
    place(tmp_path, zipped=True, arrays={**small(), "t10k-images-idx3-ubyte": np.zeros((3, 4, 4))})
    assert_refused(kmnist(tmp_path), "3, 2", "4, 4")


def test_a_part_without_images_is_refused(tmp_path: Path) -> None:
    nothing = {"t10k-images-idx3-ubyte": np.zeros((0, 3, 2)), "t10k-labels-idx1-ubyte": np.zeros(0)}
    place(tmp_path, zipped=False, arrays={**small(), **nothing})
    assert_refused(kmnist(tmp_path), "t10k-images-idx3-ubyte")


@pytest.mark.parametrize("name", list(small()))
def test_a_missing_file_is_named_with_the_places_searched(name: str, tmp_path: Path) -> None:
    (place(tmp_path, zipped=True) / f"{name}.gz").unlink()
    assert_refused(kmnist(tmp_path), name, str(tmp_path), "KMNIST/raw", "dataset.download=false")


def test_a_root_that_does_not_exist_is_refused_and_not_made(tmp_path: Path) -> None:
    for download in (False, True):
        assert_refused(kmnist(tmp_path / "nowhere", download), "dataset.root", str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("dataset", [MNIST, FashionMNIST, KMNIST])
@pytest.mark.usefixtures("no_network")
def test_a_failed_download_says_where_files_go_and_leaves_nothing(dataset: type[MNIST], tmp_path: Path) -> None:
    data = dataset(root=str(tmp_path), download=True, **PLAIN)
    assert_refused(data, f"{dataset.__name__} could not be downloaded", str(tmp_path / dataset.__name__ / "raw"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_network")
def test_a_failed_download_says_why(tmp_path: Path) -> None:
    assert_refused(kmnist(tmp_path, download=True), "no network here")


@pytest.mark.usefixtures("no_network")
def test_without_download_the_network_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.download=false") as caught:
        kmnist(tmp_path, download=False).load(CPU)
    assert "downloaded" not in str(caught.value)


class FakeKMNIST:
    """In torchvision's place: "downloads" the two files of one part."""

    downloads = 0
    fails_after: int | None = None

    def __init__(self, root: str, train: bool, download: bool) -> None:
        type(self).downloads += 1
        part = "train" if train else "t10k"
        files = {name: array for name, array in small().items() if name.startswith(part)}
        place(Path(root) / "KMNIST" / "raw", zipped=True, arrays=files)
        if self.downloads == self.fails_after:
            raise OSError("the line broke")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeKMNIST]:
    monkeypatch.setattr(FakeKMNIST, "downloads", 0)
    monkeypatch.setattr(FakeKMNIST, "fails_after", None)
    monkeypatch.setattr(torchvision.datasets, "KMNIST", FakeKMNIST)
    return FakeKMNIST


def test_a_download_is_kept_and_not_repeated(fake: type[FakeKMNIST], tmp_path: Path) -> None:
    for _ in range(2):
        assert len(kmnist(tmp_path, download=True).load(CPU).train) == 5
    assert fake.downloads == 2
    assert [path.name for path in tmp_path.iterdir()] == ["KMNIST"]


def test_a_download_that_breaks_off_leaves_nothing(
    fake: type[FakeKMNIST], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "fails_after", 2)
    assert_refused(kmnist(tmp_path, download=True), "the line broke")
    assert list(tmp_path.iterdir()) == []


def test_a_download_completes_a_folder_that_has_some_of_the_files(fake: type[FakeKMNIST], tmp_path: Path) -> None:
    (place(tmp_path / "KMNIST" / "raw", zipped=True) / "t10k-labels-idx1-ubyte.gz").unlink()
    assert len(kmnist(tmp_path, download=True).load(CPU).test) == 3


def test_without_root_files_are_kept_below_aerun_data(
    fake: type[FakeKMNIST], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AERUN_DATA", str(tmp_path / "new" / "folder"))
    KMNIST(root=None, download=True, **PLAIN).load(CPU)
    assert (tmp_path / "new" / "folder" / "KMNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").is_file()
