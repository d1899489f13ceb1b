"""Grey images as the probabilities of binary ones: each value becomes 1 with the probability that it states.

Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks", did so with MNIST. A likelihood
of Bernoulli pixels is one only of such images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aerun.dataset.cache import cached_rows
from aerun.dataset.rows import Rows
from aerun.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor

CHUNK = 4096  # images


def drawn(images: Tensor, generator: Generator) -> Tensor:
    """images[B,...], uint8 or in [0,1] -> one draw of them, float, 0 or 1; on the images' device, as the generator."""
    import torch

    from aerun.dataset.data import as_float

    probabilities = as_float(images)
    uniform = torch.rand(probabilities.shape, generator=generator, device=probabilities.device)
    return (uniform < probabilities).to(probabilities.dtype)


def binarised(images: Tensor | Rows, seed: int) -> Tensor | Rows:
    """One draw of all images[N,...] as uint8, 0 or 255, in memory if they are there, else in a file.

    A value's draw depends on the seed and its position alone.
    """
    import torch

    if isinstance(images, Rows):
        file = cached_rows(f"{images.digest} binarised by {seed}", lambda: _chunks(images, seed))
        if file is not None:
            return Rows(file)
    return torch.cat([torch.from_numpy(chunk) for chunk in _chunks(images, seed)])


def check_binarisable(images: Tensor | Rows, key: str) -> None:
    """ConfigError, which begins with ``key``, for what are no probabilities of pixels."""
    import torch

    if images.dim() != 4:
        raise ConfigError(f"{key}: needs images, these are vectors of {images.shape[1]}")
    if images.dtype != torch.uint8:
        ends = [(float(chunk.min()), float(chunk.max())) for chunk in images.split(CHUNK)]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        if low < 0 or high > 1:
            raise ConfigError(f"{key}: needs images in [0,1], these reach from {low:g} to {high:g}")


def _chunks(images: Tensor | Rows, seed: int) -> Iterator[np.ndarray]:
    """One generator for all, so that the size of a chunk makes no difference."""
    import numpy as np

    from aerun.dataset.data import as_float

    random = np.random.default_rng(seed)
    for chunk in images.split(CHUNK):
        uniform = random.random(tuple(chunk.shape), np.float32)
        yield np.where(uniform < as_float(chunk.cpu()).numpy(), np.uint8(255), np.uint8(0))
