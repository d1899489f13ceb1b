"""Which images are for training, for validation and for the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerun.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


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
