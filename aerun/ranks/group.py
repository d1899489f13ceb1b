"""Several processes that compute what a single one would.

Every rank forms the same minibatch, with the same noise and random numbers, and computes a contiguous shard of its
rows. Shards may differ in size, and be empty: losses are weighted so that the result equals that of a single process
up to the order in which floating-point numbers are added.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from aerun.base.seeding import Randomness
from aerun.contracts import Loss, Terms
from aerun.core.autoencoder import LABELS, LATENT, SECOND_VIEW, Autoencoder, Extras, further_terms
from aerun.training.parts import SingleProcess, T, Update

# Ranks wait while rank 0 evaluates and draws pictures. Ranks that wait for a dead one are killed by the job.
TIMEOUT = timedelta(days=7)


class Group(SingleProcess):
    """The ranks of a run. They find each other by ``meeting``, a new file in a folder that only the user can open.

    A rank's number and their count are in the environment. CPU tensors are sent by gloo. Only numbers are sent: a rank
    never unpickles what it receives.
    """

    def __init__(self, device: torch.device, batch_size: int, meeting: Path) -> None:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        store = dist.FileStore(str(meeting), count)  # type: ignore[attr-defined]
        store.set_timeout(TIMEOUT)
        dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=rank, world_size=count)
        self.index, self.count = dist.get_rank(), dist.get_world_size()
        self.device = device
        self.begin(batch_size)

    def begin(self, rows: int) -> None:
        """Set this rank's shard of a minibatch with that number of rows."""
        self.rows = rows
        self.start, self.stop = (rows * i // self.count for i in (self.index, self.index + 1))

    def rows_of(self, batch: Tensor) -> Tensor:
        """Return this rank's rows of a tensor over the minibatch."""
        # An empty shard gets a padding row with weight zero, because a mean over nothing would be NaN.
        return batch[self.start : self.stop] if self.stop > self.start else batch[:1]

    def local_rows(self, inputs: Tensor, targets: Tensor, extras: Extras) -> tuple[Tensor, Tensor, Extras]:
        """See ``Shares``. If the targets are the inputs, so are their local rows."""
        self.begin(len(inputs))
        local = self.rows_of(inputs)
        wanted = local if targets is inputs else self.rows_of(targets)
        return local, wanted, {name: self.rows_of(rows) for name, rows in extras.items()}

    def scale_loss(self, loss: Tensor) -> Tensor:
        """See ``Shares``."""
        return loss * (self.count * (self.stop - self.start) / self.rows)

    def local_update(self, update: Update) -> Update:
        """See ``Shares``. Codes are without the padding row."""
        share = (self.stop - self.start) / self.rows
        terms = {name: term * share for name, term in update.terms.items()}
        return update._replace(terms=terms, code=update.code[: self.stop - self.start])

    def parallel(self, autoencoder: Autoencoder, forward: Callable[..., Any], loss: Loss) -> Callable[..., Any]:
        """Wrap the autoencoder in DistributedDataParallel.

        DDP rebuilds its communication buckets after the first backward pass, and the order in which the ranks' numbers
        are added depends on them. So one pass is thrown away here, and a resumed run adds in the same order.
        """
        autoencoder.train()
        self._run_backward(autoencoder, autoencoder, loss)
        unused = any(p.grad is None for p in autoencoder.parameters() if p.requires_grad)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer versions rename broadcast_buffers
            module = DistributedDataParallel(
                forward,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                broadcast_buffers=False,  # every rank computes the same
                find_unused_parameters=unused,
            )
        self._run_backward(autoencoder, module, loss)
        return module

    def _run_backward(self, autoencoder: Autoencoder, forward: Callable[..., Any], loss: Loss) -> None:
        """Run a forward and backward pass on zeros; what it changes, such as a codebook, is restored."""
        tensors = [tensor.detach() for tensor in (*autoencoder.parameters(), *autoencoder.buffers())]
        kept = [tensor.clone() for tensor in tensors]
        rows = len(self.rows_of(torch.empty(self.rows)))
        extras = autoencoder.draw_extras(rows, lambda name: Randomness(0, self.device).at(name, 0))
        autoencoder.zero_grad(set_to_none=True)
        dtype = next(autoencoder.parameters()).dtype
        images = torch.zeros(rows, *autoencoder.input_shape, device=self.device, dtype=dtype)
        if autoencoder.two_views:
            extras[SECOND_VIEW] = images
        if autoencoder.condition is not None:
            extras[LABELS] = torch.zeros(rows, dtype=torch.long, device=self.device)
        result = forward(images, {name: extras[name] for name in (LATENT, LABELS) if name in extras})
        wanted = torch.zeros_like(result.prediction)
        terms = [*result.terms, *further_terms(result, wanted, autoencoder, loss, extras)]
        torch.stack([result.prediction.sum(), *(term.value for term in terms)]).sum().backward()
        if forward is not autoencoder:
            autoencoder.zero_grad(set_to_none=True)
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)

    def total(self, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    def first(self, compute: Callable[[], T]) -> T:
        text = json.dumps(compute()).encode() if self.index == 0 else b""
        size = torch.tensor([len(text)])
        dist.broadcast(size, src=0)
        sent = (
            torch.tensor(list(text), dtype=torch.uint8)
            if self.index == 0
            else torch.empty(int(size), dtype=torch.uint8)
        )
        dist.broadcast(sent, src=0)
        result: T = json.loads(bytes(sent.tolist()))
        return result

    def sync_stop(self, signal: int | None, due: bool, now: bool = True) -> tuple[int | None, bool]:
        if not now:
            return None, False
        requests = torch.tensor([signal or 0, int(due and self.index == 0)])
        dist.all_reduce(requests, dist.ReduceOp.MAX)
        number, is_due = requests.tolist()
        return number or None, bool(is_due)


class WholeBatch:
    """Applies a sparsity or a latent that is not ``rowwise`` to the whole minibatch, on every rank.

    Gradients with respect to other ranks' rows are sent to those ranks.
    """

    def __init__(self, group: Group) -> None:
        self._group = group

    def __call__(self, part: Any, features: Tensor, other: Any) -> tuple[Tensor, Terms]:
        """features of local rows -> code of local rows, and terms over all rows."""
        if isinstance(other, Tensor):
            other = self.gather(other)
        code, terms = part(self.gather(features), other)
        return self._group.rows_of(code), terms

    def gather(self, local: Tensor) -> Tensor:
        """Rows of this rank -> the rows of the minibatch, with gradients."""
        return gather_rows(local, self._group)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def gather_rows(local: Tensor, group: Group) -> Tensor:
    """Return the whole minibatch from the local rows of all ranks. Gradients are summed over ranks."""
    whole: Tensor = _Gather.apply(local, group.rows, group.start, group.stop)
    return whole


class _Gather(torch.autograd.Function):
    """Sums over ranks tensors that are zero except for the local rows: exact, and shards may differ in size."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, rows: int, start: int, stop: int) -> Tensor:
        ctx.bounds = start, stop
        whole = local.new_zeros(rows, *local.shape[1:])
        whole[start:stop] = local[: stop - start]
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        start, stop = ctx.bounds
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        local = gradient[start:stop] if stop > start else torch.zeros_like(gradient[:1])
        return local, None, None, None
