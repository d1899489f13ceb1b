"""Codes of one tile as bytes and back: a range coder, fed with the distributions that a run has learned.

Writer and reader must compute the very same distributions. They do so in float64 on the CPU, from whole numbers alone,
and round what results: another machine, whose sums differ in the last bit, finds the same.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aerun.errors import DataError
from aerun.latent.entropy_models import LARGEST_SCALE, SMALLEST_SCALE, EntropyModel, HyperpriorModel
from aerun.use.compression.numbers import Reader, as_signed, as_unsigned

LARGEST = 16_000  # a rounded value
SCALES = 64  # of Laplace distributions, in equal ratios
MEANS_PER_UNIT = 64
SHARES = 2**20  # into which a learned distribution is divided


def require_constriction() -> Any:
    """The range coder's package. DataError without it."""
    try:
        import constriction
    except ImportError as error:
        raise DataError("compression needs the package constriction: pip install 'aerun[compress]'") from error
    return constriction


class EntropyCoder:
    """Writes and reads the codes of one run."""

    def __init__(self, latent: EntropyModel) -> None:
        self._stream = require_constriction().stream
        self.latent = copy.deepcopy(latent).cpu().double().eval()
        self.scales = np.geomspace(SMALLEST_SCALE, LARGEST_SCALE, SCALES)
        self._borders = torch.from_numpy(np.sqrt(self.scales[1:] * self.scales[:-1]))

    @torch.no_grad()
    def write(self, features: Tensor, quality: int) -> tuple[bytes, np.ndarray]:
        """features[C,h,w] and the quality, from 0 -> bytes, and the whole numbers in them."""
        values = self.latent.scaled(features.cpu().double()[None], torch.tensor([quality]))
        encoder, head, numbers = self._stream.queue.RangeEncoder(), list[bytes](), list[np.ndarray]()

        def code(rounded: Tensor, encode: Callable[[np.ndarray, int, int], None]) -> None:
            flat = np.ascontiguousarray(rounded.flatten().numpy().astype(np.int32))
            low, high = _bounds(flat)
            encode(flat, low, high)
            head.append(as_signed(low) + as_unsigned(high - low))
            numbers.append(flat)

        if not isinstance(self.latent, HyperpriorModel):
            code(_whole(values), partial(self._write_learned, encoder, quality))
        else:
            coarse = _whole(self.latent.describe(values, torch.tensor([quality])))
            code(coarse, partial(self._write_learned, encoder, 0))
            for channels, where, means, scales, known in self._passes(coarse, values.shape, quality):
                rounded = _whole((values[:, channels] - means)[:, :, where])
                code(rounded, partial(self._write_described, encoder, scales))
                known[:, channels, where] = means[:, :, where] + rounded
        words = encoder.get_compressed().astype("<u4").tobytes()
        return b"".join(head) + words, np.concatenate(numbers)

    @torch.no_grad()
    def read(self, content: bytes, size: Sequence[int], quality: int) -> tuple[Tensor, np.ndarray]:
        """Bytes and the height and width of a code -> code[C,h,w] in float32, and the whole numbers. DataError for
        bytes that ``write`` cannot have made."""
        shape, numbers, reader = (1, self.latent.code_shape[0], *size), list[np.ndarray](), Reader(content)
        parts = 1 + len(self.latent.passes(size)) if isinstance(self.latent, HyperpriorModel) else 1
        bounds = iter([reader.bounds(LARGEST) for _ in range(parts)])
        words = reader.rest()
        if len(words) % 4:
            raise DataError("its codes are cut off")
        decoder = self._stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))

        def as_values(flat: np.ndarray, *of: int) -> Tensor:
            numbers.append(flat)
            return torch.from_numpy(flat.astype(np.float64)).view(of)

        try:
            if not isinstance(self.latent, HyperpriorModel):
                known = as_values(self._read_learned(decoder, *next(bounds), math.prod(size), quality), *shape)
            else:
                coarse_shape = (1, self.latent.channels, *(math.ceil(side / 4) for side in size))
                flat = self._read_learned(decoder, *next(bounds), math.prod(coarse_shape[2:]), 0)
                for channels, where, means, scales, known in self._passes(
                    as_values(flat, *coarse_shape), shape, quality
                ):
                    rounded = as_values(
                        decoder.decode(*self._laplace(*next(bounds), scales)), *means[:, :, where].shape
                    )
                    known[:, channels, where] = means[:, :, where] + rounded
        except AssertionError as error:  # constriction's, for words that no encoder wrote
            raise DataError("its codes are damaged") from error
        return self.latent.unscaled(known, torch.tensor([quality]))[0].float(), np.concatenate(numbers)

    def _passes(
        self, coarse: Tensor, shape: Sequence[int], quality: int
    ) -> Iterator[tuple[slice, Tensor, Tensor, np.ndarray, Tensor]]:
        """Rounded z[1,channels,h,w] and the shape [1,C,H,W] of a code -> of each pass its channels, where it is, the
        rounded means [1,channels,H,W], the scales of its values, flat, and the code as far as it is known, to which the
        caller adds them."""
        assert isinstance(self.latent, HyperpriorModel)
        features, known = self.latent.features(coarse, shape[2:]), torch.zeros(tuple(shape), dtype=torch.float64)
        for number, (channels, where) in enumerate(self.latent.passes(shape[2:])):
            means, scales = self.latent.distribution(number, features, known, torch.tensor([quality]))
            places = torch.bucketize(scales[:, :, where], self._borders).flatten().numpy()
            yield channels, where, (means * MEANS_PER_UNIT).round() / MEANS_PER_UNIT, self.scales[places], known

    def _laplace(self, low: int, high: int, scales: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
        """What constriction takes to code values around 0 with these scales."""
        return self._stream.model.QuantizedLaplace(low, high), np.zeros(len(scales)), scales

    def _write_described(self, encoder: Any, scales: np.ndarray, values: np.ndarray, low: int, high: int) -> None:
        encoder.encode(values, *self._laplace(low, high, scales))

    def _write_learned(self, encoder: Any, quality: int, values: np.ndarray, low: int, high: int) -> None:
        """Encode rounded values, all those of a channel after each other, by the distribution of the channel."""
        for part, shares in zip(
            np.split(values, self.latent.density.channels), self._shares(low, high, quality), strict=True
        ):
            encoder.encode(part - low, self._stream.model.Categorical(shares, perfect=False))

    def _read_learned(self, decoder: Any, low: int, high: int, count: int, quality: int) -> np.ndarray:
        """The values of all channels, ``count`` of each."""
        models = (self._stream.model.Categorical(shares, perfect=False) for shares in self._shares(low, high, quality))
        return np.concatenate([decoder.decode(model, count) for model in models]) + np.int32(low)

    def _shares(self, low: int, high: int, quality: int) -> Iterator[np.ndarray]:
        """For each channel the probabilities of low, low + 1, ..., high, as multiples of 1 / SHARES, none of them 0."""
        density = self.latent.density
        values = torch.arange(low, high + 1, dtype=torch.float64).expand(1, density.channels, -1)
        found = density.log_likelihood(values, torch.tensor([quality]))[0].exp().numpy()
        yield from ((found * SHARES).round() + 1) / SHARES


def _whole(values: Tensor) -> Tensor:
    """Rounded values that a file can hold. DataError for those that are no numbers."""
    if not values.isfinite().all():
        raise DataError("the run's code has values that are no finite numbers")
    if values.numel() and values.abs().max() > LARGEST:
        raise DataError(f"its code has steps beyond {LARGEST:,}, more than a file holds; choose a lower quality")
    return values.round()


def _bounds(values: np.ndarray) -> tuple[int, int]:
    """The smallest value, and the largest or one more than the smallest: a distribution needs two."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 1)
    return low, max(high, low + 1)
