"""Views of an image: the whole, and crops of it or versions with margins, all of the same size.

A cropped image is nearer to a crop of its original than to the original, and nearer to its original when shown with a
margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

CROP_SHARE = 0.9  # of each side
# Positions (down, right) of the crops, from 0 to 1: the middle, the corners, the middles of the sides.
MIDDLE = ((0.5, 0.5),)
CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
SIDES = ((0.0, 0.5), (0.5, 0.0), (0.5, 1.0), (1.0, 0.5))
CROP_POSITIONS = MIDDLE + CORNERS + SIDES
MAX_VIEWS = 1 + len(CROP_POSITIONS)


def make_views(
    images: Tensor,
    views: int | None = None,
    share: float = CROP_SHARE,
    positions: Sequence[tuple[float, float]] = CROP_POSITIONS,
) -> Tensor:
    """images[N,C,H,W], uint8 or in [0,1] -> [views,N,C,H,W]: the images, then crops at the first ``positions``.

    None: at all positions. ``share`` of each side remains; a share above 1 adds a margin that repeats the border.
    """
    import torch

    if views == 1:
        return images[None]
    values = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    wanted = positions[: None if views is None else views - 1]
    return torch.stack([values, *(crop_each(values, [(share, position)] * len(values)) for position in wanted)])


def crop_each(images: Tensor, crops: Sequence[tuple[float, tuple[float, float]]]) -> Tensor:
    """images[N,C,H,W] in [0,1] -> [N,C,H,W]: of each image its crop (share, position), scaled to the whole size."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    # Coordinates run from -1 to 1, so a crop's center can move by 1 - share in each direction.
    rows = [
        [[share, 0, (2 * right - 1) * (1 - share)], [0, share, (2 * down - 1) * (1 - share)]]
        for share, (down, right) in crops
    ]
    matrices = torch.tensor(rows, dtype=torch.float32, device=images.device).reshape(-1, 2, 3)
    grid = affine_grid(matrices, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def encode_views(
    encode: Callable[[Tensor], Tensor], images: Tensor, views: int, share: float = CROP_SHARE
) -> np.ndarray:
    """images[N,C,H,W] -> codes of their views, float32 [N,views,D]."""
    import numpy as np

    return np.stack([encode(view).flatten(1).numpy() for view in make_views(images, views, share)], 1)
