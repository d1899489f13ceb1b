"""Pixels of generated images: grids, labeled rows, and frames. All are uint8, [H,W] or [H,W,3]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from aerun.figures import as_bytes, image_rows, wrap
from aerun.figures.montage import montage

MAX_COLUMNS = 16
MAX_IMAGE_PIXELS = 256  # of a side in labeled rows


def draw_grid(images: Tensor) -> np.ndarray:
    """images[N,C,H,W] in about twice as many columns as rows."""
    return image_rows(wrap(images, min(MAX_COLUMNS, max(1, round((2 * len(images)) ** 0.5)))))


def draw_each(images: Tensor) -> list[np.ndarray]:
    """images[N,C,H,W] -> N frames."""
    return [image_rows([image[None]]) for image in images]


def draw_steps(images: Tensor) -> list[np.ndarray]:
    """images[R,S,C,H,W] -> one frame per step S: the images of all rows R in a nearly square grid."""
    columns = max(1, round(len(images) ** 0.5 + 0.49))
    return [image_rows(wrap(images[:, step], columns)) for step in range(images.shape[1])]


def draw_rows(rows: Sequence[tuple[str, Tensor]], heads: Sequence[str] = ()) -> np.ndarray:
    """Rows of images [S,C,H,W], each with its label, below the ``heads`` of the columns."""
    return montage([(label, as_bytes(images).numpy()) for label, images in rows], largest=MAX_IMAGE_PIXELS, heads=heads)
