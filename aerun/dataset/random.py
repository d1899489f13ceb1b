"""Synthetic data for tests and benchmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from aerun.contracts import Range, Seed, Size
from aerun.dataset.base import Dataset
from aerun.dataset.data import Arrays


@dataclass(frozen=True, kw_only=True)
class Random(Dataset):
    """``images`` training images of ``shape`` [C,H,W] (or vectors [F]) in [0,1], and a fifth as many for testing.

    Each is a random mixture of ``factors`` random patterns, passed through a logistic function, so there is something
    to compress. The label is the strongest of the first ten patterns.
    """

    images: Annotated[int, Range(1, 100_000_000)]
    shape: list[Size]
    factors: Size
    generator_seed: Seed

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.shape) not in (1, 3):
            raise ValueError(f"shape={self.shape}: must be [C,H,W], or [F] for vectors")

    def read(self) -> Arrays:
        import numpy as np

        random = np.random.default_rng(self.generator_seed)
        patterns = random.standard_normal((self.factors, math.prod(self.shape)), dtype=np.float32)
        parts, labels = [], []
        for count in (self.images, max(1, self.images // 5)):
            weights = random.standard_normal((count, self.factors), dtype=np.float32)
            values = 1 / (1 + np.exp(-2 * weights @ patterns / math.sqrt(self.factors)))
            parts.append(np.round(values * 255).astype(np.uint8).reshape(count, *self.shape))
            labels.append(weights[:, :10].argmax(1))
        if len(self.shape) == 1:
            parts = [part.astype(np.float32) / 255 for part in parts]
        return Arrays(parts[0], parts[1], labels[0], labels[1], [str(i) for i in range(min(10, self.factors))])
