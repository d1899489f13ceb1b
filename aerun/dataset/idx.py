"""Data sets in LeCun's IDX format: MNIST and its drop-in replacements.

Files may be gzipped, and are searched in ``root`` and in torchvision's subfolder of it. Missing files are downloaded by
torchvision, which knows the mirrors and the checksums.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from aerun.dataset.base import Dataset, StoredDataset
from aerun.dataset.data import Arrays
from aerun.dataset.paths import root_folder
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

PARTS = {"train": "train", "test": "t10k"}
EMBEDDED = Path(__file__).resolve().parent.parent / "data" / "fashion_mnist_mini"


def find_idx(root: Path, name: str, folder: str = "") -> Path | None:
    """Return the file of that name in ``root`` or ``root/folder/raw``, gzipped or not; None if there is none."""
    places = [root, root / folder / "raw"]
    candidates = [place / f"{name}{end}" for place in places for end in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)


def read_idx_bytes(path: Path) -> tuple[np.ndarray, str]:
    """Return the array in an IDX file of unsigned bytes, and the SHA-256 of the file's unzipped content.

    DataError names the file if it is truncated, has another magic number, or contradicts the sizes in its header.
    """
    import numpy as np

    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error or 'truncated'})") from error
    if len(content) < 8 or content[:3] != b"\x00\x00\x08" or content[3] not in (1, 3):
        raise DataError(
            f"{path}: is not an IDX file of unsigned bytes (it starts with {content[:4].hex() or 'nothing'})"
        )
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:start]) if len(content) >= start else ()
    expected = start
    for index, size in enumerate(shape):
        expected = size if index == 0 else expected * size
    if len(content) < start or len(content) - start != expected:
        raise DataError(f"{path}: contains {max(0, len(content) - start)} bytes of data, but its header says {shape}")
    if 0 in shape:
        raise DataError(f"{path}: is empty; its header says {shape}")
    array = np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    return array, hashlib.sha256(content).hexdigest()


def write_idx(array: np.ndarray) -> bytes:
    """Return the content of an IDX file for an array of unsigned bytes."""
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@dataclass(frozen=True, kw_only=True)
class _Idx(Dataset):
    """Reads images [N,H,W] and labels [N] of both parts, and checks checksums and counts."""

    folder: ClassVar[str] = ""
    sums: ClassVar[dict[str, str]] = {}
    class_names: ClassVar[list[str]] = [str(digit) for digit in range(10)]

    def files(self, part: str) -> tuple[Path, Path]:
        """Return the paths of the images and labels of ``train`` or ``t10k``."""
        raise NotImplementedError

    def read(self) -> Arrays:
        images: dict[str, np.ndarray] = {}
        labels: dict[str, np.ndarray] = {}
        for part, name in PARTS.items():
            for arrays, path in ((images, self.files(name)[0]), (labels, self.files(name)[1])):
                array, digest = read_idx_bytes(path)
                expected = self.sums.get(path.name.removesuffix(".gz"))
                if expected is not None and digest != expected:
                    raise DataError(
                        f"{path}: its SHA-256 is {digest[:12]}…, that of the published file is {expected[:12]}…"
                    )
                arrays[part] = array
            if images[part].ndim != 3 or labels[part].ndim != 1 or len(images[part]) != len(labels[part]):
                raise DataError(
                    f"{self.files(name)[0]}: {len(images[part])} images, but {len(labels[part])} labels in "
                    f"{self.files(name)[1].name}"
                )
        return Arrays(
            images["train"][:, None].copy(),
            images["test"][:, None].copy(),
            labels["train"].copy(),
            labels["test"].copy(),
            self.class_names,
        )


CLOTHES = [
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
]


@dataclass(frozen=True, kw_only=True)
class FashionMNISTMini(_Idx):
    """The first 10,000 training and 2,000 test images of Fashion-MNIST, included in the package."""

    class_names: ClassVar[list[str]] = CLOTHES
    sums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "ed2e37ed5a3a57d212141a69fe0a0de5a7126ffba14ac3f7e76f5f52cc04b1f0",
        "train-labels-idx1-ubyte": "a69f2dad024ca220a8c4d85f621fdf929042d40c444abde2868903e9220ad517",
        "t10k-images-idx3-ubyte": "862035b0a96959b614c9574f4c2b0ae9584ca234813e8d6d7adb7838b12ca46b",
        "t10k-labels-idx1-ubyte": "aa3f574d30afaf0d4d9da084a6f8541771e20693d6a97fae6e9a4953fca8f078",
    }

    def files(self, part: str) -> tuple[Path, Path]:
        return EMBEDDED / f"{part}-images-idx3-ubyte.gz", EMBEDDED / f"{part}-labels-idx1-ubyte.gz"


def _file_names(part: str) -> list[str]:
    return [f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"]


@dataclass(frozen=True, kw_only=True)
class _Downloaded(_Idx, StoredDataset):
    """Adds ``root`` (null: $AERUN_DATA or ~/.cache/aerun) and ``download``."""

    download: bool

    def sources(self) -> list[Path]:
        root = root_folder(self.root)
        found = [find_idx(root, name, self.folder) for part in PARTS.values() for name in _file_names(part)]
        return [] if None in found else [path for path in found if path is not None]

    def files(self, part: str) -> tuple[Path, Path]:
        root = root_folder(self.root)
        names = _file_names(part)
        found = [find_idx(root, name, self.folder) for name in names]
        if None in found and self.download:
            from aerun.dataset.vision import download

            download(self.folder, root, self.folder)
            found = [find_idx(root, name, self.folder) for name in names]
        images, labels = found
        if images is None or labels is None:
            raise DataError(
                f"dataset.root={root}: {names[0]} and {names[1]} (or .gz) are neither there nor in "
                f"{self.folder}/raw, and dataset.download={str(self.download).lower()}"
            )
        return images, labels


@dataclass(frozen=True, kw_only=True)
class MNIST(_Downloaded):
    """LeCun, Cortes & Burges: 60,000 + 10,000 handwritten digits, 28x28."""

    folder: ClassVar[str] = "MNIST"
    sums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(_Downloaded):
    """Xiao, Rasul & Vollgraf 2017 (arXiv:1708.07747): 60,000 + 10,000 articles of clothing, 28x28."""

    folder: ClassVar[str] = "FashionMNIST"
    class_names: ClassVar[list[str]] = CLOTHES
    sums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }


@dataclass(frozen=True, kw_only=True)
class KMNIST(_Downloaded):
    """Clanuwat et al. 2018 (arXiv:1812.01718): 60,000 + 10,000 cursive Japanese characters, 28x28."""

    folder: ClassVar[str] = "KMNIST"
    class_names: ClassVar[list[str]] = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]
