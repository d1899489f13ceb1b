"""What a run trains, and with what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from aerun.contracts import Loss, Noise, Scheduler
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Data

T = TypeVar("T")


class SingleProcess:
    """What the processes of a run agree on, for a run that has only one; ``aerun.ranks.group`` is for several."""

    count = 1

    def parallel(self, autoencoder: Autoencoder, forward: Callable[..., Any]) -> Callable[..., Any]:
        """``forward``, which runs the autoencoder (it, or it compiled), with gradients averaged over processes."""
        return forward

    def total(self, values: Tensor) -> Tensor:
        """The sum over processes. All of them wait for it."""
        return values

    def first(self, compute: Callable[[], T]) -> T:
        """What ``compute`` gives in the first process, which alone calls it. All of them wait for it."""
        return compute()

    def sync_stop(self, signal: int | None, due: bool, now: bool = True) -> tuple[int | None, bool]:
        """What all processes do next: the signal to stop that any of them got, and whether the first one's checkpoint
        is due. Several processes ask each other only ``now``, where all of them wait for it."""
        return signal, due


class Shares(Protocol):
    """How several processes share each minibatch."""

    def local_rows(self, inputs: Tensor, targets: Tensor, draw: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """This process's rows of a minibatch; at least one, since nothing can be computed of none."""

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss of local rows, such that the processes' gradients average to the minibatch's."""

    def local_update(self, update: Update) -> Update:
        """What local rows contribute to the terms of the minibatch, and their codes."""


class Update(NamedTuple):
    """Result of one step, detached, still on the device: loss terms by name, codes [B,...], and the gradient norm
    before clipping if gradients are clipped.

    Each of several processes has the codes of its own rows, and what these contribute to the terms."""

    terms: dict[str, Tensor]
    code: Tensor
    norm: Tensor | None


# (batch, number of the step) -> what it did
Step = Callable[[Any, int], Update]


@dataclass
class Parts:
    """What a run trains, and with what; ``shares`` only in a run of several processes."""

    autoencoder: Autoencoder
    data: Data
    noise: Noise
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler
    seed: int
    ranks: SingleProcess = field(default_factory=SingleProcess)
    shares: Shares | None = None

    @property
    def device(self) -> torch.device:
        """Where the run computes."""
        return self.autoencoder.device
