"""Arrays as read, the training, validation and test parts on a device, and minibatches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.dataset.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor

    Images = Tensor | Rows

CHUNK = 4096  # images


@dataclass
class Arrays:
    """What a data set reads: images [N,C,H,W] (uint8, or float in the data's units) or vectors [N,F], and labels.

    Images are arrays, or rows of a cache file. ``test_files``: the file of each test image, if every image has a file
    of its own. ``anomalies``: images that are neither trained nor tested on, because they are not normal, with their
    labels and, if known, ``masks`` [N,H,W], uint8, 1 where a picture is not normal.
    """

    train: np.ndarray | Rows
    test: np.ndarray | Rows
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    classes: list[str] | None = None
    test_files: list[Path] | None = None
    anomalies: np.ndarray | Rows | None = None
    anomaly_labels: np.ndarray | None = None
    masks: np.ndarray | None = None


@dataclass
class Split:
    """One part: inputs[N,...], targets[N,...] (the same object if they are equal), labels[N].

    Images above ``dataset.memory_limit`` are not a tensor but rows of a file, whose slices are tensors. ``binarise``:
    the values are probabilities, and every minibatch is a new binary sample. ``augment(inputs, targets, generator)``
    changes every training minibatch.
    """

    inputs: Images
    targets: Images
    labels: Tensor | None
    binarise: bool = False
    augment: Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]] | None = None

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass
class Data:
    """All parts of a data set on one device. Statistics are (mean, standard deviation), see ``statistics``.

    With ``chunk_bytes`` the images are in files, and read in chunks of at most that size. ``anomalies`` are images of
    excluded classes (``dataset.exclude``), for ``protocol=anomaly`` alone, with ``masks`` [N,H,W], uint8, if these are
    known.
    """

    train: Split
    validation: Split | None
    test: Split
    classes: list[str] | None
    checksum: str
    input_statistics: tuple[Tensor, Tensor] | None = None
    target_statistics: tuple[Tensor, Tensor] | None = None
    chunk_bytes: int | None = None
    anomalies: Split | None = None
    masks: Tensor | None = None

    @property
    def streamed(self) -> bool:
        """Whether images are read from a file when they are needed."""
        return self.chunk_bytes is not None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one target, without the batch."""
        return tuple(self.train.targets.shape[1:])

    @property
    def label_count(self) -> int | None:
        """The number of classes: labels are below it. None if a part has no labels, or a label is negative."""
        parts = [part for part in (self.train, self.validation, self.test, self.anomalies) if part is not None]
        labels = [part.labels for part in parts if part.labels is not None and len(part.labels)]
        if len(labels) < len(parts) or any(int(part.min()) < 0 for part in labels):
            return None
        return max(len(self.classes or ()), *(int(part.max()) + 1 for part in labels))

    @property
    def is_image(self) -> bool:
        """Whether inputs and targets are gray or color images that can be shown."""
        return all(len(shape) == 3 and shape[0] in (1, 3) for shape in (self.input_shape, self.output_shape))

    @property
    def in_unit_range(self) -> bool:
        """Whether the training inputs are images in [0,1]."""
        import torch

        inputs = self.train.inputs
        return len(self.input_shape) == 3 and (inputs.dtype == torch.uint8 or in_unit_range(inputs))

    @property
    def same(self) -> bool:
        """Whether the targets are the inputs."""
        return self.train.inputs is self.train.targets


def statistics(images: Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel [C,1,1], or per feature [F]; a deviation of 0 becomes 1."""
    import torch

    over = (0, 2, 3) if images.dim() == 4 else (0,)
    # Sums are taken relative to one of the values: exact if all values are equal, and precise far from zero.
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
    """inputs[B,...] and targets[B,...] as stored, uint8 or float; the same tensor if they are equal. ``labels`` [B] are
    for a conditional model."""

    inputs: Tensor
    targets: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)


def first_batch(part: Split, count: int) -> Batch:
    """Return the first images of a part as one batch."""
    inputs = part.inputs[:count]
    targets = inputs if part.targets is part.inputs else part.targets[:count]
    return Batch(inputs, targets, None if part.labels is None else part.labels[:count])


def head(part: Split, count: int) -> Split:
    """Return the first images of a part."""
    inputs = part.inputs[:count]
    targets = inputs if part.targets is part.inputs else part.targets[:count]
    return Split(inputs, targets, None if part.labels is None else part.labels[:count], part.binarise)


def spread(part: Split, count: int) -> Split:
    """``count`` images of a part, at even distances: the first images of a folder are all of its first subfolder."""
    import torch

    total = len(part)
    if total <= count:
        return head(part, count)
    rows = torch.arange(count) * total // count

    def chosen(images: Images) -> Images:
        return images[rows.to(images.device)] if isinstance(images, torch.Tensor) else images.select(rows)[:]

    inputs = chosen(part.inputs)
    targets = inputs if part.targets is part.inputs else chosen(part.targets)
    return Split(inputs, targets, None if part.labels is None else part.labels[rows], part.binarise)


def as_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0,1]; floats are unchanged."""
    return images if images.is_floating_point() else images.float().div_(255)


def in_unit_range(values: Images) -> bool:
    """Whether all values are in [0,1]."""
    return all(bool(chunk.min() >= 0) and bool(chunk.max() <= 1) for chunk in values.split(CHUNK))


class Resident:
    """Batches of images that are on the device: a batch is an index into their tensors."""

    def __init__(self, part: Split, batch_size: int, seed: int, with_labels: bool = False) -> None:
        self._inputs: Any = part.inputs
        self._targets: Any = part.targets
        self._labels = part.labels if with_labels else None
        self._batch_size, self._seed = batch_size, seed

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch ``number`` from the ``start``-th on, in an order drawn by seed and epoch."""
        import torch

        from aerun.base.seeding import Randomness

        generator = Randomness(self._seed, torch.device("cpu")).at("order", number)
        inputs, targets = self._inputs, self._targets
        order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        for rows in order.split(self._batch_size)[start:]:
            # Not inputs[rows], which is twenty times slower for small elements.
            chosen = inputs.index_select(0, rows)
            wanted = chosen if targets is inputs else targets.index_select(0, rows)
            yield Batch(chosen, wanted, None if self._labels is None else self._labels.index_select(0, rows))
