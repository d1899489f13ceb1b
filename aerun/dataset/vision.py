"""Downloads by torchvision, and the data sets that it reads."""

from __future__ import annotations

import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aerun.dataset.base import StoredDataset
from aerun.dataset.data import Arrays
from aerun.dataset.paths import root_folder
from aerun.errors import DataError

EXPECTED_FILES = {
    "MNIST": "the four *-ubyte.gz files in {root}/MNIST/raw",
    "FashionMNIST": "the four *-ubyte.gz files in {root}/FashionMNIST/raw",
    "KMNIST": "the four *-ubyte.gz files in {root}/KMNIST/raw",
    "CIFAR10": "cifar-10-batches-py (cifar-10-python.tar.gz, unpacked) in {root}",
    "SVHN": "train_32x32.mat and test_32x32.mat in {root}",
}


def download(name: str, root: Path, *produced: str) -> None:
    """Download both parts of torchvision's data set ``name``, and move the files (``produced``, or all) into ``root``.

    The download goes to a temporary folder in ``root``, so that an interrupted one leaves nothing behind. DataError
    says why it failed and where to place the files by hand.
    """
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch:
            with contextlib.redirect_stdout(io.StringIO()):
                for train in (True, False):
                    _open(name, Path(scratch), train, download=True)
            for path in sorted(path for path in Path(scratch).rglob("*") if path.is_file()):
                part = path.relative_to(scratch)
                if not produced or part.parts[0] in produced:
                    (root / part).parent.mkdir(parents=True, exist_ok=True)
                    path.replace(root / part)
    except (OSError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name} could not be downloaded ({reason}). "
            f"Place {EXPECTED_FILES[name].format(root=root)} by hand, or set dataset.root to their folder"
        ) from error


def _open(name: str, root: Path, train: bool, download: bool) -> Any:
    import torchvision.datasets

    part: dict[str, Any] = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
    return getattr(torchvision.datasets, name)(str(root), download=download, **part)


@dataclass(frozen=True, kw_only=True)
class _Torchvision(StoredDataset):
    """``root`` (null: $AERUN_DATA or ~/.cache/aerun) contains the files in torchvision's layout."""

    download: bool
    name: ClassVar[str] = ""

    files: ClassVar[list[str]] = []
    class_names: ClassVar[list[str]] = []

    def sources(self) -> list[Path]:
        root = root_folder(self.root)
        paths = [path for name in self.files for path in sorted(root.glob(name))]
        return paths if len(paths) >= len(self.files) else []

    def read(self) -> Arrays:
        import numpy as np

        root = root_folder(self.root)
        try:
            parts = [_open(self.name, root, train, download=False) for train in (True, False)]
        except RuntimeError as error:
            if not self.download:
                raise DataError(
                    f"dataset.root={root}: {self.name} is missing or damaged, and dataset.download=false. "
                    f"It needs {EXPECTED_FILES[self.name].format(root=root)}"
                ) from error
            download(self.name, root)
            parts = [_open(self.name, root, train, download=False) for train in (True, False)]
        images = [np.asarray(part.data) for part in parts]
        if images[0].shape[-1] == 3:
            images = [np.ascontiguousarray(array.transpose(0, 3, 1, 2)) for array in images]
        labels = [np.asarray(self.labels_of(part), np.int64) for part in parts]
        return Arrays(images[0], images[1], labels[0], labels[1], self.class_names)

    def labels_of(self, part: Any) -> Any:
        """Return the labels of one of torchvision's data sets."""
        return part.targets


@dataclass(frozen=True, kw_only=True)
class CIFAR10(_Torchvision):
    """Krizhevsky 2009: 50,000 + 10,000 color images, 32x32."""

    name: ClassVar[str] = "CIFAR10"
    files: ClassVar[list[str]] = ["cifar-10-batches-py/*"]
    class_names: ClassVar[list[str]] = [
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SVHN(_Torchvision):
    """Netzer et al. 2011: 73,257 + 26,032 color images of house numbers, 32x32."""

    name: ClassVar[str] = "SVHN"

    files: ClassVar[list[str]] = ["train_32x32.mat", "test_32x32.mat"]
    class_names: ClassVar[list[str]] = [str(digit) for digit in range(10)]

    def labels_of(self, part: Any) -> Any:
        return part.labels
