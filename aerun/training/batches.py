"""The batches of an epoch, on the device, in an order that nothing but the seed and the epoch decides."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from aerun.base.seeding import Randomness
from aerun.dataset.data import Batch, Split


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
