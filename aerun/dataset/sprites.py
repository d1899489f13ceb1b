"""White shapes on black, in every combination of five factors: data whose factors of variation are known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from aerun.contracts import Count, Factors, OpenProbability, Range
from aerun.dataset.base import Dataset
from aerun.dataset.data import Arrays
from aerun.dataset.splitting import excluded_labels, holdout

if TYPE_CHECKING:
    import numpy as np

SHAPES = ["square", "ellipse", "heart"]
NAMES = ("shape", "scale", "rotation", "x", "y")
LARGEST = 0.25  # radius of the largest shape, as a share of the image's side
Several = Annotated[int, Range(2, 1000)]


@dataclass(frozen=True, kw_only=True)
class Sprites(Dataset):
    """Every combination of shape (square, ellipse, heart), scale, rotation, x and y, once; binary images.

    In kind the dSprites of Matthey et al. 2017, which has ``size=64 scales=6 rotations=40 positions=32``. Scales are
    equally spaced from half of the largest to the largest, rotations from 0 to below a full turn, positions such that
    every shape is within the image. Rotated squares and ellipses repeat, as they do there. The share ``test`` of the
    images, drawn by ``split_seed``, is the test part. The label is the shape.
    """

    size: Annotated[int, Range(16, 1000)]
    scales: Several
    rotations: Several
    positions: Several
    test: OpenProbability

    def counts(self) -> tuple[Count, ...]:
        """The number of values of each factor."""
        return len(SHAPES), self.scales, self.rotations, self.positions, self.positions

    def read(self) -> Arrays:
        import numpy as np

        images = np.concatenate(list(self._draw()))[:, None]
        train, test = holdout(len(images), self.test, self.split_seed)
        shapes = self._grid()[:, 0]
        return Arrays(images[train], images[test], shapes[train], shapes[test], SHAPES)

    def true_factors(self) -> Factors:
        """The factors of the test images, in their order."""
        import numpy as np

        grid = self._grid()
        rows = grid[holdout(len(grid), self.test, self.split_seed)[1]]
        if self.classes is not None:
            rows = rows[np.isin(rows[:, 0], self.classes)]
        if self.exclude is not None:
            present = np.unique(rows[:, 0]).tolist()
            rows = rows[~np.isin(rows[:, 0], excluded_labels(self.exclude, present, present, SHAPES))]
        return Factors(rows, NAMES, tuple(name != "shape" for name in NAMES))

    def _grid(self) -> np.ndarray:
        """All combinations [N,5], in the order of the images."""
        import numpy as np

        return np.stack(np.unravel_index(np.arange(math.prod(self.counts())), self.counts()), 1)

    def _draw(self) -> Iterator[np.ndarray]:
        """The images [X*Y,H,W], uint8, of each shape, scale and rotation."""
        import numpy as np

        pixels = (np.arange(self.size) + 0.5) / self.size
        centers = np.linspace(1.1 * LARGEST, 1 - 1.1 * LARGEST, self.positions)
        offsets = pixels - centers[:, None]  # [position, pixel]
        across, down = offsets[:, None, None, :], offsets[None, :, :, None]  # x before y in the order of images
        for shape in SHAPES:
            for scale in np.linspace(0.5, 1, self.scales) * LARGEST:
                for turn in np.arange(self.rotations) * 2 * math.pi / self.rotations:
                    u = (math.cos(turn) * across + math.sin(turn) * down) / scale
                    v = (math.cos(turn) * down - math.sin(turn) * across) / scale
                    inside = is_inside(shape, u, v)
                    yield (inside * np.uint8(255)).reshape(-1, self.size, self.size)


def is_inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points are inside a shape of radius 1 around the origin; v points down."""
    import numpy as np

    if shape == "square":
        return np.maximum(abs(u), abs(v)) <= 0.7
    if shape == "ellipse":
        return u**2 + (2 * v) ** 2 <= 1
    x, y = 1.25 * u, -1.2 * v
    return (x**2 + y**2 - 1) ** 3 <= x**2 * y**3
