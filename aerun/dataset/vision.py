"""Downloads by torchvision, and the data sets that are read by it."""

from __future__ import annotations

import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aerun.dataset.base import Dataset
from aerun.dataset.data import Arrays
from aerun.dataset.places import root_folder
from aerun.errors import DataError

PLACES = {
    "MNIST": "the four *-ubyte.gz files in {root}/MNIST/raw",
    "FashionMNIST": "the four *-ubyte.gz files in {root}/FashionMNIST/raw",
    "KMNIST": "the four *-ubyte.gz files in {root}/KMNIST/raw",
    "CIFAR10": "cifar-10-batches-py (cifar-10-python.tar.gz, unpacked) in {root}",
    "SVHN": "train_32x32.mat and test_32x32.mat in {root}",
}


def download(name: str, root: Path, *produced: str) -> None:
    """Let torchvision download both parts of its data set ``name``, then move the results into ``root``.

    The download goes to a temporary folder beside them, so that one that is cut off leaves nothing behind.
    DataError says why it failed and where the files may be placed by hand.
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
            f"Place {PLACES[name].format(root=root)} by hand, or set dataset.root to where they are"
        ) from error


def _open(name: str, root: Path, train: bool, download: bool) -> Any:
    import torchvision.datasets

    part: dict[str, Any] = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
    return getattr(torchvision.datasets, name)(str(root), download=download, **part)


@dataclass(frozen=True, kw_only=True)
class _Torchvision(Dataset):
    """``root`` (null: $AERUN_DATA or ~/.cache/aerun) holds the files as torchvision lays them out."""

    root: str | None
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
                    f"dataset.root={root}: {self.name} is not there or damaged, and dataset.download=false. "
                    f"It needs {PLACES[self.name].format(root=root)}"
                ) from error
            download(self.name, root)
            parts = [_open(self.name, root, train, download=False) for train in (True, False)]
        images = [np.asarray(part.data) for part in parts]
        if images[0].shape[-1] == 3:
            images = [np.ascontiguousarray(array.transpose(0, 3, 1, 2)) for array in images]
        labels = [np.asarray(part.labels if hasattr(part, "labels") else part.targets, np.int64) for part in parts]
        return Arrays(images[0], images[1], labels[0], labels[1], self.class_names)


@dataclass(frozen=True, kw_only=True)
class CIFAR10(_Torchvision):
    """Krizhevsky 2009: 50,000 + 10,000 colour images, 32x32."""

    name: ClassVar[str] = "CIFAR10"
    files: ClassVar[list[str]] = ["cifar-10-batches-py/*"]
    class_names: ClassVar[list[str]] = [
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SVHN(_Torchvision):
    """Netzer et al. 2011: 73,257 + 26,032 colour images of house numbers, 32x32."""

    name: ClassVar[str] = "SVHN"
    files: ClassVar[list[str]] = ["train_32x32.mat", "test_32x32.mat"]
    class_names: ClassVar[list[str]] = [str(digit) for digit in range(10)]
