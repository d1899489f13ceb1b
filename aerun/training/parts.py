"""The objects that a run trains, and those that it trains them with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from aerun.contracts import Loss, Metric, Noise, Schedule, Scheduler
from aerun.core.autoencoder import Autoencoder, Extras
from aerun.dataset.data import Data

T = TypeVar("T")
LOSS = Metric("loss")


class SingleProcess:
    """The communication between the processes of a run that has only one; ``aerun.ranks.group`` is for several."""

    count = 1

    def parallel(self, autoencoder: Autoencoder, forward: Callable[..., Any], loss: Loss) -> Callable[..., Any]:
        """``forward``, the autoencoder or its compiled version, with gradients averaged over processes."""
        return forward

    def total(self, values: Tensor) -> Tensor:
        """The sum over processes, which all wait for it."""
        return values

    def first(self, compute: Callable[[], T]) -> T:
        """The result of ``compute``, which only rank 0 calls: numbers, text, or dicts of them. All processes wait."""
        return compute()

    def sync_stop(self, signal: int | None, due: bool, now: bool = True) -> tuple[int | None, bool]:
        """The signal to stop that any process received, and whether rank 0's checkpoint is due; equal in all processes.

        Several processes communicate, and wait for each other, only if ``now``; otherwise they do not stop.
        """
        return signal, due


class Shares(Protocol):
    """How several processes share each minibatch."""

    def local_rows(self, inputs: Tensor, targets: Tensor, extras: Extras) -> tuple[Tensor, Tensor, Extras]:
        """This process's rows of a minibatch. A process without rows gets one padding row, because a mean needs one."""

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss of the local rows, scaled so that the average gradient of all processes is that of the minibatch."""

    def local_update(self, update: Update) -> Update:
        """The update with the local rows' contribution to the minibatch's terms, and codes without padding."""


class Update(NamedTuple):
    """Result of one step: detached tensors, still on the device.

    Loss terms by name, codes [B,...], and the gradient norm before clipping if gradients are clipped. With several
    processes, the codes are those of the local rows, and the terms are their contribution.
    """

    terms: dict[str, Tensor]
    code: Tensor
    norm: Tensor | None


# (batch, number of the step) -> its result
Step = Callable[[Any, int], Update]


@dataclass
class Parts:
    """The objects that a run trains, and those that it trains them with; ``shares`` only with several processes.

    ``monitor``: the number that chooses the best weights, and that early stopping and the scheduler read.
    ``schedules``: the courses of numbers of these parts.
    """

    autoencoder: Autoencoder
    data: Data
    noise: Noise
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler
    seed: int
    ranks: SingleProcess = field(default_factory=SingleProcess)
    shares: Shares | None = None
    monitor: Metric = LOSS
    schedules: Sequence[Schedule] = ()

    @property
    def device(self) -> torch.device:
        """The device on which the run computes."""
        return self.autoencoder.device
