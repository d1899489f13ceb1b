"""From arrays to what a run trains on: transformed, split, and on the device.

Images are kept as uint8 wherever they came as uint8, and become float in [0,1] only as a batch is formed.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aerun.errors import ConfigError, DataError
from aerun.spec import Count, NonNegativeInt, Range, Seed

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

HeldOut = NonNegativeInt | Annotated[float, Range(0, 1, high_open=True)]
CHUNK = 4096


@dataclass
class Arrays:
    """What a data set reads: images [N,C,H,W] (uint8, or float in the data's units) or vectors [N,F], and labels."""

    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    classes: list[str] | None = None


@dataclass
class Split:
    """One part: inputs[N,...], targets[N,...] (the same tensor where nothing tells them apart), labels[N]."""

    inputs: Tensor
    targets: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass
class Data:
    """All parts of a data set on one device; ``statistics`` are (mean, deviation) of inputs and of targets."""

    train: Split
    validation: Split | None
    test: Split
    classes: list[str] | None
    checksum: str
    input_statistics: tuple[Tensor, Tensor] | None = None
    target_statistics: tuple[Tensor, Tensor] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input, without the batch."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one target, without the batch."""
        return tuple(self.train.targets.shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether inputs and targets are grey or colour images that can be shown."""
        return all(len(shape) == 3 and shape[0] in (1, 3) for shape in (self.input_shape, self.output_shape))

    @property
    def same(self) -> bool:
        """Whether inputs and targets are the same images."""
        return self.train.inputs is self.train.targets


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Keys that every data set has.

    ``validation``: how many training images, or what share of them, are held out for early stopping, schedules and
    the choice of the best weights. ``train_limit``: use only so many of the rest. Both are drawn by ``split_seed``,
    not by the run's seed, so runs of different seeds see the same parts. ``normalize=standardise``: inputs and
    targets are standardised by the training part's mean and deviation (of each channel; of each feature, for
    vectors). ``input_transform``, ``target_transform``: torchvision.transforms.v2 by name, ``Grayscale`` or
    ``{Resize: {size: 32}}``, applied to each image once, at the start.
    """

    validation: HeldOut
    train_limit: Count | None
    split_seed: Seed
    normalize: Literal["none", "standardise"]
    input_transform: list[Any]
    target_transform: list[Any]

    def check(self) -> None:
        """DataError for what is wrong at first sight, such as a root that does not exist."""
        root = getattr(self, "root", None)
        if root is not None:
            existing(root)

    def read(self) -> Arrays:
        """The arrays as they are stored. DataError for what is missing or damaged."""
        raise NotImplementedError

    def load(self, device: torch.device) -> Data:
        """Read, transform and split, with every part on ``device``.

        DataError if a file is missing or damaged, or the whole does not fit in the device's memory.
        ConfigError if the parts asked for are larger than the data.
        """
        arrays = self.read()
        train_rows, validation_rows = self._rows(len(arrays.train))
        _check_finite(arrays)
        checksum = _checksum(arrays, repr((self.input_transform, self.target_transform)))
        train = self._split(arrays.train, arrays.train_labels)
        test = self._split(arrays.test, arrays.test_labels)
        if train.inputs.shape[1:] != test.inputs.shape[1:]:
            raise DataError(f"training images are {train.inputs.shape[1:]}, test images {test.inputs.shape[1:]}")
        _check_memory([(train, len(train_rows) + len(validation_rows)), (test, len(test))], device)
        data = Data(
            train=_select(train, train_rows, device),
            validation=_select(train, validation_rows, device) if len(validation_rows) else None,
            test=_select(test, None, device),
            classes=arrays.classes,
            checksum=checksum,
        )
        if self.normalize == "standardise":
            data.input_statistics = statistics(data.train.inputs)
            data.target_statistics = data.input_statistics if data.same else statistics(data.train.targets)
        return data

    def _rows(self, total: int) -> tuple[Tensor, Tensor]:
        """Which images are for training and which are held out, each in the stored order."""
        import torch

        held_out = self.validation if isinstance(self.validation, int) else round(self.validation * total)
        if held_out >= total:
            raise ConfigError(f"dataset.validation={self.validation}: leaves nothing of {total} training images")
        left = total - held_out
        if self.train_limit is not None and self.train_limit > left:
            raise ConfigError(
                f"dataset.train_limit={self.train_limit}: only {left} training images are left "
                f"of {total} with dataset.validation={self.validation}"
            )
        order = torch.randperm(total, generator=torch.Generator().manual_seed(self.split_seed))
        limit = left if self.train_limit is None else self.train_limit
        return order[held_out : held_out + limit].sort().values, order[:held_out].sort().values

    def _split(self, images: np.ndarray, labels: np.ndarray | None) -> Split:
        import torch

        tensor = torch.from_numpy(images)
        inputs, targets = tensor, tensor
        if self.input_transform or self.target_transform:
            from aerun.dataset.transform import apply_transforms

            inputs = apply_transforms(tensor, self.input_transform, "dataset.input_transform")
            targets = inputs
            if self.target_transform != self.input_transform:  # the draws of random ones are the same, too
                targets = apply_transforms(tensor, self.target_transform, "dataset.target_transform")
        return Split(inputs, targets, None if labels is None else torch.from_numpy(labels).long())


def as_float(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0,1]; floats as they are."""
    import torch

    return images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel [C,1,1], or of each feature [F]; a deviation of 0 becomes 1."""
    import torch

    over = (0, 2, 3) if images.dim() == 4 else (0,)
    # Sums are taken from one of the values: they are then exact where all are the same, and precise far from zero.
    shift = as_float(images[:1, :, :1, :1] if images.dim() == 4 else images[:1])[0]
    count = 0
    total = square = torch.zeros((), dtype=torch.float32, device=images.device)
    for chunk in images.split(CHUNK):
        values = (as_float(chunk).double() if images.device.type != "mps" else as_float(chunk)) - shift
        count += values.numel() // values.shape[1]
        total = total + values.sum(over, keepdim=True)[0]
        square = square + values.square().sum(over, keepdim=True)[0]
    mean = total / count
    deviation = (square / count - mean.square()).clamp_min(0).sqrt()
    deviation = torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation))
    return (shift + mean).float(), deviation.float()


def root_folder(root: str | None) -> Path:
    """Where data sets are kept: ``root``, which must exist, else $AERUN_DATA or ~/.cache/aerun, made when needed."""
    if root is None:
        folder = Path(os.environ.get("AERUN_DATA") or Path.home() / ".cache" / "aerun")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return existing(root)


def existing(root: str) -> Path:
    """``root`` as a path. DataError where nothing is there."""
    path = Path(root).expanduser()
    if not root or not path.exists():
        raise DataError(f"dataset.root={root}: there is no such file or folder (looked for {path.absolute()})")
    return path


def holdout(total: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a training part and of a test part of about ``share``; at least one row each."""
    import numpy as np

    if total < 2:
        raise DataError(f"{total} images cannot be split into training and test images")
    order = np.random.default_rng(seed).permutation(total)
    count = min(max(1, round(share * total)), total - 1)
    return np.sort(order[count:]), np.sort(order[:count])


def _select(split: Split, rows: Tensor | None, device: torch.device) -> Split:
    def place(tensor: Tensor) -> Tensor:
        part = tensor if rows is None or len(rows) == len(tensor) else tensor[rows]
        return part.to(device).contiguous()

    inputs = place(split.inputs)
    targets = inputs if split.targets is split.inputs else place(split.targets)
    return Split(inputs, targets, None if split.labels is None else place(split.labels))


def _check_finite(arrays: Arrays) -> None:
    import numpy as np

    for name, array in (("training", arrays.train), ("test", arrays.test)):
        if array.dtype != np.uint8 and not np.isfinite(array).all():
            raise DataError(f"the {name} data hold values that are not finite numbers")


def _checksum(arrays: Arrays, transforms: str) -> str:
    """SHA-256 over shapes, types and bytes of both parts, their labels and the transforms; 16 digits."""
    digest = hashlib.sha256(transforms.encode())
    for array in (arrays.train, arrays.test, arrays.train_labels, arrays.test_labels):
        if array is None:
            continue
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.data if array.flags.c_contiguous else array.tobytes())
    return digest.hexdigest()[:16]


def _check_memory(splits: list[tuple[Split, int]], device: torch.device) -> None:
    """DataError unless so many rows of each part fit."""
    import torch

    needed = sum(
        count * tensor[0].numel() * tensor.element_size()
        for split, count in splits
        for tensor in {id(t): t for t in (split.inputs, split.targets)}.values()
    )
    # On the CPU the tensors are in memory already; what is needed is room for the parts that are selected from them.
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _available_memory()
    shapes = " + ".join(f"{count}x{'x'.join(map(str, s.inputs.shape[1:]))}" for s, count in splits)
    check_room(needed, shapes, str(device), free)


def check_room(needed: int, shapes: str, device: str = "cpu", free: float | None = None) -> None:
    """DataError unless ``needed`` bytes are free (on this machine, unless told)."""
    free = _available_memory() if free is None else free
    if needed > free:
        raise DataError(
            f"the data ({shapes}) take {needed / 2**30:.2f} GiB, {device} has {free / 2**30:.2f} GiB free: "
            "use dataset.train_limit or smaller images"
        )


def _available_memory() -> float:
    """Bytes that Linux says can be had without swapping; unlimited where it cannot be asked."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), math.inf)
