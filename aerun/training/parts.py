"""What a run trains, and with what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Batch, Data
from aerun.scheduler import Scheduler
from aerun.training.single import Alone

if TYPE_CHECKING:
    from aerun.training.stages import Stages


class Update(NamedTuple):
    """What a step tells, detached, on the device: loss terms by name, codes [B,...], and the gradient norm before
    clipping where there is clipping (otherwise the gradients are there to be measured).

    Of several processes each has the codes of its own rows, and what these contribute to the terms."""

    terms: dict[str, Tensor]
    code: Tensor
    norm: Tensor | None


# (batch, number of the step) -> what it did
Step = Callable[[Batch, int], Update]


@dataclass
class Parts:
    """What a run trains, and with what."""

    autoencoder: Autoencoder
    data: Data
    noise: Any
    loss: Any
    optimizer: Optimizer
    scheduler: Scheduler
    seed: int
    ranks: Alone = field(default_factory=Alone)
    stages: Stages | None = None  # of a run that has some

    @property
    def device(self) -> torch.device:
        """Where the run computes."""
        return self.autoencoder.device
