"""Random crops in place of whole images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.contracts import Noise, OpenProbability
from aerun.noise.pixels import NoNoise

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Crop(Noise):
    """A random crop of each image, scaled up to the full size. Its sides are shortened by a share drawn uniformly from
    [0, ``amount``]; its position is uniform.

    The model learns to reconstruct the whole image from a crop, so codes change little when pictures are cropped. With
    ``training_only``, evaluation and pictures use whole images.
    """

    amount: OpenProbability
    training_only: bool = True

    def for_evaluation(self) -> Crop | NoNoise:
        """Return the corruption to evaluate with: none if ``training_only``."""
        return NoNoise() if self.training_only else self

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raise ValueError for vectors."""
        if len(shape) != 3:
            raise ValueError(f"crops need images [C,H,W]; the data are vectors of {shape[0]} values")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> crops of the same shape, bilinearly interpolated."""
        from aerun.base.images import crop_and_zoom

        return crop_and_zoom(images, self.amount, images.new_empty(len(images), 3).uniform_(generator=generator))
