"""The contracts of what stands around a model: the data set, the noise on its images, an extra evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from aerun.contracts.part import Part, default
from aerun.contracts.terms import Factors

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor


class Dataset(Part, Protocol):
    """``load`` returns the data; ``normalize`` and ``binarise`` say how they are processed."""

    normalize: str = default("none")
    binarise: str = default("none")

    def check(self) -> None:
        """DataError for problems that are found without loading, such as a folder that does not exist."""
        return None

    def true_factors(self) -> Factors | None:
        """The true factors of variation of the test images, in their order; None if they are not known."""
        return None

    def known_features(self) -> Any:
        """The directions [n,F] of which the vectors are sparse combinations, as an array; None if they are not
        known."""
        return None

    if TYPE_CHECKING:

        def load(self, device: torch.device) -> Any:
            """Training, validation and test part, as ``aerun.dataset.data.Data`` on the device."""


class Noise(Part, Protocol):
    """A corruption of the input."""

    if TYPE_CHECKING:

        def __call__(self, images: Tensor, generator: Generator) -> Tensor:
            """images[B,...] float -> corrupted images of the same shape. All randomness comes from the generator."""

    @property
    def is_identity(self) -> bool:
        """Whether it leaves every input unchanged."""
        return False

    @property
    def is_local(self) -> bool:
        """Whether it covers parts of an image and leaves all other pixels as they are, as marks do."""
        return False

    def check_shape(self, shape: Sequence[int]) -> None:
        """ValueError for an input shape, without the batch, that it does not support."""
        return None

    def for_evaluation(self) -> Noise:
        """The corruption that is used to evaluate trained models."""
        return self

    def moments(self, positions: int) -> Any:
        """``aerun.noise.pixels.Moments``, which determine the best linear denoiser exactly; None if unknown."""
        return None


class Evaluation(Part, Protocol):
    """A protocol: an extra evaluation of the trained model."""

    if TYPE_CHECKING:

        def __call__(self, subject: Any) -> Any:
            """The numbers of an ``aerun.protocol.Subject`` by name, or an ``aerun.protocol.Answer``."""

    def check_data(self, data: Any, autoencoder: Any) -> None:
        """ConfigError, before training, for data or a model that it cannot evaluate."""
        return None
