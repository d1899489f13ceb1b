"""Binary images sampled from gray ones: each pixel becomes 1 with a probability equal to its gray value.

Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks", did so for MNIST. A Bernoulli
likelihood of pixels is defined for binary images only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aerun.dataset.cache import cached_rows
from aerun.dataset.data import as_float
from aerun.dataset.rows import Rows
from aerun.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor

CHUNK = 4096  # images


def sample_binary(images: Tensor, generator: Generator) -> Tensor:
    """images[B,...], uint8 or in [0,1] -> one sample, float, 0 or 1. The generator is on the images' device."""
    import torch

    probabilities = as_float(images)
    uniform = torch.rand(probabilities.shape, generator=generator, device=probabilities.device)
    return (uniform < probabilities).to(probabilities.dtype)


def binarize_all(images: Tensor | Rows, seed: int) -> Tensor | Rows:
    """Sample all images[N,...] once, as uint8, 0 or 255; the result is in memory if the images are, else in a file.

    The sample of a value depends only on the seed and its position.
    """
    import torch

    if isinstance(images, Rows):
        file = cached_rows(f"{images.digest} binarised by {seed}", lambda: _chunks(images, seed))
        if file is not None:
            return Rows(file)
    return torch.cat([torch.from_numpy(chunk) for chunk in _chunks(images, seed)])


def check_binarizable(images: Tensor | Rows, key: str) -> None:
    """ConfigError, starting with ``key``, unless the images are pixel probabilities: uint8, or floats in [0,1]."""
    import torch

    if images.dim() != 4:
        raise ConfigError(f"{key}: needs images; the data are vectors of {images.shape[1]} values")
    if images.dtype != torch.uint8:
        ends = [(float(chunk.min()), float(chunk.max())) for chunk in images.split(CHUNK)]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        if low < 0 or high > 1:
            raise ConfigError(f"{key}: needs images in [0,1]; these range from {low:g} to {high:g}")


def _chunks(images: Tensor | Rows, seed: int) -> Iterator[np.ndarray]:
    """Yield samples chunk by chunk from one generator, so that the chunk size makes no difference."""
    import numpy as np

    random = np.random.default_rng(seed)
    for chunk in images.split(CHUNK):
        uniform = random.random(tuple(chunk.shape), np.float32)
        yield np.where(uniform < as_float(chunk.cpu()).numpy(), np.uint8(255), np.uint8(0))
