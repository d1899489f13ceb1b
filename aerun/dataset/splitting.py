"""Which images are for training, for validation and for the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aerun.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.dataset.data import Arrays


def holdout(total: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a training part and of a test part of about ``share``; at least one row each."""
    import numpy as np

    if total < 2:
        raise DataError(f"{total} images cannot be split into training and test images")
    order = np.random.default_rng(seed).permutation(total)
    count = min(max(1, round(share * total)), total - 1)
    return np.sort(order[count:]), np.sort(order[:count])


def divide(total: int, validation: float, train_limit: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Which of the training images are for training and which are held out, each in the stored order."""
    import torch

    held_out = validation if isinstance(validation, int) else round(validation * total)
    if held_out >= total:
        raise ConfigError(f"dataset.validation={validation}: leaves nothing of {total} training images")
    left = total - held_out
    if train_limit is not None and train_limit > left:
        raise ConfigError(
            f"dataset.train_limit={train_limit}: only {left} training images are left "
            f"of {total} with dataset.validation={validation}"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    limit = left if train_limit is None else train_limit
    return order[held_out : held_out + limit].sort().values, order[:held_out].sort().values


def of_classes(arrays: Arrays, classes: list[int]) -> Arrays:
    """The images with these labels alone, in the stored order. ConfigError without labels, or for one that none has."""
    import dataclasses

    import numpy as np
    import torch

    from aerun.dataset.rows import Rows

    if arrays.train_labels is None or arrays.test_labels is None:
        raise ConfigError(f"dataset.classes={classes}: these data have no labels")
    there = np.intersect1d(arrays.train_labels, arrays.test_labels).tolist()
    missing = [number for number in classes if number not in there]
    if missing:
        raise ConfigError(f"dataset.classes={classes}: no image has the label {missing[0]}. Allowed: {_spans(there)}")
    chosen: dict[str, Any] = {}
    for part, labels in (("train", arrays.train_labels), ("test", arrays.test_labels)):
        rows = np.flatnonzero(np.isin(labels, classes))
        images = getattr(arrays, part)
        chosen[part] = images.select(torch.from_numpy(rows)) if isinstance(images, Rows) else images[rows]
        chosen[f"{part}_labels"] = labels[rows]
    return dataclasses.replace(arrays, **chosen)


def _spans(numbers: list[int]) -> str:
    """Ascending numbers in words: ``0 to 9`` where none is left out."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
