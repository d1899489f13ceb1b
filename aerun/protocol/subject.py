"""The input of a protocol, ``Subject``, and its output, ``Answer``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data


@dataclass(frozen=True)
class Subject:
    """A trained model in evaluation mode, the data that it was trained on, and other parts of the run.

    ``dataset`` is the option that loaded the data; a protocol can load other parts of the same data set by
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
        """Device of the model."""
        return self.autoencoder.device


@dataclass(frozen=True)
class Answer:
    """The result of a protocol: numbers by name, and pictures [H,W] or [H,W,3], uint8, by tag.

    A protocol without pictures may return the numbers alone.
    """

    numbers: Mapping[str, float]
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
