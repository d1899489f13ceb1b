"""Training images that differ a little every time they are seen, targets alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.errors import ConfigError

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Augment:
    """``flip``: each image is mirrored left to right with probability 1/2. ``zoom``: of each image a part is taken, its
    sides shorter by a share that is uniform between 0 and ``zoom``, from anywhere, and scaled up to the whole."""

    flip: bool = False
    zoom: float = 0.0

    def __bool__(self) -> bool:
        return self.flip or self.zoom > 0

    def check(self, inputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """ConfigError unless these shapes, without the batch, are of images of one size."""
        key = "dataset.flip=true" if self.flip else f"dataset.zoom={self.zoom}"
        if len(inputs) != 3 or inputs[1:] != targets[1:]:
            shapes = " and ".join("x".join(map(str, shape)) for shape in (inputs, targets))
            raise ConfigError(f"{key}: is for images, inputs and targets of one size; these have shapes {shapes}")

    def __call__(self, inputs: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """inputs, targets [B,...], as stored -> float, both changed by the same draws; one tensor if they are one."""
        from aerun.dataset.data import as_float

        draws = as_float(inputs).new_empty(len(inputs), 4).uniform_(generator=generator)
        changed = self._changed(as_float(inputs), draws)
        return changed, changed if targets is inputs else self._changed(as_float(targets), draws)

    def _changed(self, images: Tensor, draws: Tensor) -> Tensor:
        if self.flip:
            images = images.flip(-1).where((draws[:, 3] < 0.5).view(-1, 1, 1, 1), images)
        if self.zoom:
            from aerun.base.images import zoomed

            images = zoomed(images, self.zoom, draws[:, :3])
        return images
