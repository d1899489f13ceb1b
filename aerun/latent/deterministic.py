"""A latent that changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from aerun.contracts import Latent, Terms

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Deterministic(Latent):
    """The code is the output of the sparsity, unchanged."""

    rowwise: ClassVar[bool] = True

    def __call__(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features -> the same tensor, no penalty. ``Autoencoder`` knows this and does not call it."""
        return features, []
