"""Parts of images in place of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.config.schema import OpenProbability
from aerun.noise.pixels import NoNoise

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Crop:
    """A part of each image, scaled up to the whole: its sides are shorter by a share that is uniform between 0 and
    ``amount``, and it lies anywhere.

    What is learned is to see the whole picture in a part of it, so that codes change little when pictures are cropped.
    With ``training_only`` evaluation and pictures show what becomes of whole images.
    """

    amount: OpenProbability
    training_only: bool = True

    is_identity = False

    def for_evaluation(self) -> Crop | NoNoise:
        """What whole images meet."""
        return NoNoise() if self.training_only else self

    def check_shape(self, shape: Sequence[int]) -> None:
        """ValueError for vectors."""
        if len(shape) != 3:
            raise ValueError(f"crops are of images [C,H,W], the data are vectors of {shape[0]} values")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> crops of the same shape, read between pixels by bilinear interpolation."""
        from aerun.base.images import zoomed

        return zoomed(images, self.amount, images.new_empty(len(images), 3).uniform_(generator=generator))
