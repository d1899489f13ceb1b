"""Structural similarity of images: Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural
Similarity", and over several scales Wang, Simoncelli & Bovik 2003, "Multiscale Structural Similarity for Image Quality
Assessment".

Not torchmetrics': that takes longer to import than torch, whose compiler it brings along, is eight times slower in
training, and averages over windows beyond the image's edge, which the published measure does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # of values in [0,1]
LEAST = 1e-6
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def check_size(shape: Sequence[int]) -> None:
    """ValueError unless these are images [C,H,W] that hold the window."""
    if len(shape) != 3:
        raise ValueError(f"structural similarity is of images [C,H,W], the data are vectors of {shape[0]} values")
    if min(shape[1:]) < WINDOW:
        height, width = shape[1:]
        raise ValueError(f"images of {height}x{width} are smaller than the window of SSIM, {WINDOW}x{WINDOW}")


def scales(shape: Sequence[int]) -> int:
    """How many of the five scales of MS-SSIM hold the window: each halves the image, 176 pixels and more hold all."""
    side, count = min(shape[-2:]), 1
    while count < len(SCALE_WEIGHTS) and side // 2 >= WINDOW:
        side, count = side // 2, count + 1
    return count


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Images and targets [B,C,H,W] in [0,1] -> [B]: the mean of SSIM(x, y) over all windows that lie within the image.

    SSIM = (2 mx my + C1) (2 sxy + C2) / ((mx^2 + my^2 + C1) (sx^2 + sy^2 + C2)), with means, variances and covariance
    under an 11x11 Gaussian window of deviation 1.5, of each channel for itself.
    """
    whole, _ = _terms(images, targets)
    return whole


def ms_ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Images and targets [B,C,H,W] in [0,1] -> [B]: the product over scales of contrast and structure, with the
    luminance at the coarsest, each to the power of its published weight, averages below zero counting as zero.

    Of images that are too small for five scales the finest that hold the window are taken, their weights scaled to a
    sum of one.
    """
    from torch.nn.functional import avg_pool2d

    weights = SCALE_WEIGHTS[: scales(images.shape)]
    product = images.new_ones(len(images))
    for number, weight in enumerate(weights, 1):
        whole, structure = _terms(images, targets)
        term = whole if number == len(weights) else structure
        # The power's slope at zero is infinite: nothing may be asked for it there.
        power = term.clamp_min(LEAST) ** (weight / sum(weights))
        product = product * power.where(term > LEAST, power.new_zeros(()))
        images, targets = avg_pool2d(images, 2), avg_pool2d(targets, 2)
    return product


def _terms(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The means over an image of SSIM, which is luminance times contrast and structure, and without luminance: [B]."""
    import torch

    stacked = torch.cat([images, targets, images.square(), targets.square(), images * targets])
    x, y, xx, yy, xy = _windowed(stacked).chunk(5)
    structure = (2 * (xy - x * y) + C2) / (xx - x * x + yy - y * y + C2)
    luminance = (2 * x * y + C1) / (x * x + y * y + C1)
    return (luminance * structure).flatten(1).mean(1), structure.flatten(1).mean(1)


def _windowed(images: Tensor) -> Tensor:
    """images[B,C,H,W] -> [B,C,H-10,W-10], the Gaussian means around every pixel that is far enough from the edge."""
    if _on_host(images):
        rows, columns = (_band(side, images.dtype) for side in images.shape[-2:])
        return rows @ images @ columns.transpose(0, 1)
    # A GPU's matrix products may be rounded to ten bits, which differences of squares do not survive.
    for axis in (-2, -1):
        side = images.shape[axis] - WINDOW + 1
        images = sum(weight * images.narrow(axis, start, side) for start, weight in enumerate(_window()))  # type: ignore[assignment]
    return images


def _on_host(images: Tensor) -> bool:
    return images.device.type == "cpu"


@lru_cache(maxsize=1)
def _window() -> list[float]:
    """The Gaussian along one side, of sum one."""
    weights = [math.exp(-((place - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for place in range(WINDOW)]
    return [weight / sum(weights) for weight in weights]


@lru_cache(maxsize=16)
def _band(side: int, dtype: torch.dtype) -> Tensor:
    """The window at each of its places along one side, as a matrix [side-10, side]."""
    import torch

    matrix = torch.zeros(side - WINDOW + 1, side, dtype=dtype)
    for row in range(len(matrix)):
        matrix[row, row : row + WINDOW] = torch.tensor(_window(), dtype=torch.float64)
    return matrix
