"""What a run trains, and with what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from aerun.contracts import Loss, Noise, Scheduler
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Data

T = TypeVar("T")


class SingleProcess:
    """What the processes of a run share, for a run that has only one; ``aerun.ranks.group`` is for several."""

    count = 1

    def begin(self, rows: int) -> None:
        """A minibatch of so many rows is next."""

    def local_rows(self, batch: Tensor) -> Tensor:
        """This process's rows of a tensor over the minibatch; at least one, since nothing can be computed of none."""
        return batch

    def drop_padding(self, local: Tensor) -> Tensor:
        """Local rows without one that only stands in for none."""
        return local

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss of local rows, such that the processes' gradients average to the minibatch's."""
        return loss

    def scale_mean(self, mean: Tensor) -> Tensor:
        """What a mean over local rows contributes to the mean over the minibatch."""
        return mean

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
    """What a run trains, and with what."""

    autoencoder: Autoencoder
    data: Data
    noise: Noise
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler
    seed: int
    ranks: SingleProcess = field(default_factory=SingleProcess)

    @property
    def device(self) -> torch.device:
        """Where the run computes."""
        return self.autoencoder.device
