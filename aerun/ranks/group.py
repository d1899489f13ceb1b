"""Several processes that train as one would.

Every rank forms the same minibatch, with the same noise and draws, and takes an own, contiguous part of its rows. The
weights are such that the parts may differ in size, and be empty: what a single process computes is computed here, but
for the order in which floating-point numbers are added.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from aerun.base.seeding import Randomness
from aerun.contracts import Terms
from aerun.core.autoencoder import Autoencoder
from aerun.training.parts import SingleProcess, T

# A rank waits while the first one evaluates and draws. Those that wait for the dead are ended from outside.
TIMEOUT = timedelta(days=7)


class Group(SingleProcess):
    """The ranks of a run, found through the environment that torch's agent sets. Numbers of the host go by gloo."""

    def __init__(self, device: torch.device, batch_size: int) -> None:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
        self.index, self.count = dist.get_rank(), dist.get_world_size()
        self.device = device
        self.begin(batch_size)

    def begin(self, rows: int) -> None:
        self.rows = rows
        self.start, self.stop = (rows * i // self.count for i in (self.index, self.index + 1))

    def local_rows(self, batch: Tensor) -> Tensor:
        # An empty part gets a row that stands in, with weight zero: a mean over nothing would be NaN.
        return batch[self.start : self.stop] if self.stop > self.start else batch[:1]

    def drop_padding(self, local: Tensor) -> Tensor:
        return local[: self.stop - self.start]

    def scale_loss(self, loss: Tensor) -> Tensor:
        return loss * (self.count * (self.stop - self.start) / self.rows)

    def scale_mean(self, mean: Tensor) -> Tensor:
        return mean * ((self.stop - self.start) / self.rows)

    def parallel(self, autoencoder: Autoencoder, forward: Callable[..., Any]) -> Callable[..., Any]:
        """By DistributedDataParallel.

        It lays out anew what it sends after the first gradients, and in which order many ranks' numbers are added
        depends on that. So the first ones are thrown away: a run that is continued adds as it would have.
        """
        autoencoder.train()
        self._try(autoencoder, autoencoder)
        unused = any(p.grad is None for p in autoencoder.parameters() if p.requires_grad)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer versions have another word for broadcast_buffers
            module = DistributedDataParallel(
                forward,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                broadcast_buffers=False,  # every rank computes the same
                find_unused_parameters=unused,
            )
        self._try(autoencoder, module)
        return module

    def _try(self, autoencoder: Autoencoder, forward: Callable[..., Any]) -> None:
        """Gradients of nothing in particular; buffers, such as a codebook's averages, are left as they were."""
        kept = {name: buffer.clone() for name, buffer in autoencoder.named_buffers()}
        rows = len(self.local_rows(torch.empty(self.rows)))
        draw = autoencoder.draw(rows, Randomness(0, self.device).at("latent", 0))
        autoencoder.zero_grad(set_to_none=True)
        dtype = next(autoencoder.parameters()).dtype
        result = forward(torch.zeros(rows, *autoencoder.input_shape, device=self.device, dtype=dtype), draw)
        torch.stack([result.prediction.sum(), *(term.value for term in result.terms)]).sum().backward()
        if forward is not autoencoder:
            autoencoder.zero_grad(set_to_none=True)
        for name, buffer in autoencoder.named_buffers():
            buffer.copy_(kept[name])

    def total(self, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    def first(self, compute: Callable[[], T]) -> T:
        found: list[Any] = [compute() if self.index == 0 else None]
        dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
        result: T = found[0]
        return result

    def sync_stop(self, signal: int | None, due: bool, now: bool = True) -> tuple[int | None, bool]:
        if not now:
            return None, False
        wishes = torch.tensor([signal or 0, int(due and self.index == 0)])
        dist.all_reduce(wishes, dist.ReduceOp.MAX)
        number, is_due = wishes.tolist()
        return number or None, bool(is_due)


class WholeBatch:
    """Applies a sparsity or a latent that is not ``rowwise`` to the minibatch as a whole, on every rank.

    Whatever it does with other ranks' rows has its gradient there.
    """

    def __init__(self, group: Group) -> None:
        self._group = group

    def __call__(self, part: Any, features: Tensor, other: Any) -> tuple[Tensor, Terms]:
        """features of local rows -> code of local rows, and terms over all rows."""
        if isinstance(other, Tensor):
            other = gathered(other, self._group)
        code, terms = part(gathered(features, self._group), other)
        return self._group.local_rows(code), terms


@torch.compiler.disable  # type: ignore[untyped-decorator]
def gathered(own: Tensor, group: Group) -> Tensor:
    """The minibatch, of every rank's own rows. Gradients with respect to it are summed over ranks."""
    whole: Tensor = _Gather.apply(own, group.rows, group.start, group.stop)
    return whole


class _Gather(torch.autograd.Function):
    """A sum over ranks of tensors that are zero but for own rows: exact, and parts may differ in size."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: int, start: int, stop: int) -> Tensor:
        ctx.bounds = start, stop
        whole = own.new_zeros(rows, *own.shape[1:])
        whole[start:stop] = own[: stop - start]
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        start, stop = ctx.bounds
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        own = gradient[start:stop] if stop > start else torch.zeros_like(gradient[:1])
        return own, None, None, None
