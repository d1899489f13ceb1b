"""Images of any size through a run of one size: overlapping tiles, blended."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard, overload

import numpy as np
import torch
from torch import Tensor

from aerun.base.progress_bar import progress_bar
from aerun.core.image_inputs import as_pictures, as_tensor, require_units
from aerun.dataset.data import as_float
from aerun.errors import DataError
from aerun.use.opened_run import OpenedRun, Run, as_opened, data_errors

if TYPE_CHECKING:
    from PIL.Image import Image

    from aerun.core.image_inputs import Images

TILES_PER_BATCH = 256
LARGER = 4  # times the run's size are the tiles of a model that takes any size: less is computed twice
CHANNELS = (1, 3, 4)  # of images; another number of channels is taken only where it comes first


@overload
def denoise(run: Run, images: Tensor) -> Tensor: ...
@overload
def denoise(run: Run, images: np.ndarray | Image | Sequence[Image]) -> np.ndarray: ...
def denoise(run: Run, images: Images) -> Tensor | np.ndarray:
    """Images of any size -> their reconstructions, clipped to [0,1]: float32, of the same shape and type.

    ``images``: [H,W], [C,H,W] or [N,C,H,W], float in [0,1] or uint8. Arrays of uint8 may also be [H,W,C] or [N,H,W,C],
    as may a PIL image or several of one size; the result for these is an array of that shape. Tiles overlap by half of
    the run's size and are blended by smooth windows whose weights add up to 1; they have the run's size, or four times
    that for a model that takes any, as model=unet does. Images smaller than the run's are padded by reflection. A run
    on gray images sees the channels of a color image one by one; a run on color images sees a gray image in all three
    channels, and the mean is returned. DataError if the run's inputs are not images, and for images
    whose channels do not match, or whose layout or units are not certain.
    """
    opened = as_opened(run)
    check_denoiser(opened)
    batch, restore = as_planes(opened, images)
    return restore(denoise_planes(opened, batch))


def denoise_planes(run: OpenedRun, images: Tensor) -> Tensor:
    """images[N,C,H,W] in [0,1] -> their reconstructions, in [0,1]. DataError for a number of channels that the run
    does not take."""
    run_channels, channels = run.shape[0], images.shape[1]
    if run_channels in (channels, 1):
        cleaned = torch.cat([_denoise_tiles(run, part) for part in images.split(run_channels, 1)], 1)
    elif channels == 1:
        cleaned = _denoise_tiles(run, images.expand(-1, run_channels, -1, -1)).mean(1, keepdim=True)
    else:
        raise DataError(f"images of {channels} channels: {run.folder} takes {run_channels} channels, or 1")
    return cleaned.clamp(0, 1)


def as_planes(run: OpenedRun, images: Images) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Images, as for ``denoise`` -> a batch [N,C,H,W], float, and the function that gives such a batch their layout and
    type."""
    given = images if isinstance(images, Tensor) else _as_array(images)
    if not 2 <= given.ndim <= 4:
        raise DataError(f"images of shape {list(given.shape)}: must be [H,W], [C,H,W] or [N,C,H,W]")
    if _has_channels_last(given):
        batch, restore = as_planes(run, np.moveaxis(given, -1, -3))
        return batch, lambda cleaned: np.moveaxis(restore(cleaned), -3, -1)
    with data_errors():
        pixels = require_units(as_tensor(given), is_image=True).detach().cpu()
    run.autoencoder.warn_of_range(pixels, str(run.folder))
    values = as_float(pixels).float()
    shape, is_tensor = values.shape, isinstance(images, Tensor)

    def restored(cleaned: Tensor) -> Tensor | np.ndarray:
        return cleaned.reshape(shape) if is_tensor else cleaned.reshape(shape).numpy()

    return values.reshape(-1, *((1, 1, *shape)[-3:])), restored


def _as_array(images: np.ndarray | Image | Sequence[Image]) -> np.ndarray:
    """An array; of PIL images uint8 [H,W] or [H,W,3], with [N] before that if they are in a list."""
    from PIL.Image import Image

    with data_errors():
        if isinstance(images, Image):
            return as_pictures([images])[0]
        if isinstance(images, Sequence) and images and all(isinstance(image, Image) for image in images):
            return as_pictures(images)
    return np.asarray(images)


def _has_channels_last(images: Tensor | np.ndarray) -> TypeGuard[np.ndarray]:
    """Whether images are [H,W,C] or [N,H,W,C], which only arrays of uint8 may be. DataError if that is not certain."""
    if images.ndim < 3 or images.shape[-1] not in CHANNELS:
        return False
    is_array, could_be_first = not isinstance(images, Tensor) and images.dtype == np.uint8, images.shape[-3] in CHANNELS
    if is_array != could_be_first:
        return is_array
    if not is_array:
        order = "0, 3, 1, 2" if images.ndim == 4 else "2, 0, 1"
        remedy = f"put the channels first, images.transpose({order}) of an array or .permute of a tensor"
        raise DataError(f"images of shape {list(images.shape)}: look like [H,W,C]; {remedy}")
    raise DataError(f"images of shape {list(images.shape)}: may be [C,H,W] or [H,W,C]; pass a tensor, which is [C,H,W]")


def check_denoiser(run: OpenedRun) -> None:
    """DataError if the run's outputs are not images of the shape of its inputs."""
    run.require_images()
    before, after = run.autoencoder.input_shape, run.autoencoder.output_shape
    if before != after:
        text = " to ".join("x".join(map(str, shape)) for shape in (before, after))
        raise DataError(f"{run.folder}: maps {text}; to denoise, outputs must have the shape of inputs")


def _denoise_tiles(run: OpenedRun, images: Tensor) -> Tensor:
    """images[N,C,H,W] with the run's channels -> reconstructions of the same shape."""
    _, *smallest = run.shape
    height, width = images.shape[2:]
    padded = _pad_to_tile(images, smallest)
    tile = [min(LARGER * side, size) for side, size in zip(smallest, padded.shape[2:], strict=True)]
    if not run.autoencoder.any_size:
        tile = smallest
    overlaps = [side // 2 for side in smallest]
    starts = [_tile_starts(*sides) for sides in zip(padded.shape[2:], tile, overlaps, strict=True)]
    places = [(n, y, x) for n in range(len(images)) for y in starts[0] for x in starts[1]]
    rows, columns = (_blend_window(*sides) for sides in zip(tile, overlaps, strict=True))
    window = rows[:, None] * columns
    total, weight = torch.zeros(padded.shape), torch.zeros(padded.shape[2:])
    for y in starts[0]:
        for x in starts[1]:
            weight[y : y + tile[0], x : x + tile[1]] += window
    at_once = TILES_PER_BATCH if tile == smallest else 1
    with progress_bar("tiles", len(places)) as bar:
        for first in range(0, len(places), at_once):
            part = places[first : first + at_once]
            tiles = torch.stack([padded[n, :, y : y + tile[0], x : x + tile[1]] for n, y, x in part])
            for (n, y, x), cleaned in zip(part, _reconstruct(run, tiles) * window, strict=True):
                total[n, :, y : y + tile[0], x : x + tile[1]] += cleaned
            bar.update(len(part))
    return (total / weight)[..., :height, :width]


@torch.no_grad()
def _reconstruct(run: OpenedRun, tiles: Tensor) -> Tensor:
    """tiles[N,C,h,w] of the run's size or, for a model that takes any, of another one -> reconstructions."""
    model = run.autoencoder
    if tiles.shape[1:] == torch.Size(run.shape):
        return run.reconstruct(tiles)
    return model.decode_batch(model.encode_batch(tiles.to(model.device, model.dtype))).float().cpu()


def _pad_to_tile(images: Tensor, tile: list[int]) -> Tensor:
    """images[N,C,H,W], padded by reflection below and at the right to at least the size of a tile."""
    missing = [max(0, side - size) for size, side in zip(images.shape[2:], tile, strict=True)]
    if not any(missing):
        return images
    # NumPy reflects repeatedly; torch allows at most one reflection.
    padding = ((0, 0), (0, 0), (0, missing[0]), (0, missing[1]))
    return torch.from_numpy(np.pad(images.numpy(), padding, mode="reflect"))


def _tile_starts(size: int, side: int, overlap: int) -> list[int]:
    """First pixels of tiles that cover ``size`` and overlap by ``overlap`` or more; the last ends at the last pixel."""
    return sorted({*range(0, size - side, max(1, side - overlap)), size - side})


def _blend_window(side: int, overlap: int) -> Tensor:
    """Weights [side]: 1, and a squared sine over the overlap at both ends. Those of two tiles add up to 1 where they
    overlap by ``overlap``, if that is half of the side, for an even side."""
    places = torch.arange(side, dtype=torch.float64) + 0.5
    share = torch.minimum(places, side - places) / max(overlap, 0.5)
    return (share.clamp_max(1) * math.pi / 2).sin().square().float()
