"""Structural similarity of images: Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural
Similarity", and for several scales Wang, Simoncelli & Bovik 2003, "Multiscale Structural Similarity for Image Quality
Assessment".

torchmetrics is not used: it takes longer to import than torch, because it imports torch's compiler, it is eight times
slower in training, and it includes windows that extend beyond the image, which the published measure does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WINDOW, SIGMA = 11, 1.5  # pixels
C1, C2 = 0.01**2, 0.03**2  # for values in [0,1]
MIN_TERM = 1e-6
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def check_size(shape: Sequence[int]) -> None:
    """Raise ValueError unless the shape is of images [C,H,W] at least as large as the window."""
    if len(shape) != 3:
        raise ValueError(f"structural similarity needs images [C,H,W]; the data are vectors of {shape[0]} values")
    if min(shape[1:]) < WINDOW:
        height, width = shape[1:]
        raise ValueError(f"images of {height}x{width} are smaller than the window of SSIM, {WINDOW}x{WINDOW}")


def scales(shape: Sequence[int]) -> int:
    """Return how many of the five scales of MS-SSIM are at least as large as the window.

    Each scale halves the image; all five need a side of 176 pixels.
    """
    side, count = min(shape[-2:]), 1
    while count < len(SCALE_WEIGHTS) and side // 2 >= WINDOW:
        side, count = side // 2, count + 1
    return count


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Images and targets [B,C,H,W] in [0,1] -> [B], the mean of SSIM(x, y) over all windows inside the image.

    SSIM = (2 mx my + C1) (2 sxy + C2) / ((mx^2 + my^2 + C1) (sx^2 + sy^2 + C2)), with means, variances and covariance
    per channel under an 11x11 Gaussian window of standard deviation 1.5.
    """
    whole, _ = _terms(images, targets)
    return whole


def ssim_map(images: Tensor, targets: Tensor) -> Tensor:
    """Images and targets [B,C,H,W] in [0,1] -> [B,H-10,W-10], SSIM of each window inside the image, mean over
    channels."""
    luminance, structure = _windows(images, targets)
    return (luminance * structure).mean(1)


def ms_ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Images and targets [B,C,H,W] in [0,1] -> [B], the product over scales of contrast and structure, times the
    luminance at the coarsest scale, each to the power of its published weight. Negative averages count as zero.

    Images too small for five scales use the finest ones that fit the window, with weights rescaled to a sum of one.
    """
    from torch.nn.functional import avg_pool2d

    weights = SCALE_WEIGHTS[: scales(images.shape)]
    product = images.new_ones(len(images))
    for number, weight in enumerate(weights, 1):
        whole, structure = _terms(images, targets)
        term = whole if number == len(weights) else structure
        # The slope of the power at zero is infinite, so gradients must not pass through it there.
        power = term.clamp_min(MIN_TERM) ** (weight / sum(weights))
        product = product * power.where(term > MIN_TERM, power.new_zeros(()))
        images, targets = avg_pool2d(images, 2), avg_pool2d(targets, 2)
    return product


def _terms(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean over an image of SSIM (luminance times contrast and structure), and of contrast and structure
    alone, each [B]."""
    luminance, structure = _windows(images, targets)
    return (luminance * structure).flatten(1).mean(1), structure.flatten(1).mean(1)


def _windows(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return luminance, and contrast and structure, of each window, each [B,C,H-10,W-10]."""
    import torch

    stacked = torch.cat([images, targets, images.square(), targets.square(), images * targets])
    x, y, xx, yy, xy = windowed(stacked).chunk(5)
    structure = (2 * (xy - x * y) + C2) / (xx - x * x + yy - y * y + C2)
    luminance = (2 * x * y + C1) / (x * x + y * y + C1)
    return luminance, structure


def windowed(images: Tensor) -> Tensor:
    """images[B,C,H,W] -> [B,C,H-10,W-10], the Gaussian means over all windows inside the image."""
    if _on_host(images):
        rows, columns = (_band(side, images.dtype) for side in images.shape[-2:])
        return rows @ images @ columns.transpose(0, 1)
    # Matrix products on a GPU may be rounded to ten bits, which is too coarse for differences of squares.
    for axis in (-2, -1):
        side = images.shape[axis] - WINDOW + 1
        images = sum(weight * images.narrow(axis, start, side) for start, weight in enumerate(_window()))  # type: ignore[assignment]
    return images


def _on_host(images: Tensor) -> bool:
    return images.device.type == "cpu"


@lru_cache(maxsize=1)
def _window() -> list[float]:
    """Return the Gaussian along one side; its sum is one."""
    weights = [math.exp(-((place - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for place in range(WINDOW)]
    return [weight / sum(weights) for weight in weights]


@lru_cache(maxsize=16)
def _band(side: int, dtype: torch.dtype) -> Tensor:
    """Return the window at every position along one side, as a matrix [side-10, side]."""
    import torch

    matrix = torch.zeros(side - WINDOW + 1, side, dtype=dtype)
    for row in range(len(matrix)):
        matrix[row, row : row + WINDOW] = torch.tensor(_window(), dtype=torch.float64)
    return matrix
