"""Where the parts of a data set are kept: on the device, or in a file that is read as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from aerun.base.progress_bar import counting
from aerun.dataset.cache import cached_rows
from aerun.dataset.memory import check_room, free_memory, shapes_of
from aerun.dataset.rows import Rows
from aerun.dataset.store import CHUNK
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from aerun.dataset.data import Arrays, Images, Split


def kept_arrays(key: str, read: Callable[[], Arrays]) -> Arrays | None:
    """Both parts and their labels from the cache, which is built from what ``read`` gives. None if it cannot be."""
    import numpy as np

    from aerun.dataset.data import Arrays

    about: dict[str, Any] = {}

    def chunks() -> Iterator[np.ndarray]:
        arrays = read()
        assert isinstance(arrays.train, np.ndarray) and isinstance(arrays.test, np.ndarray)
        assert arrays.train_labels is not None and arrays.test_labels is not None
        about.update(train=arrays.train_labels.tolist(), test=arrays.test_labels.tolist(), classes=arrays.classes)
        yield arrays.train
        yield arrays.test

    file = cached_rows(key, chunks, lambda: about)
    if file is None:
        return None
    labels = [np.array(file.about[part], np.int64) for part in ("train", "test")]
    rows = np.arange(len(file))
    train, test = rows[: len(labels[0])], rows[len(labels[0]) :]
    return Arrays(Rows(file, train), Rows(file, test), labels[0], labels[1], file.about["classes"])


def on_device(split: Split, rows: Tensor | None, device: torch.device) -> Split:
    """Those rows of a part (None: all), in the device's memory."""
    from aerun.dataset.data import Split

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


def in_file(split: Split, rows: Tensor | None, device: torch.device) -> Split:
    """Those rows of a part that lies in a file (None: all), brought to the device as they are needed."""
    from aerun.dataset.data import Split

    def choose(images: Images) -> Rows:
        assert isinstance(images, Rows)
        return (images if rows is None else images.select(rows)).to(device)

    inputs = choose(split.inputs)
    targets = inputs if split.targets is split.inputs else choose(split.targets)
    labels = split.labels if split.labels is None or rows is None else split.labels[rows]
    return Split(inputs, targets, None if labels is None else labels.to(device))


def moved_to_file(split: Split, key: str, device: torch.device) -> Split:
    """A part of a data set that has no cache of its own, written to a file. DataError where there is no room for that.

    ``key`` tells its content.
    """
    from aerun.dataset.data import Split

    def move(images: Images, name: str) -> Rows:
        if isinstance(images, Rows):
            return images
        size = images.numel() * images.element_size()
        file = cached_rows(f"{key} {name}", lambda: _numpy(images), size=size)
        if file is None:
            check_room(size, shapes_of([(split, len(split))]), str(device), free_memory(device))
            raise DataError("dataset.memory_limit: data that exceed it are read from the cache, which has no room")
        return Rows(file)

    inputs = move(split.inputs, "inputs")
    return Split(inputs, inputs if split.targets is split.inputs else move(split.targets, "targets"), split.labels)


def _numpy(images: Tensor) -> Iterator[np.ndarray]:
    import numpy as np

    size = max(1, CHUNK // max(1, images[0].numel() * images.element_size()))
    for chunk in images.split(size):
        yield np.ascontiguousarray(chunk.numpy())


def transformed(images: Tensor | Rows, names: list[Any], key: str) -> Tensor | Rows:
    """Images through transforms: in memory if they are there, from file to file if they are not."""
    from importlib.metadata import version

    from aerun.dataset.transform import Transforms, apply_transforms

    if not isinstance(images, Rows):
        return apply_transforms(images, names, key)
    if not names:
        return images
    file = cached_rows(f"{images.digest} {names!r} torchvision {version('torchvision')}", _steps(images, names, key))
    if file is None:
        return Transforms(names, key)(images.tensor())
    return Rows(file)


def _steps(images: Rows, names: list[Any], key: str) -> Callable[[], Iterator[np.ndarray]]:
    def chunks() -> Iterator[np.ndarray]:
        from aerun.dataset.transform import Transforms

        transforms = Transforms(names, key)
        size = max(1, CHUNK // images.row_bytes)
        with counting("transforms", len(images)) as bar:
            for chunk in images.split(size):
                yield transforms(chunk).numpy()
                bar.update(len(chunk))

    return chunks
