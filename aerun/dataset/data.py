"""What a run trains on: arrays as read, and their parts on a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.dataset.augment import Augment
from aerun.dataset.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Images = Tensor | Rows

CHUNK = 4096


@dataclass
class Arrays:
    """What a data set reads: images [N,C,H,W] (uint8, or float in the data's units) or vectors [N,F], and labels.

    Images are arrays, or rows of a file in the cache. ``test_files``: those that the test images come from, if each has
    one of its own.
    """

    train: np.ndarray | Rows
    test: np.ndarray | Rows
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    classes: list[str] | None = None
    test_files: list[Path] | None = None


@dataclass
class Split:
    """One part: inputs[N,...], targets[N,...] (the same tensor where nothing tells them apart), labels[N].

    What is larger than ``dataset.memory_limit`` is no tensor but rows of a file, of which slices are tensors.
    ``binarise``: these are probabilities, of which every minibatch is a binary draw of its own. ``augment``: what is
    done to every minibatch that is trained on.
    """

    inputs: Images
    targets: Images
    labels: Tensor | None
    binarise: bool = False
    augment: Augment | None = None

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass
class Data:
    """All parts of a data set on one device; ``statistics`` are (mean, deviation) of inputs and of targets.

    With ``chunk_bytes`` they are in files instead, and so much of them is read at once.
    """

    train: Split
    validation: Split | None
    test: Split
    classes: list[str] | None
    checksum: str
    input_statistics: tuple[Tensor, Tensor] | None = None
    target_statistics: tuple[Tensor, Tensor] | None = None
    chunk_bytes: int | None = None

    @property
    def streamed(self) -> bool:
        """Whether the images are read from a file as they are needed."""
        return self.chunk_bytes is not None

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


def statistics(images: Images) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel [C,1,1], or of each feature [F]; a deviation of 0 becomes 1."""
    import torch

    over = (0, 2, 3) if images.dim() == 4 else (0,)
    # Sums are taken from one of the values: they are then exact where all are the same, and precise far from zero.
    first = as_float(images[:1])
    shift = (first[:, :, :1, :1] if images.dim() == 4 else first)[0]
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


@dataclass(frozen=True, slots=True)
class Batch:
    """inputs[B,...] and targets[B,...] as stored, uint8 or float; the same tensor where nothing tells them apart."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


def first(part: Split, count: int) -> Batch:
    """The first images of a part as one batch."""
    inputs = part.inputs[:count]
    return Batch(inputs, inputs if part.targets is part.inputs else part.targets[:count])


def head(part: Split, count: int) -> Split:
    """The first images of a part."""
    inputs = part.inputs[:count]
    targets = inputs if part.targets is part.inputs else part.targets[:count]
    return Split(inputs, targets, None if part.labels is None else part.labels[:count], part.binarise)


def as_float(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0,1]; floats as they are."""
    return images if images.is_floating_point() else images.float().div_(255)
