"""Splits of images into training, validation and test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerun.dataset.rows import Rows
from aerun.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.dataset.data import Arrays


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
    import torch

    if arrays.train_labels is None or arrays.test_labels is None:
        raise ConfigError(f"dataset.classes={classes}: these data have no labels")
    present = np.intersect1d(arrays.train_labels, arrays.test_labels).tolist()
    missing = [number for number in classes if number not in present]
    if missing:
        allowed = _format_numbers(present)
        raise ConfigError(f"dataset.classes={classes}: no image has the label {missing[0]}. Allowed: {allowed}")

    def select(images: np.ndarray | Rows, labels: np.ndarray) -> tuple[np.ndarray | Rows, np.ndarray]:
        rows = np.flatnonzero(np.isin(labels, classes))
        return images.select(torch.from_numpy(rows)) if isinstance(images, Rows) else images[rows], labels[rows]

    train, train_labels = select(arrays.train, arrays.train_labels)
    test, test_labels = select(arrays.test, arrays.test_labels)
    return dataclasses.replace(arrays, train=train, test=test, train_labels=train_labels, test_labels=test_labels)


def _format_numbers(numbers: list[int]) -> str:
    """Format ascending numbers: ``0 to 9`` if they are consecutive, else ``0, 3, 5``."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
