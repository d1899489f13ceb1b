"""Splits of images into training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aerun.dataset.rows import Rows
from aerun.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.dataset.data import Arrays

ALL_BUT = ("all", "but")  # the first words of a list of classes: all others


def holdout(total: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows of a training part, and of a test part of about ``share``; at least one row each."""
    import numpy as np

    if total < 2:
        raise DataError(f"{total} images cannot be split into training and test images; at least 2 are needed")
    order = np.random.default_rng(seed).permutation(total)
    count = min(max(1, round(share * total)), total - 1)
    return np.sort(order[count:]), np.sort(order[:count])


def split_train_validation(total: int, validation: float, train_limit: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Draw the rows for training and those held out for validation, both in ascending order."""
    import torch

    held_out = validation if isinstance(validation, int) else round(validation * total)
    if held_out >= total:
        raise ConfigError(f"dataset.validation={validation}: leaves none of the {total} images for training")
    left = total - held_out
    if train_limit is not None and train_limit > left:
        raise ConfigError(
            f"dataset.train_limit={train_limit}: only {left} of {total} training images "
            f"are left with dataset.validation={validation}"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    limit = left if train_limit is None else train_limit
    return order[held_out : held_out + limit].sort().values, order[:held_out].sort().values


def select_classes(arrays: Arrays, classes: list[int]) -> Arrays:
    """Keep only the images with these labels, in the stored order. ConfigError if there are none, or no labels."""
    import dataclasses

    import numpy as np

    if arrays.train_labels is None or arrays.test_labels is None:
        raise ConfigError(f"dataset.classes={classes}: these data have no labels")
    present = np.intersect1d(arrays.train_labels, arrays.test_labels).tolist()
    missing = [number for number in classes if number not in present]
    if missing:
        allowed = _format_numbers(present)
        raise ConfigError(f"dataset.classes={classes}: no image has the label {missing[0]}. Allowed: {allowed}")
    train, train_labels = _select(arrays.train, arrays.train_labels, classes)
    test, test_labels = _select(arrays.test, arrays.test_labels, classes)
    return dataclasses.replace(arrays, train=train, test=test, train_labels=train_labels, test_labels=test_labels)


def exclude_classes(arrays: Arrays, classes: Sequence[int | str]) -> Arrays:
    """Take the images with these labels, numbers or names, out of both parts; those of the test part, in the stored
    order, become the ``anomalies``. ``[all, but, 3]`` are all classes but one.

    ConfigError without labels, for a class that no test image has, and if none is left or none is taken out.
    """
    import dataclasses

    import numpy as np

    if arrays.train_labels is None or arrays.test_labels is None:
        raise ConfigError(f"{_excluding(classes)}: these data have no labels")
    tested, every = np.unique(arrays.test_labels), np.union1d(arrays.train_labels, arrays.test_labels)
    excluded = excluded_labels(classes, tested.tolist(), every.tolist(), arrays.classes or [])
    kept = [number for number in every.tolist() if number not in excluded]
    train, train_labels = _select(arrays.train, arrays.train_labels, kept)
    test, test_labels = _select(arrays.test, arrays.test_labels, kept)
    anomalies, labels = _select(arrays.test, arrays.test_labels, excluded)
    for part, name in ((train, "training"), (test, "test"), (anomalies, "excluded test")):
        if not len(part):
            raise ConfigError(f"{_excluding(classes)}: leaves no {name} images")
    parts = {"train": train, "test": test, "train_labels": train_labels, "test_labels": test_labels}
    changed = {**parts, "anomalies": anomalies, "anomaly_labels": labels, "test_files": None}
    return dataclasses.replace(arrays, **changed)  # type: ignore[arg-type]


def excluded_labels(
    classes: Sequence[int | str], tested: Sequence[int], every: Sequence[int], names: Sequence[str]
) -> list[int]:
    """The numbers of the classes that ``dataset.exclude`` lists, of those that there are in ``every`` part.

    ConfigError for a class that no ``tested`` image has.
    """

    def number_of(name: int | str) -> int:
        number = names.index(name) if isinstance(name, str) and name in names else name
        if number in tested:
            return int(number)
        allowed = _format_numbers(list(tested)) + (
            f", or {', '.join(names[label] for label in tested)}" if names else ""
        )
        close = nearest(name, names) if isinstance(name, str) else ""
        raise ConfigError(f"{_excluding(classes)}: no test image has the label {name}.{close} Allowed: {allowed}")

    if tuple(classes[:2]) != ALL_BUT:
        return [number_of(name) for name in classes]
    kept = [number_of(name) for name in classes[2:]]
    return [number for number in every if number not in kept]


def _excluding(classes: Sequence[int | str]) -> str:
    return f"dataset.exclude=[{','.join(map(str, classes))}]"


def _select(images: np.ndarray | Rows, labels: np.ndarray, classes: list[int]) -> tuple[np.ndarray | Rows, np.ndarray]:
    """The images with these labels, and their labels."""
    import numpy as np
    import torch

    rows = np.flatnonzero(np.isin(labels, classes))
    return images.select(torch.from_numpy(rows)) if isinstance(images, Rows) else images[rows], labels[rows]


def _format_numbers(numbers: list[int]) -> str:
    """Format ascending numbers: ``0 to 9`` if they are consecutive, else ``0, 3, 5``."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
