"""What the processes of a run have between them, of a run that has only one: ``group`` is for several.

The step and the loop call this wherever it matters that there may be others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.core.autoencoder import Autoencoder

T = TypeVar("T")


class Alone:
    """The only process: all rows are its own, and what it finds holds."""

    count = 1

    def begin(self, rows: int) -> None:
        """A minibatch of so many rows is next."""

    def own(self, batch: Tensor) -> Tensor:
        """This process's rows of a tensor over the minibatch; at least one, for what cannot compute with none."""
        return batch

    def counted(self, own: Tensor) -> Tensor:
        """Of own rows those that count: not one that only stands in."""
        return own

    def weighted(self, loss: Tensor) -> Tensor:
        """The loss of own rows, so that the processes' gradients have the minibatch's as their average."""
        return loss

    def part(self, mean: Tensor) -> Tensor:
        """What a mean over own rows contributes to the mean over the minibatch."""
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

    def agree(self, signal: int | None, due: bool, now: bool = True) -> tuple[int | None, bool]:
        """What all shall do: the signal that any of them got to stop, and whether the first one's checkpoint is due.

        Several processes ask each other only ``now``, where all of them wait for it; at other times it is nothing.
        """
        return signal, due
