"""The codes of a quantized latent as indices into codebooks: a few bits for each vector of the code, without loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from aerun.use.opened_run import OpenedRun


@dataclass(frozen=True)
class QuantizedCodes:
    """``indices`` [N,I] into ``codebooks`` [S,G,K,d] (see ``aerun.contracts.Latent.codebooks``), of codes [C,...] that
    have ``positions`` P."""

    indices: np.ndarray
    codebooks: np.ndarray
    positions: int

    @property
    def bits(self) -> int:
        """Bits of one index."""
        return bits_per_index(self.codebooks.shape[2])

    @property
    def bits_per_image(self) -> int:
        """Bits of the indices of an image."""
        return self.bits * self.indices.shape[1]

    def codes(self) -> np.ndarray:
        """The codes, float32 [N,D]: to the last bit those of the model. ValueError for indices that do not fit."""
        stages, groups, entries, dimension = self.codebooks.shape
        count = len(self.indices)
        numbers = self.indices.reshape(count, stages, groups, -1)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < entries:
            raise ValueError(f"an index of {numbers.max()}, codebooks of {entries} entries")
        group = np.arange(groups)[None, :, None]
        vectors = self.codebooks[0][group, numbers[:, 0]]
        for stage in range(1, stages):
            vectors = vectors + self.codebooks[stage][group, numbers[:, stage]]
        vectors = vectors.reshape(count, numbers[0, 0].size // self.positions, self.positions, dimension)
        return vectors.swapaxes(2, 3).reshape(count, -1)


def bits_per_index(entries: int) -> int:
    """Bits that number the entries of a codebook."""
    return max(1, math.ceil(math.log2(entries)))


def is_quantized(run: OpenedRun) -> bool:
    """Whether the run's codes have indices."""
    return run.autoencoder.latent.codebooks is not None


def quantized_codes(run: OpenedRun, indices: np.ndarray) -> QuantizedCodes:
    """The codes of a run that have these indices [N,I]."""
    codebooks = run.autoencoder.latent.codebooks
    assert codebooks is not None
    return QuantizedCodes(indices, codebooks.detach().cpu().float().numpy(), math.prod(run.autoencoder.code_shape[1:]))
