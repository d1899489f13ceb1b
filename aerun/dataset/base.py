"""From arrays to what a run trains on: transformed, split, and on the device.

Images are kept as uint8 wherever they came as uint8, and become float in [0,1] only as a batch is formed.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aerun.config.schema import Count, NonNegativeInt, Range, Seed
from aerun.dataset.augment import Augment
from aerun.dataset.binary import binarised, check_binarisable
from aerun.dataset.cache import files_key
from aerun.dataset.content import check_finite, checksum
from aerun.dataset.data import Arrays, Data, Split, statistics
from aerun.dataset.memory import check_room, free_memory, needed_bytes, parse_bytes, shapes_of
from aerun.dataset.placement import in_file, kept_arrays, moved_to_file, on_device, transformed
from aerun.dataset.places import existing
from aerun.dataset.rows import Rows
from aerun.dataset.splitting import divide, of_classes
from aerun.dataset.store import DamagedError
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import torch

OpenShare = Annotated[float, Range(0, 1, high_open=True)]
HeldOut = NonNegativeInt | Annotated[float, Range(0, 1, high_open=True)]
MOST_CHUNK = 1 << 30  # bytes
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Keys that every data set has.

    ``validation``: how many training images, or what share of them, are held out for early stopping, schedules and
    the choice of the best weights. ``train_limit``: use only so many of the rest. Both are drawn by ``split_seed``,
    not by the run's seed, so runs of different seeds see the same parts. ``normalize=standardise``: inputs and
    targets are standardised by the training part's mean and deviation (of each channel; of each feature, for
    vectors). ``input_transform``, ``target_transform``: torchvision.transforms.v2 by name, ``Grayscale`` or
    ``{Resize: {size: 32}}``, applied to each image once, at the start. ``memory_limit`` (bytes, or ``2GiB``): a set
    that is larger is not held in memory but read in shuffled chunks. ``classes``: only
    images with these labels. ``binarise``: grey images in [0,1] are the
    probabilities of binary ones, drawn once (``static``, by ``split_seed``) or anew for every minibatch (``dynamic``;
    validation and test images are drawn once all the same). ``flip``, ``zoom``: training images are mirrored, and parts
    of them scaled up to the whole, anew for every minibatch and targets alike (``aerun.dataset.augment``).
    """

    validation: HeldOut
    train_limit: Count | None
    split_seed: Seed
    normalize: Literal["none", "standardise"]
    input_transform: list[Any]
    target_transform: list[Any]
    # Runs made before there were these keys do not have them.
    memory_limit: Count | str | None = None
    classes: list[NonNegativeInt] | None = None
    binarise: Literal["none", "static", "dynamic"] = "none"
    flip: bool = False
    zoom: OpenShare = 0.0

    def __post_init__(self) -> None:
        if self.memory_limit is not None:
            parse_bytes(self.memory_limit)
        if self.classes == []:
            raise ValueError("classes=[]: must list at least one label, or be null")
        if self.binarise != "none" and (self.flip or self.zoom):
            raise ValueError(f"binarise={self.binarise}: goes with neither dataset.flip nor dataset.zoom")
        if self.binarise != "none" and self.normalize != "none":
            raise ValueError(f"binarise={self.binarise} and dataset.normalize={self.normalize}: use one or the other")
        if self.binarise != "none" and self.input_transform != self.target_transform:
            raise ValueError(
                f"binarise={self.binarise}: input and target are one draw, so dataset.input_transform and "
                "dataset.target_transform must be the same"
            )

    def check(self) -> None:
        """DataError for what is wrong at first sight, such as a root that does not exist."""
        root = getattr(self, "root", None)
        if root is not None:
            existing(root)

    def read(self) -> Arrays:
        """The arrays as they are stored. DataError for what is missing or damaged."""
        raise NotImplementedError

    def sources(self) -> list[Path]:
        """The files that the data are read from, if they are kept decoded: only where that saves time."""
        return []

    def cached(self) -> Arrays | None:
        """As ``read``, from the cache, which is built where it is not there. None where there is none."""
        paths = self.sources()
        if not paths:
            return None
        root = Path(os.path.commonpath([path.parent for path in paths]))
        return kept_arrays(files_key(type(self).__name__, root, paths), self.read)

    def load(self, device: torch.device) -> Data:
        """Read, transform and split, with every part on ``device``, or in a file if they do not fit.

        DataError if a file is missing or damaged. ConfigError if the parts asked for are larger than the data.
        """
        try:
            return self._load(device)
        except DamagedError as error:
            log.warning("%s; they are built anew", error)
            return self._load(device)

    def _load(self, device: torch.device) -> Data:
        arrays = self.cached() or self.read()
        if self.classes is not None:
            arrays = of_classes(arrays, self.classes)
        counts = self.validation, self.train_limit
        train_rows, validation_rows = divide(len(arrays.train), *counts, self.split_seed)
        check_finite(arrays)
        made = self.input_transform, self.target_transform
        digest = checksum(arrays, repr(made if self.binarise == "none" else (*made, self.binarise, self.split_seed)))
        grey = train = self._split(arrays.train, arrays.train_labels)
        test = self._split(arrays.test, arrays.test_labels)
        if train.inputs.shape[1:] != test.inputs.shape[1:]:
            raise DataError(f"training images are {train.inputs.shape[1:]}, test images {test.inputs.shape[1:]}")
        if self.binarise != "none":
            train, test = self._binary(train, 2 * self.split_seed), self._binary(test, 2 * self.split_seed + 1)
            if self.binarise == "static":
                grey = train
        chunk_bytes = self._chunk_bytes([(train, len(train_rows) + len(validation_rows)), (test, len(test))], device)
        place = on_device
        if chunk_bytes is not None:
            parts = (train, test, grey) if grey is not train else (train, test)
            train, test, *rest = (moved_to_file(part, f"{digest} {i}", device) for i, part in enumerate(parts))
            grey = rest[0] if rest else train
            place = in_file
        data = Data(
            train=place(grey, train_rows, device),
            validation=place(train, validation_rows, device) if len(validation_rows) else None,
            test=place(test, None, device),
            classes=arrays.classes,
            checksum=digest,
            chunk_bytes=chunk_bytes,
        )
        data.train.binarise = self.binarise == "dynamic"
        if augment := Augment(self.flip, self.zoom):
            augment.check(data.input_shape, data.output_shape)
            data.train.augment = augment
        if self.normalize == "standardise":
            data.input_statistics = statistics(data.train.inputs)
            data.target_statistics = data.input_statistics if data.same else statistics(data.train.targets)
        return data

    def _binary(self, part: Split, seed: int) -> Split:
        """One draw of a part. ConfigError if it holds no probabilities."""
        check_binarisable(part.inputs, f"dataset.binarise={self.binarise}")
        images = binarised(part.inputs, seed)
        return Split(images, images, part.labels)

    def _chunk_bytes(self, parts: list[tuple[Split, int]], device: torch.device) -> int | None:
        """How much is to be read at once, if so many rows of each part are more than the limit; otherwise None.

        It decides the order of training, so it depends on nothing but the configuration: what is free decides only
        whether there is an error.
        """
        needed = needed_bytes(parts)
        limit = math.inf if self.memory_limit is None else parse_bytes(self.memory_limit)
        if needed <= limit:
            check_room(needed, shapes_of(parts), str(device), free_memory(device))
            return None
        chunk = int(min(limit // 4, MOST_CHUNK))
        log.info("the data (%s) are read in chunks of %.3g MiB", shapes_of(parts), chunk / 2**20)
        return chunk

    def _split(self, images: np.ndarray | Rows, labels: np.ndarray | None) -> Split:
        import torch

        stored = images if isinstance(images, Rows) else torch.from_numpy(images)
        inputs = transformed(stored, self.input_transform, "dataset.input_transform")
        targets = inputs
        if self.target_transform != self.input_transform:  # the draws of random ones are the same, too
            targets = transformed(stored, self.target_transform, "dataset.target_transform")
        return Split(inputs, targets, None if labels is None else torch.from_numpy(labels).long())
