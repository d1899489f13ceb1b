"""Where the parts of a data set are stored: on the device, or in a file that is read on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from aerun.base.progress_bar import progress_bar
from aerun.dataset.cache import cached_rows
from aerun.dataset.data import Arrays, Split
from aerun.dataset.memory_limit import check_memory, format_shapes, free_memory
from aerun.dataset.row_file import CHUNK
from aerun.dataset.rows import Rows
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from aerun.dataset.data import Images


def cached_arrays(key: str, read: Callable[[], Arrays]) -> Arrays | None:
    """Return both parts and their labels from the cache, built from ``read()`` if needed. None without a cache."""
    import numpy as np

    metadata: dict[str, Any] = {}

    def chunks() -> Iterator[np.ndarray]:
        arrays = read()
        assert isinstance(arrays.train, np.ndarray) and isinstance(arrays.test, np.ndarray)
        assert arrays.train_labels is not None and arrays.test_labels is not None
        metadata.update(train=arrays.train_labels.tolist(), test=arrays.test_labels.tolist(), classes=arrays.classes)
        yield arrays.train
        yield arrays.test

    file = cached_rows(key, chunks, lambda: metadata)
    if file is None:
        return None
    labels = [np.array(file.metadata[part], np.int64) for part in ("train", "test")]
    rows = np.arange(len(file))
    train, test = rows[: len(labels[0])], rows[len(labels[0]) :]
    return Arrays(Rows(file, train), Rows(file, test), labels[0], labels[1], file.metadata["classes"])


def to_device(split: Split, rows: Tensor | None, device: torch.device) -> Split:
    """Copy rows of a part (None: all) to the device's memory."""

    def place(images: Images) -> Tensor:
        every = rows is None or len(rows) == len(images)
        if isinstance(images, Rows):
            part = (images if every or rows is None else images.select(rows)).tensor()
        else:
            part = images if every else images[rows]
        return part.to(device).contiguous()

    inputs = place(split.inputs)
    targets = inputs if split.targets is split.inputs else place(split.targets)
    return Split(inputs, targets, None if split.labels is None else place(split.labels))


def select_in_file(split: Split, rows: Tensor | None, device: torch.device) -> Split:
    """Select rows (None: all) of a part in a file; they are read and copied to the device on demand."""

    def choose(images: Images) -> Rows:
        assert isinstance(images, Rows)
        return (images if rows is None else images.select(rows)).to(device)

    inputs = choose(split.inputs)
    targets = inputs if split.targets is split.inputs else choose(split.targets)
    labels = split.labels if split.labels is None or rows is None else split.labels[rows]
    return Split(inputs, targets, None if labels is None else labels.to(device))


def write_to_file(split: Split, key: str, device: torch.device) -> Split:
    """Write a part that is not in the cache to a cache file; ``key`` identifies its content.

    DataError if the cache cannot be written.
    """

    def move(images: Images, name: str) -> Rows:
        if isinstance(images, Rows):
            return images
        size = images.numel() * images.element_size()
        file = cached_rows(f"{key} {name}", lambda: _chunks(images), size=size)
        if file is None:
            check_memory(size, format_shapes([(split, len(split))]), str(device), free_memory(device))
            raise DataError("dataset.memory_limit: data above it are read from the cache, which has no space left")
        return Rows(file)

    inputs = move(split.inputs, "inputs")
    return Split(inputs, inputs if split.targets is split.inputs else move(split.targets, "targets"), split.labels)


def _chunks(images: Tensor) -> Iterator[np.ndarray]:
    import numpy as np

    size = max(1, CHUNK // max(1, images[0].numel() * images.element_size()))
    for chunk in images.split(size):
        yield np.ascontiguousarray(chunk.numpy())


def transform_images(images: Tensor | Rows, names: list[Any], key: str) -> Tensor | Rows:
    """Apply torchvision transforms by name: in memory if the images are, else from file to file."""
    from importlib.metadata import version

    from aerun.dataset.transform import Transforms, apply_transforms

    if not isinstance(images, Rows):
        return apply_transforms(images, names, key)
    if not names:
        return images
    content = f"{images.digest} {names!r} torchvision {version('torchvision')}"
    file = cached_rows(content, lambda: _transformed_chunks(images, names, key))
    if file is None:
        return Transforms(names, key)(images.tensor())
    return Rows(file)


def _transformed_chunks(images: Rows, names: list[Any], key: str) -> Iterator[np.ndarray]:
    from aerun.dataset.transform import Transforms

    transforms = Transforms(names, key)
    size = max(1, CHUNK // images.row_bytes)
    with progress_bar("transforms", len(images)) as bar:
        for chunk in images.split(size):
            yield transforms(chunk).numpy()
            bar.update(len(chunk))
