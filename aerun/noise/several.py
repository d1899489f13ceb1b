"""Several corruptions in sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerun.contracts import Noise, Probability
from aerun.noise.pixels import NoNoise

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Several(Noise):
    """Apply the corruptions ``parts`` in the given order; the first one is applied to the clean image. Each is applied
    to a ``share`` of the images, drawn for every corruption again."""

    parts: dict[str, Any]
    share: Probability = 1.0

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts={}: must list at least one, noise/parts=[dust,scratches]; or use noise=none")

    @property
    def is_identity(self) -> bool:
        """Whether no part changes the input."""
        return all(part.is_identity for part in self.parts.values())

    @property
    def is_local(self) -> bool:
        """Whether every part is."""
        return all(part.is_local or part.is_identity for part in self.parts.values())

    def for_evaluation(self) -> Several | NoNoise:
        """Return the parts to evaluate with, without those for training only."""
        left = {name: part.for_evaluation() for name, part in self.parts.items()}
        left = {name: part for name, part in left.items() if not part.is_identity}
        return Several(left, self.share) if left else NoNoise()

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raise ValueError if a part cannot be applied to inputs of that shape."""
        for name, part in self.parts.items():
            try:
                part.check_shape(shape)
            except ValueError as error:
                raise ValueError(f"parts.{name}: {error}") from error

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,...] float -> corrupted images of the same shape."""
        for part in self.parts.values():
            noisy = part(images, generator)
            if self.share < 1:
                drawn = images.new_empty(len(images), *[1] * (images.dim() - 1)).uniform_(generator=generator)
                noisy = noisy.where(drawn < self.share, images)
            images = noisy
        return images
