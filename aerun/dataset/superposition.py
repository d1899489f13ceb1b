"""Sparse combinations of known directions: the toy model of dictionary learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from aerun.contracts import NonNegative, OpenProbability, Probability, Range, Seed, Size
from aerun.dataset.base import Dataset
from aerun.dataset.data import Arrays

if TYPE_CHECKING:
    import numpy as np

CHUNK_VALUES = 10_000_000  # magnitudes that are drawn at once


@dataclass(frozen=True, kw_only=True)
class Superposition(Dataset):
    """``images`` training vectors x = sum_i a_i f_i + noise of ``dimension`` values, and a fifth as many for testing.

    The f_i are ``features`` random unit vectors, more than there are dimensions: Elhage et al. 2022, "Toy Models of
    Superposition"; Sharkey, Braun & Millidge 2022, "Taking features out of superposition with sparse autoencoders".
    Each a_i is nonzero with ``probability``, independently, and then uniform between ``smallest`` and 1. ``noise`` is
    the standard deviation of independent Gaussian noise on every value.
    """

    images: Annotated[int, Range(1, 100_000_000)]
    features: Size
    dimension: Size
    probability: OpenProbability
    smallest: Probability
    noise: NonNegative
    generator_seed: Seed

    def known_features(self) -> np.ndarray:
        import numpy as np

        random = np.random.default_rng((self.generator_seed, 0))
        directions = random.standard_normal((self.features, self.dimension), dtype=np.float32)
        norms = np.linalg.norm(directions, axis=1, keepdims=True)
        return np.asarray(directions / norms)

    def read(self) -> Arrays:
        import numpy as np

        random, directions = np.random.default_rng((self.generator_seed, 1)), self.known_features()
        rows = max(1, CHUNK_VALUES // self.features)
        parts = []
        for count in (self.images, max(1, self.images // 5)):
            part = np.empty((count, self.dimension), np.float32)
            for start in range(0, count, rows):
                shape = (min(rows, count - start), self.features)
                active = random.random(shape, dtype=np.float32) < self.probability
                values = self.smallest + (1 - self.smallest) * random.random(shape, dtype=np.float32)
                part[start : start + rows] = np.where(active, values, np.float32(0)) @ directions
            if self.noise:
                part += self.noise * random.standard_normal(part.shape, dtype=np.float32)
            parts.append(part)
        return Arrays(parts[0], parts[1])
