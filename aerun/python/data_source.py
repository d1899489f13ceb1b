"""What ``aerun.train`` and ``aerun.run_sweep`` are given as data -> words of the command line, and a file of arrays."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from aerun.base.files import atomic_write, make_folder, storage_error
from aerun.config.override_syntax import quoted
from aerun.core.image_inputs import as_pictures
from aerun.errors import ConfigError, DataError
from aerun.runs.folder import read_config

ArrayLike = np.ndarray | Tensor
Given = str | os.PathLike[str] | ArrayLike | tuple[ArrayLike, ArrayLike] | Sequence[Image]
ARRAYS = "arrays"  # folder next to run folders
CHANNELS = (1, 3, 4)
ANY_UNITS = "in other units: numpy.savez('data.npz', images=array), and data='data.npz'"


@dataclass(frozen=True)
class Handed:
    """Arrays that were handed over: ``images``, and ``test_images`` of a pair, as ``dataset=array`` reads them."""

    arrays: dict[str, np.ndarray]

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of names, shapes, types and bytes; 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, array in self.arrays.items():
            digest.update(f"{name}{array.shape}{array.dtype}".encode())
            digest.update(array.data)
        return digest.hexdigest()[:16]

    def path_for(self, folder: Path) -> Path:
        """The file for runs in ``folder``, shared with those next to it."""
        return folder.parent / ARRAYS / f"{self.checksum}.npz"

    def path_of_run(self, folder: Path) -> Path:
        """The file of the run in ``folder``. DataError if that was trained on other data."""
        path = Path(str(read_config(folder)["dataset"].get("root")))
        if path.name != f"{self.checksum}.npz":
            raise DataError(
                f"data: {folder} was trained on other data, {path.name}; what was handed over has the checksum "
                f"{self.checksum}. Hand over the same data, or choose another folder"
            )
        return path

    def write(self, path: Path) -> bool:
        """Write the file if it does not exist; whether it was written. StorageError if that fails."""
        if path.exists():
            return False
        make_folder(path.parent)
        try:
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **self.arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise storage_error(error, path, sum(array.nbytes for array in self.arrays.values())) from error
        return True


@dataclass(frozen=True)
class DataSource:
    """``words`` choose the data set; the root of ``handed`` arrays is known once the run's folder is."""

    words: list[str]
    handed: Handed | None = None


def data_source(data: Given) -> DataSource:
    """A folder of pictures, a file of arrays, an array, a pair of arrays, or PIL images. DataError for what is none of
    these, or whose meaning is not certain."""
    if isinstance(data, str | os.PathLike):
        return _from_path(Path(data))
    if isinstance(data, Sequence) and (pictures := [image for image in data if isinstance(image, Image)]):
        data = _from_pictures(pictures, len(data))
    if isinstance(data, ArrayLike):
        return DataSource(["dataset=array", f"dataset.root={ARRAYS}"], Handed({"images": as_images(data, "data")}))
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, ArrayLike) for part in data):
        return DataSource(["dataset=array", f"dataset.root={ARRAYS}"], Handed(_pair(*data)))
    raise DataError(
        f"data: got a {type(data).__name__}; expected a folder of pictures, a .npz or .npy file, an array, a pair "
        "(train, test) of arrays, or a list of PIL images. Several images become an array by numpy.stack"
    )


def reject_other_data(words: Sequence[str]) -> None:
    """ConfigError for words that choose a data set, too."""
    for word in words:
        if word.lstrip("+~").partition("=")[0] in ("dataset", "dataset.root"):
            raise ConfigError(f"{word} and data=: both say what to train on; leave out one")


def _from_path(path: Path) -> DataSource:
    if not path.exists():  # a name may begin with ~
        with contextlib.suppress(RuntimeError):
            path = path.expanduser()
    path = path.absolute()
    if path.is_dir():
        return DataSource(["dataset=image_folder", f"dataset.root={quoted(path)}"])
    if path.suffix in (".npz", ".npy") and path.is_file():
        return DataSource(["dataset=array", f"dataset.root={quoted(path)}"])
    if path.exists():
        raise DataError(f"data={path}: is neither a folder of pictures nor a .npz or .npy file")
    raise DataError(f"data={path}: there is no such file or folder; a data set of aerun's is a word, 'dataset=mnist'")


def _from_pictures(pictures: Sequence[Image], count: int) -> np.ndarray:
    if len(pictures) != count:
        raise DataError(f"data: only {len(pictures)} of the {count} in this list are PIL images")
    try:
        return as_pictures(pictures)
    except ValueError as error:
        raise DataError(f"data: {error}") from error


def _pair(train: ArrayLike, test: ArrayLike) -> dict[str, np.ndarray]:
    if test.ndim == 1 and train.ndim > 1:
        raise DataError(
            f"data: the second of a pair has the shape {list(test.shape)}, as labels have; a pair is (train, test). "
            "Labels go into a file: numpy.savez('data.npz', images=images, labels=labels), and data='data.npz'"
        )
    arrays = {"images": as_images(train, "data[0]"), "test_images": as_images(test, "data[1]")}
    first, second = arrays.values()
    if first.shape[1:] != second.shape[1:] or first.dtype != second.dtype:
        given = " and ".join(f"{array.dtype} {list(array.shape)}" for array in (first, second))
        raise DataError(f"data: training and test images differ in shape or type: {given}")
    return arrays


def as_images(given: ArrayLike, name: str) -> np.ndarray:
    """Images as ``dataset=array`` stores them, uint8 or float32 [N,C,H,W], or float32 vectors [N,F].

    DataError, with ``name``, for arrays whose layout, type or range has more than one meaning.
    """
    if isinstance(given, Tensor):
        given = (given.float() if given.dtype == torch.bfloat16 else given).detach().cpu().numpy()
    about = f"{name}: {given.dtype} {list(given.shape)}"
    if given.ndim < 2 or given.ndim > 4 or 0 in given.shape:
        raise DataError(f"{about}: expected images [N,H,W], [N,H,W,C] or [N,C,H,W], or vectors [N,F]")
    if given.dtype.kind == "f":
        values = given.astype(np.float32)
    elif given.dtype == np.uint8:
        values = given
    else:
        raise DataError(f"{about}: {_advice(given)}")
    if values.ndim == 2:
        if given.dtype == np.uint8:
            raise DataError(f"{about}: one image, or vectors? Images are [N,H,W]; vectors [N,F] are floats: data / 255")
        return np.ascontiguousarray(values)
    if values.dtype == np.float32 and (values.min() < 0 or values.max() > 1):
        raise DataError(
            f"{about}: from {values.min():g} to {values.max():g}, but images are floats in [0,1]. Divide by the value "
            f"of white, or give uint8 (0 to 255); {ANY_UNITS}"
        )
    return np.ascontiguousarray(_channels_first(values, about))


def _advice(array: np.ndarray) -> str:
    """What to do with an array of another type than uint8 and floats."""
    if array.dtype.kind not in "iub":
        return "these are not numbers"
    low, high = array.min(), array.max()
    expected = f"from {low} to {high}, but images are uint8 (0 to 255) or floats in [0,1]"
    if array.dtype.kind == "b":
        return f"{expected}: data.astype('float32')"
    if low >= 0 and high <= 255:
        return f"{expected}: if 255 is white, data.astype('uint8')"
    return f"{expected}: divide by the value of white, (data / {'65535' if low >= 0 else 'WHITE'}).astype('float32')"


def _channels_first(images: np.ndarray, about: str) -> np.ndarray:
    """[N,H,W], [N,H,W,C] or [N,C,H,W] -> [N,C,H,W]."""
    if images.ndim == 3:
        if images.shape[2] in (3, 4):
            raise DataError(f"{about}: looks like one color image [H,W,C]; several are [N,H,W,C]: numpy.stack(images)")
        return images[:, None]
    first, last = images.shape[1] in CHANNELS, images.shape[3] in CHANNELS
    if first == last:
        both = "may be [N,H,W,C] or [N,C,H,W]" if first else "has no dimension of 1, 3 or 4 channels"
        raise DataError(f"{about}: {both}; put the channels first and name a file: {ANY_UNITS.partition(': ')[2]}")
    return images if first else images.transpose(0, 3, 1, 2)
