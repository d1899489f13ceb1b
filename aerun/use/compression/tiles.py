"""The networks of a codec over pictures of any size: tile by tile, with what is around a tile as far as it matters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aerun.errors import DataError
from aerun.latent.entropy_models import EntropyModel
from aerun.model.cosine_path import FromBlocks, ToBlocks
from aerun.use.opened_run import OpenedRun

TILE = 1024  # pixels of a side, rounded to whole values of the coarsest code


@dataclass(frozen=True)
class Tile:
    """One tile in values of a code: ``inner``, what it adds to the code, and ``outer``, what the networks need for it,
    both as (top, bottom, left, right)."""

    inner: tuple[int, int, int, int]
    outer: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of ``inner``."""
        top, bottom, left, right = self.inner
        return bottom - top, right - left

    @property
    def within(self) -> tuple[slice, slice]:
        """``inner`` in an array of ``outer``."""
        (top, bottom, left, right), (above, _, before, _) = self.inner, self.outer
        return slice(top - above, bottom - above), slice(left - before, right - before)


class Networks:
    """Encoder and decoder of a run that was trained with ``model=fully_conv`` and a learned entropy model."""

    def __init__(self, run: OpenedRun) -> None:
        check_codec(run)
        self.model = run.autoencoder
        self.latent: EntropyModel = self.model.latent  # type: ignore[assignment]
        self.channels: int = self.model.input_shape[0]
        self.stride = self.model.input_shape[1] // self.model.code_shape[1]
        self.reaches = _reach(self.model.encoder, 1), _reach(self.model.decoder, self.stride)
        self._around = math.ceil(max(self.reaches) / self.stride)

    def code_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the code of a picture."""
        return -(-height // self.stride), -(-width // self.stride)

    def tiles(self, height: int, width: int) -> Iterator[Tile]:
        """The tiles of a picture, row by row."""
        step, (rows, columns) = max(4, TILE // self.stride // 4 * 4), self.code_size(height, width)
        for top in range(0, rows, step):
            for left in range(0, columns, step):
                bottom, right = min(top + step, rows), min(left + step, columns)
                around = self._around
                outer = max(0, top - around), min(rows, bottom + around), max(0, left - around), right + around
                yield Tile((top, bottom, left, right), (*outer[:3], min(columns, outer[3])))

    @torch.no_grad()
    def encode(self, pixels: np.ndarray, tile: Tile) -> Tensor:
        """uint8 [H,W,C] of a whole picture -> features[C,h,w] of a tile. Beyond the picture its last pixels repeat."""
        top, bottom, left, right = (self.stride * side for side in tile.outer)
        part = pixels[top:bottom, left:right]
        missing = ((0, bottom - top - part.shape[0]), (0, right - left - part.shape[1]), (0, 0))
        part = np.pad(part, missing, mode="edge").transpose(2, 0, 1)
        images = torch.from_numpy(np.ascontiguousarray(part))[None].to(self.model.device, self.model.dtype) / 255
        features = self.model.sparsity(self.model.encoder(images), False)[0][0]
        return features[(slice(None), *tile.within)]

    @torch.no_grad()
    def decode(self, code: Tensor, tile: Tile) -> np.ndarray:
        """code[C,h,w] of a whole picture -> uint8 [H,W,C] of a tile."""
        top, bottom, left, right = tile.outer
        part = code[None, :, top:bottom, left:right].to(self.model.device, self.model.dtype)
        images = self.model.decode_batch(part)[0].float().cpu()
        rows, columns = (slice(self.stride * side.start, self.stride * side.stop) for side in tile.within)
        pixels: np.ndarray = (images[:, rows, columns].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        return pixels


def check_codec(run: OpenedRun) -> None:
    """DataError unless the run has the networks and the latent of a codec."""
    model = run.autoencoder
    of_blocks = isinstance(model.encoder, FromBlocks) and isinstance(model.decoder, ToBlocks)
    if not of_blocks or not isinstance(model.latent, EntropyModel):
        raise DataError(
            f"{run.folder}: is no codec; train one with experiment=codec, or model=fully_conv latent=hyperprior"
        )
    run.require_images()
    shapes = run.autoencoder.input_shape, run.autoencoder.output_shape
    decoder: Any = run.autoencoder.decoder
    if decoder.size is not None:
        raise DataError(f"{run.folder}: the sides of a codec's training images must be multiples of {decoder.side}")
    if shapes[0] != shapes[1] or run.autoencoder.standardise_input.mean is not None:
        raise DataError(f"{run.folder}: a codec needs targets that are its inputs, and dataset.normalize=none")


def _reach(network: nn.Module, step: int) -> int:
    """How many pixels away a value still matters; ``step``: pixels for each value of the network's input."""
    pixels = 0
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            pixels += layer.kernel_size[0] // 2 * step
            step *= layer.stride[0]
        elif isinstance(layer, nn.PixelShuffle):
            step //= layer.upscale_factor
    return pixels
