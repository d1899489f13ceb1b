"""The base of all data sets: from the arrays that one reads to the data that a run trains on.

Images are transformed, split and moved to the device. Images that arrive as uint8 stay uint8, and become float in [0,1]
only when a batch is formed.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aerun import contracts
from aerun.contracts import Count, NonNegativeInt, Range, Seed
from aerun.dataset.augment import Augment
from aerun.dataset.binarize import binarize_all, check_binarizable
from aerun.dataset.cache import files_key
from aerun.dataset.content import check_finite, checksum
from aerun.dataset.data import Arrays, Data, Split, statistics
from aerun.dataset.memory_limit import check_memory, format_shapes, free_memory, needed_bytes, parse_bytes
from aerun.dataset.paths import existing_path
from aerun.dataset.placement import cached_arrays, select_in_file, to_device, transform_images, write_to_file
from aerun.dataset.row_file import DamagedError
from aerun.dataset.rows import Rows
from aerun.dataset.splitting import ALL_BUT, exclude_classes, select_classes, split_train_validation
from aerun.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    import torch

OpenShare = Annotated[float, Range(0, 1, high_open=True)]
ValidationSize = NonNegativeInt | Annotated[float, Range(0, 1, high_open=True)]
MAX_CHUNK_BYTES = 1 << 30  # bytes
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dataset(contracts.Dataset):
    """Keys shared by all data sets.

    - ``validation``: number of training images, or share of them, held out for early stopping, schedules and the
      choice of the best weights. ``train_limit``: maximum number of the remaining images to train on. Both subsets are
      drawn by ``split_seed``, not by the run's seed, so runs with different seeds see the same subsets.
    - ``normalize=standardise``: inputs and targets are standardized by the mean and standard deviation of the training
      part (per channel; per feature for vectors).
    - ``input_transform``, ``target_transform``: transforms of torchvision.transforms.v2 by name, ``Grayscale`` or
      ``{Resize: {size: 32}}``, applied once to each image at the start.
    - ``memory_limit`` (bytes, or ``2GiB``): larger data sets are not held in memory but read in shuffled chunks.
    - ``classes``: use only images with these labels.
    - ``exclude``: neither train, validate nor test on images with these labels, numbers or names; those of the test
      part are the anomalies of ``protocol=anomaly``. ``[all, but, 3]``: all labels but one.
    - ``binarise``: gray values in [0,1] are the probabilities of binary pixels, sampled once (``static``, by
      ``split_seed``) or for every minibatch (``dynamic``; validation and test images are still sampled once).
    - ``flip``, ``zoom``: random mirroring and zooming of every training minibatch, inputs and targets together
      (``aerun.dataset.augment``).
    """

    validation: ValidationSize
    train_limit: Count | None
    split_seed: Seed
    normalize: Literal["none", "standardise"]
    input_transform: list[Any]
    target_transform: list[Any]
    # Configurations of older runs lack the keys below.
    memory_limit: Count | str | None = None
    classes: list[NonNegativeInt] | None = None
    binarise: Literal["none", "static", "dynamic"] = "none"
    flip: bool = False
    zoom: OpenShare = 0.0
    exclude: list[NonNegativeInt | str] | None = None

    def __post_init__(self) -> None:
        if self.memory_limit is not None:
            parse_bytes(self.memory_limit)
        if self.classes == []:
            raise ValueError("classes=[]: must list at least one label, or be null")
        if self.exclude is not None and (not self.exclude or tuple(self.exclude) == ALL_BUT):
            raise ValueError(f"exclude={self.exclude}: must list at least one label, or be null")
        if self.binarise != "none" and (self.flip or self.zoom):
            raise ValueError(f"binarise={self.binarise}: cannot be combined with dataset.flip or dataset.zoom")
        if self.binarise != "none" and self.normalize != "none":
            raise ValueError(f"binarise={self.binarise} and dataset.normalize={self.normalize}: use one or the other")
        if self.binarise != "none" and self.input_transform != self.target_transform:
            raise ValueError(
                f"binarise={self.binarise}: input and target are the same sample, so dataset.input_transform and "
                "dataset.target_transform must be equal"
            )

    def check_settings(self, settings: Any) -> None:
        output = settings.model.output_activation
        if self.normalize != "none" and output != "identity":
            raise ValueError(
                f"dataset.normalize={self.normalize} and model.output_activation={output}: standardized targets leave "
                "its range; use model.output_activation=identity"
            )

    def check(self) -> None:
        """Raise DataError for what can be found without reading the data, such as a root that does not exist."""

    def read(self) -> Arrays:
        """Return the arrays as stored. DataError if something is missing or damaged."""
        raise NotImplementedError

    def sources(self) -> list[Path]:
        """Return the files that the data are read from, if the decoded data are worth caching; else an empty list."""
        return []

    def read_cached(self) -> Arrays | None:
        """Return what ``read`` returns, from the cache, building it if needed. None without a cache."""
        paths = self.sources()
        if not paths:
            return None
        root = Path(os.path.commonpath([path.parent for path in paths]))
        return cached_arrays(files_key(type(self).__name__, root, paths), self.read)

    def load(self, device: torch.device) -> Data:
        """Read, transform and split the data; every part is on ``device``, or in a file if it exceeds the limit.

        DataError if a file is missing or damaged. ConfigError if the requested parts are larger than the data.
        """
        try:
            return self._load(device)
        except DamagedError as error:
            log.warning("%s; rebuilding them", error)
            return self._load(device)

    def _load(self, device: torch.device) -> Data:
        import torch

        arrays = self._select()
        sizes = self.validation, self.train_limit
        train_rows, validation_rows = split_train_validation(len(arrays.train), *sizes, self.split_seed)
        check_finite(arrays)
        changes: tuple[Any, ...] = (self.input_transform, self.target_transform)
        if self.binarise != "none":
            changes += (self.binarise, self.split_seed)
        digest = checksum(arrays, repr(changes))
        gray = train = self._transform(arrays.train, arrays.train_labels)
        test = self._transform(arrays.test, arrays.test_labels)
        anomalies = None if arrays.anomalies is None else self._transform(arrays.anomalies, arrays.anomaly_labels)
        if train.inputs.shape[1:] != test.inputs.shape[1:]:
            raise DataError(f"training images are {train.inputs.shape[1:]}, test images {test.inputs.shape[1:]}")
        if self.binarise != "none":
            train, test = self._binarize(train, 2 * self.split_seed), self._binarize(test, 2 * self.split_seed + 1)
            anomalies = None if anomalies is None else self._binarize(anomalies, 2 * self.split_seed + 1)
            if self.binarise == "static":
                gray = train
        others = [test] if anomalies is None else [test, anomalies]
        used = [(train, len(train_rows) + len(validation_rows)), *((part, len(part)) for part in others)]
        chunk_bytes = self._chunk_bytes(used, device)
        place = to_device
        if chunk_bytes is not None:
            parts = (train, *others, gray) if gray is not train else (train, *others)
            train, test, *rest = (write_to_file(part, f"{digest} {i}", device) for i, part in enumerate(parts))
            anomalies = None if anomalies is None else rest.pop(0)
            gray = rest[0] if rest else train
            place = select_in_file
        data = Data(
            train=place(gray, train_rows, device),
            validation=place(train, validation_rows, device) if len(validation_rows) else None,
            test=place(test, None, device),
            classes=arrays.classes,
            checksum=digest,
            chunk_bytes=chunk_bytes,
            anomalies=None if anomalies is None else place(anomalies, None, device),
            masks=None if arrays.masks is None else torch.from_numpy(arrays.masks),
        )
        data.train.binarise = self.binarise == "dynamic"
        if augment := Augment(self.flip, self.zoom):
            augment.check(data.input_shape, data.output_shape)
            data.train.augment = augment
        if self.normalize == "standardise":
            data.input_statistics = statistics(data.train.inputs)
            data.target_statistics = data.input_statistics if data.same else statistics(data.train.targets)
        return data

    def _select(self) -> Arrays:
        """Read the arrays, and select their classes. ConfigError if there are masks and transforms."""
        arrays = self.read_cached() or self.read()
        if self.classes is not None:
            arrays = select_classes(arrays, self.classes)
        if self.exclude is not None:
            arrays = exclude_classes(arrays, self.exclude)
        if arrays.masks is not None and (self.input_transform or self.target_transform):
            raise ConfigError("dataset.input_transform: masks are not transformed; use dataset.size and dataset.fit")
        return arrays

    def _binarize(self, part: Split, seed: int) -> Split:
        """Sample one binary version of a part. ConfigError if its values are not probabilities."""
        check_binarizable(part.inputs, f"dataset.binarise={self.binarise}")
        images = binarize_all(part.inputs, seed)
        return Split(images, images, part.labels)

    def _chunk_bytes(self, parts: list[tuple[Split, int]], device: torch.device) -> int | None:
        """Return the size of a chunk in bytes if the parts (split, rows used) exceed the memory limit; otherwise None.

        The chunk size decides the order of training images, so it depends on the configuration alone. The free memory
        only decides whether there is an error.
        """
        needed = needed_bytes(parts)
        limit = math.inf if self.memory_limit is None else parse_bytes(self.memory_limit)
        if needed <= limit:
            check_memory(needed, format_shapes(parts), str(device), free_memory(device))
            return None
        chunk = int(min(limit // 4, MAX_CHUNK_BYTES))
        log.info("reading the data (%s) in chunks of %.3g MiB", format_shapes(parts), chunk / 2**20)
        return chunk

    def _transform(self, images: np.ndarray | Rows, labels: np.ndarray | None) -> Split:
        import torch

        stored = images if isinstance(images, Rows) else torch.from_numpy(images)
        inputs = transform_images(stored, self.input_transform, "dataset.input_transform")
        targets = inputs
        if self.target_transform != self.input_transform:  # random transforms draw the same numbers for both
            targets = transform_images(stored, self.target_transform, "dataset.target_transform")
        return Split(inputs, targets, None if labels is None else torch.from_numpy(labels).long())


@dataclass(frozen=True, kw_only=True)
class StoredDataset(Dataset):
    """A data set that is read from files in, or at, ``root``; null is a default place that the data set knows."""

    root: str | None

    def check(self) -> None:
        if self.root is not None:
            existing_path(self.root)
