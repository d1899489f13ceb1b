"""Several views of a picture: the whole, and crops of nine tenths of its sides, scaled up again; or the whole with a
margin at several places.

A picture that was cropped is nearer to a crop of its original than to the original, and its original is nearer to it
with a margin than without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

CROP_SHARE = 0.9
# Where the crops lie, as shares of the room: middle and corners first, then the middles of the sides.
CROP_POSITIONS = (
    (0.5, 0.5),
    (0.0, 0.0),
    (0.0, 1.0),
    (1.0, 0.0),
    (1.0, 1.0),
    (0.0, 0.5),
    (0.5, 0.0),
    (0.5, 1.0),
    (1.0, 0.5),
)
MAX_VIEWS = 1 + len(CROP_POSITIONS)


def make_views(
    images: Tensor,
    views: int | None = None,
    share: float = CROP_SHARE,
    places: Sequence[tuple[float, float]] = CROP_POSITIONS,
) -> Tensor:
    """images[N,C,H,W], uint8 or in [0,1] -> [views,N,C,H,W]: as they are, then ``views`` - 1 crops of them, at the
    first of ``places``; at all, unless told.

    ``share`` of their sides is left; more than 1 adds a margin, in which the border goes on.
    """
    import torch

    if views == 1:
        return images[None]
    values = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    wanted = places[: None if views is None else views - 1]
    return torch.stack([values, *(crop_each(values, [(share, place)] * len(values)) for place in wanted)])


def crop_each(images: Tensor, parts: Sequence[tuple[float, tuple[float, float]]]) -> Tensor:
    """images[N,C,H,W] in [0,1] -> that part of each, (share, place), as large as the whole was: [N,C,H,W]."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    # In coordinates from -1 to 1 the part's centre may move by 1 - share either way.
    rows = [
        [[share, 0, (2 * right - 1) * (1 - share)], [0, share, (2 * down - 1) * (1 - share)]]
        for share, (down, right) in parts
    ]
    matrices = torch.tensor(rows, dtype=torch.float32, device=images.device).reshape(-1, 2, 3)
    grid = affine_grid(matrices, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def encode_views(
    encode: Callable[[Tensor], Tensor], images: Tensor, views: int, share: float = CROP_SHARE
) -> np.ndarray:
    """images[N,C,H,W] -> float32 [N,views,D]."""
    import numpy as np

    return np.stack([encode(view).flatten(1).numpy() for view in make_views(images, views, share)], 1)
