"""Resampling of images. This file imports torch."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def crop_and_zoom(images: Tensor, amount: float, draws: Tensor) -> Tensor:
    """images[B,C,H,W] float -> a crop of each, scaled up to the full size by bilinear interpolation.

    ``draws`` [B,3] are uniform in [0,1]. The first, times ``amount``, is the share by which the sides are shortened;
    the others are the position of the crop from the left and from the top.
    """
    scale = 1 - amount * draws[:, :1]
    map_ = images.new_zeros(len(images), 2, 3)  # from coordinates in the crop to those in the image, both in [-1,1]
    map_[:, 0, 0] = map_[:, 1, 1] = scale[:, 0]
    map_[:, :, 2] = (1 - scale) * (2 * draws[:, 1:] - 1)
    grid = affine_grid(map_, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)
