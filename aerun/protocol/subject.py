"""What a protocol looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from aerun.autoencoder import Autoencoder
    from aerun.dataset.base import Data


@dataclass(frozen=True)
class Subject:
    """A trained model in evaluation mode, the data that it was trained on, and what else made the run.

    ``dataset`` is the option that the data were loaded by: a protocol may load other parts of the same set with
    ``dataclasses.replace(dataset, ...).load(device)``.
    """

    autoencoder: Autoencoder
    data: Data
    noise: Any
    loss: Any
    dataset: Any
    seed: int

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.autoencoder.device
