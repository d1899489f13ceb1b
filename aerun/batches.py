"""The batches of an epoch, on the device, in an order that nothing but the seed and the epoch decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from aerun.dataset.base import Split
from aerun.seeding import Randomness


@dataclass(frozen=True, slots=True)
class Batch:
    """inputs[B,...] and targets[B,...] as stored, uint8 or float; the same tensor where nothing tells them apart."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


class Resident:
    """The batches of images that lie on the device: a batch is an index into them."""

    def __init__(self, part: Split, batch_size: int, seed: int) -> None:
        assert isinstance(part.inputs, Tensor) and isinstance(part.targets, Tensor)
        self._inputs, self._targets, self._batch_size, self._seed = part.inputs, part.targets, batch_size, seed

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """All batches of epoch ``number`` from the ``start``-th on; the last may be smaller."""
        generator = Randomness(self._seed, torch.device("cpu")).at("order", number)
        inputs, targets = self._inputs, self._targets
        order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        for rows in order.split(self._batch_size)[start:]:
            # Not inputs[rows]: for small elements that is twenty times slower.
            chosen = inputs.index_select(0, rows)
            yield Batch(chosen, chosen if targets is inputs else targets.index_select(0, rows))


def first(part: Split, count: int) -> Batch:
    """The first images of a part as one batch."""
    inputs = part.inputs[:count]
    return Batch(inputs, inputs if part.targets is part.inputs else part.targets[:count])
