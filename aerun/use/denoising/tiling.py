"""Images of any size through a run that takes one size: overlapping tiles, blended."""

from __future__ import annotations

import math
from typing import overload

import numpy as np
import torch
from torch import Tensor

from aerun.base.progress_bar import progress_bar
from aerun.errors import DataError
from aerun.use.opened_run import OpenedRun, Run
from aerun.use.opened_run import as_opened as opened_run

TILES_PER_BATCH = 256  # held at once: whole blocks of the run's


@overload
def denoise(run: Run, images: Tensor) -> Tensor: ...
@overload
def denoise(run: Run, images: np.ndarray) -> np.ndarray: ...
def denoise(run: Run, images: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """What the run makes of images of any size, clipped to [0,1]: float32, of the same shape and kind.

    ``run``: a run folder, one that is open, or a model. ``images``: [H,W], [C,H,W] or [N,C,H,W], float in [0,1] or
    uint8. They are cut into tiles of the run's size that overlap by half, and blended with a window that falls off
    smoothly, its weights divided by their sum; what is smaller than a tile is continued by reflection. A run on grey
    images sees the channels of a colour image one by one; one on colour images sees a grey image three times, and the
    mean counts.
    DataError for a run of vectors, and for channels that do not fit.
    """
    opened = opened_run(run)
    check_denoiser(opened)
    given = torch.as_tensor(images)
    values = given.float() / 255 if given.dtype == torch.uint8 else given.float()
    if not 2 <= values.dim() <= 4:
        raise DataError(f"images of shape {list(given.shape)}: must be [H,W], [C,H,W] or [N,C,H,W]")
    batch = values.reshape(-1, *((1, 1, *values.shape)[-3:]))
    takes, has = opened.shape[0], batch.shape[1]
    if takes == has or takes == 1:
        cleaned = torch.cat([_denoise_tiles(opened, part) for part in batch.split(takes, 1)], 1)
    elif has == 1:
        cleaned = _denoise_tiles(opened, batch.expand(-1, takes, -1, -1)).mean(1, keepdim=True)
    else:
        raise DataError(f"{opened.folder}: takes images of {takes} channels, or of 1, these have {has}")
    cleaned = cleaned.clamp(0, 1).reshape(values.shape)
    return cleaned.numpy() if isinstance(images, np.ndarray) else cleaned


def check_denoiser(run: OpenedRun) -> None:
    """DataError for a run whose outputs are not images like its inputs."""
    shapes = run.autoencoder.input_shape, run.autoencoder.output_shape
    if not run.is_image:
        words = "x".join(map(str, run.shape))
        raise DataError(f"{run.folder}: was trained on inputs of shape {words}, which are no grey or colour images")
    if shapes[0] != shapes[1]:
        words = " to ".join("x".join(map(str, shape)) for shape in shapes)
        raise DataError(f"{run.folder}: leads from {words}, a denoiser's outputs are of its inputs' shape")


def _denoise_tiles(run: OpenedRun, images: Tensor) -> Tensor:
    """images[N,C,H,W] of the run's channels, through it."""
    _, *tile = run.shape
    height, width = images.shape[2:]
    padded = _pad_to_tile(images, tile)
    starts = [_tile_starts(size, side) for size, side in zip(padded.shape[2:], tile, strict=True)]
    places = [(n, y, x) for n in range(len(images)) for y in starts[0] for x in starts[1]]
    window = _blend_window(tile[0])[:, None] * _blend_window(tile[1])
    total, weight = torch.zeros(padded.shape), torch.zeros(padded.shape[2:])
    for y in starts[0]:
        for x in starts[1]:
            weight[y : y + tile[0], x : x + tile[1]] += window
    with progress_bar("tiles", len(places)) as bar:
        for first in range(0, len(places), TILES_PER_BATCH):
            part = places[first : first + TILES_PER_BATCH]
            tiles = torch.stack([padded[n, :, y : y + tile[0], x : x + tile[1]] for n, y, x in part])
            for (n, y, x), cleaned in zip(part, run.reconstruct(tiles) * window, strict=True):
                total[n, :, y : y + tile[0], x : x + tile[1]] += cleaned
            bar.update(len(part))
    return (total / weight)[..., :height, :width]


def _pad_to_tile(images: Tensor, least: list[int]) -> Tensor:
    """images[N,C,H,W], reflected below and at the right until they are as large as a tile."""
    more = [max(0, side - size) for size, side in zip(images.shape[2:], least, strict=True)]
    if not any(more):
        return images
    # NumPy's goes on reflecting where torch's stops, at the image's own size.
    return torch.from_numpy(np.pad(images.numpy(), ((0, 0), (0, 0), (0, more[0]), (0, more[1])), mode="reflect"))


def _tile_starts(size: int, side: int) -> list[int]:
    """Where tiles begin that cover ``size``, each half of one after the last, and the last flush with the end."""
    return sorted({*range(0, size - side, max(1, side // 2)), size - side})


def _blend_window(side: int) -> Tensor:
    """Weights [side], a squared sine: those of tiles that overlap by half of an even side add up to 1."""
    return ((torch.arange(side, dtype=torch.float64) + 0.5) * math.pi / side).sin().square().float()
