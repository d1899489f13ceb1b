"""Images read at other places than their own pixels. This file imports torch."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def zoomed(images: Tensor, amount: float, draws: Tensor) -> Tensor:
    """images[B,C,H,W] float -> a part of each, scaled up to the whole by bilinear interpolation.

    ``draws`` [B,3], uniform in [0,1]: the sides are shorter by the share ``amount`` times the first; the others say
    where the part lies, from the left and from the top.
    """
    scale = 1 - amount * draws[:, :1]
    map_ = images.new_zeros(len(images), 2, 3)  # from a place in the part to one in the whole, both in [-1,1]
    map_[:, 0, 0] = map_[:, 1, 1] = scale[:, 0]
    map_[:, :, 2] = (1 - scale) * (2 * draws[:, 1:] - 1)
    grid = affine_grid(map_, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)
