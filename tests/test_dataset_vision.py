"""CIFAR-10 and SVHN, with small stand-ins for torchvision's classes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from aerun.dataset import CIFAR10, SVHN
from aerun.errors import DataError
from tests.keys import PLAIN

CPU = torch.device("cpu")


class Fake:
    """Reads one file that it "downloads", as torchvision's classes do."""

    downloads = 0
    file = ""

    @classmethod
    def fetch(cls, root: str, download: bool) -> None:
        path = Path(root) / cls.file
        if download:
            cls.downloads += 1
            path.mkdir(exist_ok=True)
            (path / "content").write_text("whole")
        if not (path / "content").is_file() or (path / "content").read_text() != "whole":
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")


class FakeCIFAR10(Fake):
    """Color images 4x5, height x width x channel."""

    file = "cifar-10-batches-py"

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        self.fetch(root, download)
        count, start = (2, 0) if train else (1, 120)
        self.data = np.arange(start, start + count * 60, dtype=np.uint8).reshape(count, 4, 5, 3)
        self.targets = [7, 3] if train else [9]


class FakeSVHN(Fake):
    """Color images 4x5, channel x height x width."""

    file = "train_32x32.mat"

    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        self.fetch(root, download)
        count, start = {"train": (2, 0), "test": (1, 120)}[split]
        self.data = np.arange(start, start + count * 60, dtype=np.uint8).reshape(count, 3, 4, 5)
        self.labels = np.array([7, 3] if split == "train" else [9])


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, fake in (("CIFAR10", FakeCIFAR10), ("SVHN", FakeSVHN)):
        monkeypatch.setattr(fake, "downloads", 0)
        monkeypatch.setattr(torchvision.datasets, name, fake)


def place(root: Path, fake: Any) -> None:
    fake.fetch(str(root), download=True)
    fake.downloads = 0


@pytest.mark.usefixtures("fakes")
def test_cifar10_becomes_channels_first_uint8(tmp_path: Path) -> None:
    place(tmp_path, FakeCIFAR10)
    data = CIFAR10(root=str(tmp_path), download=False, **PLAIN).load(CPU)
    assert data.train.inputs.shape == (2, 3, 4, 5) and data.train.inputs.dtype == torch.uint8
    for n in range(2):
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    assert data.train.inputs[n, c, y, x] == n * 60 + y * 15 + x * 3 + c
    assert data.train.labels is not None and data.train.labels.tolist() == [7, 3]
    assert data.test.labels is not None and data.test.labels.tolist() == [9]
    assert data.classes is not None and data.classes[7] == "horse"


@pytest.mark.usefixtures("fakes")
def test_svhn_stays_channels_first(tmp_path: Path) -> None:
    place(tmp_path, FakeSVHN)
    data = SVHN(root=str(tmp_path), download=False, **PLAIN).load(CPU)
    assert data.train.inputs.flatten().tolist() == list(range(120))
    assert data.input_shape == (3, 4, 5)
    assert data.test.inputs.flatten().tolist() == list(range(120, 180))
    assert data.train.labels is not None and data.train.labels.tolist() == [7, 3]


DATASETS = [(CIFAR10, FakeCIFAR10), (SVHN, FakeSVHN)]


@pytest.mark.parametrize(("dataset", "fake"), DATASETS)
@pytest.mark.usefixtures("fakes")
def test_a_download_is_kept_and_not_repeated(dataset: Any, fake: Any, tmp_path: Path) -> None:
    for _ in range(2):
        dataset(root=str(tmp_path), download=True, **PLAIN).load(CPU)
    assert fake.downloads == 2
    assert [path.name for path in tmp_path.iterdir()] == [fake.file]


@pytest.mark.parametrize(("dataset", "fake"), DATASETS)
@pytest.mark.usefixtures("fakes")
def test_a_download_replaces_what_is_damaged(dataset: Any, fake: Any, tmp_path: Path) -> None:
    place(tmp_path, fake)
    (tmp_path / fake.file / "content").write_text("half")
    assert len(dataset(root=str(tmp_path), download=True, **PLAIN).load(CPU).train) == 2


@pytest.mark.parametrize(("dataset", "fake"), DATASETS)
@pytest.mark.usefixtures("fakes")
def test_without_download_missing_files_are_described(dataset: Any, fake: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        dataset(root=str(tmp_path), download=False, **PLAIN).load(CPU)
    for word in (str(tmp_path), dataset.__name__, "dataset.download=false", fake.file):
        assert word in str(caught.value)
    assert fake.downloads == 0


@pytest.mark.parametrize("dataset", [CIFAR10, SVHN])
def test_a_failed_download_says_why_and_where_files_go_and_leaves_nothing(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise socket.gaierror(-2, "no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DataError) as caught:
        dataset(root=str(tmp_path), download=True, **PLAIN).load(CPU)
    for word in (dataset.__name__, "could not be downloaded", "no network here", str(tmp_path), "by hand"):
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dataset", [CIFAR10, SVHN])
def test_a_root_that_does_not_exist_is_refused_and_not_made(dataset: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        dataset(root=str(tmp_path / "nowhere"), download=True, **PLAIN).load(CPU)
    assert not (tmp_path / "nowhere").exists()
