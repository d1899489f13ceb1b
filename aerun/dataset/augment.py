"""Random augmentation of training minibatches; inputs and targets change together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.dataset.data import as_float
from aerun.errors import ConfigError

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Augment:
    """``flip``: mirror each image left to right with probability 1/2. ``zoom``: crop each image at a random place, its
    sides shortened by a share drawn uniformly from [0, ``zoom``], and scale the crop up to the full size."""

    flip: bool = False
    zoom: float = 0.0

    def __bool__(self) -> bool:
        return self.flip or self.zoom > 0

    def check(self, inputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """ConfigError unless both shapes, without the batch, are images of the same height and width."""
        key = "dataset.flip=true" if self.flip else f"dataset.zoom={self.zoom}"
        if len(inputs) != 3 or inputs[1:] != targets[1:]:
            shapes = " and ".join("x".join(map(str, shape)) for shape in (inputs, targets))
            raise ConfigError(f"{key}: needs images, inputs and targets of the same size; these have shapes {shapes}")

    def __call__(self, inputs: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """inputs, targets [B,...] as stored -> float, changed by the same draws; one tensor if they are one tensor."""
        draws = as_float(inputs).new_empty(len(inputs), 4).uniform_(generator=generator)
        changed = self._apply(as_float(inputs), draws)
        return changed, changed if targets is inputs else self._apply(as_float(targets), draws)

    def _apply(self, images: Tensor, draws: Tensor) -> Tensor:
        if self.flip:
            images = images.flip(-1).where((draws[:, 3] < 0.5).view(-1, 1, 1, 1), images)
        if self.zoom:
            from aerun.base.images import crop_and_zoom

            images = crop_and_zoom(images, self.zoom, draws[:, :3])
        return images
