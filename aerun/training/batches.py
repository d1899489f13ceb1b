"""The batches of an epoch, on the device, in an order that nothing but the seed and the epoch decides.

Batches of images on the device are an index into them. Images in a file, larger than the memory that they may take,
are read in chunks: the rows are cut into runs of neighbors; an epoch takes the runs in a random order, reads as many as
fill a chunk, shuffles its rows, and cuts batches from it, while a thread reads the next chunk. Every row comes
once. Two rows of a run always come in the same chunk; otherwise a chunk is a random sample of the runs, so a batch is a
uniform sample of the whole as far as some hundred runs of a few dozen images are one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from aerun.base.seeding import Randomness
from aerun.dataset.data import Batch, Data, Resident, Split
from aerun.dataset.rows import Rows

SHORTEST, LONGEST = 1 << 16, 1 << 20  # bytes of a run: enough to be read fast, and few enough to make many


def batches(data: Data, batch_size: int, seed: int, device: torch.device) -> Resident | Streamed:
    """The batches of the training part, from memory or from the file that it lies in."""
    if data.chunk_bytes is None:
        return Resident(data.train, batch_size, seed)
    return Streamed(data.train, batch_size, seed, device, data.chunk_bytes)


class Streamed:
    """The batches of rows of a file, on ``device``; so many bytes are a chunk, two of which are held at a time."""

    def __init__(self, part: Split, batch_size: int, seed: int, device: torch.device, chunk_bytes: int) -> None:
        columns = [part.inputs] if part.targets is part.inputs else [part.inputs, part.targets]
        self._columns = [column for column in columns if isinstance(column, Rows)]
        assert len(self._columns) == len(columns)
        self._batch_size, self._seed, self._device = batch_size, seed, device
        row_bytes = sum(column.row_bytes for column in self._columns)
        wanted = min(max(chunk_bytes // 512, SHORTEST), LONGEST, chunk_bytes // 4)
        self.run = max(1, wanted // row_bytes)  # rows
        self.runs = math.ceil(len(part) / self.run)
        self.chunk = max(1, chunk_bytes // (self.run * row_bytes))  # runs

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """All batches of epoch ``number`` from the ``start``-th on; the last may be smaller.

        The chunks before are not read. DataError where the file cannot be read.
        """
        random = Randomness(self._seed, torch.device("cpu"))
        order = torch.randperm(self.runs, generator=random.at("order", number)).split(self.chunk)
        skipped, first = start * self._batch_size, 0
        while first < len(order) and skipped >= self._rows(order[first]):
            skipped -= self._rows(order[first])
            first += 1
        pieces: list[list[Tensor]] = []
        missing = self._batch_size
        for index, chunk in enumerate(_Ahead(self._columns, self.run, self._device).chunks(order[first:]), first):
            generator = random.at(f"order within chunks of epoch {number}", index)
            rows = torch.randperm(len(chunk[0]), generator=generator)[skipped:].to(self._device)
            skipped = 0
            while len(rows) > 0:
                chosen, rows = rows[:missing], rows[missing:]
                pieces.append([images.index_select(0, chosen) for images in chunk])
                missing -= len(chosen)
                if missing == 0:
                    yield _batch(pieces)
                    pieces, missing = [], self._batch_size
        if pieces:
            yield _batch(pieces)

    def _rows(self, runs: Tensor) -> int:
        """Of these runs, the last of which may be shorter."""
        total = len(self._columns[0])
        return len(runs) * self.run - (self.runs * self.run - total if self.runs - 1 in runs else 0)


def _batch(pieces: list[list[Tensor]]) -> Batch:
    """One batch of what several chunks gave for it."""
    whole = pieces[0] if len(pieces) == 1 else [torch.cat(parts) for parts in zip(*pieces, strict=True)]
    return Batch(whole[0], whole[-1])


class _Ahead:
    """Reads chunks in a thread, one ahead, into two buffers in turn; to a GPU they go on a stream of their own."""

    def __init__(self, columns: list[Rows], run: int, device: torch.device) -> None:
        self._columns, self._run, self._device = columns, run, device
        self._cuda = device.type == "cuda"
        self._stop = threading.Event()
        self._stream = torch.cuda.Stream(device) if self._cuda else None
        self._buffers: list[list[Tensor]] = []

    def chunks(self, order: tuple[Tensor, ...]) -> Iterator[list[Tensor]]:
        """The columns' rows of each list of runs. A chunk is valid until the next is asked for."""
        if not order:
            return
        count = min(len(order[0]) * self._run, len(self._columns[0]))
        self._buffers = [self._empty(count, self._device) for _ in range(min(2, len(order)))]
        # What the thread fills for a GPU; nothing else reads it.
        self._staging = self._empty(count, torch.device("cpu"), self._cuda) if self._cuda else []
        pool = ThreadPoolExecutor(1, "reading images")
        try:
            ahead: Future[list[Tensor]] = pool.submit(self._read, order[0], 0, None)
            for index in range(len(order)):
                chunk = ahead.result()
                if index + 1 < len(order):
                    free = torch.cuda.current_stream(self._device).record_event() if self._cuda else None
                    ahead = pool.submit(self._read, order[index + 1], (index + 1) % 2, free)
                yield chunk
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)

    def _empty(self, count: int, device: torch.device, pinned: bool = False) -> list[Tensor]:
        return [
            torch.empty((count, *column.shape[1:]), dtype=column.dtype, device=device, pin_memory=pinned)
            for column in self._columns
        ]

    def _read(self, runs: Tensor, buffer: int, free: torch.cuda.Event | None) -> list[Tensor]:
        """Fill a buffer, which is ``free`` from that event on."""
        target = self._staging or self._buffers[buffer]
        arrays = [images.numpy() for images in target]
        count = 0
        # In the order of the file, which a disk likes better; the rows are shuffled later anyway.
        for run in runs.sort().values.tolist():
            if self._stop.is_set():
                break
            start = run * self._run
            stop = min(start + self._run, len(self._columns[0]))
            for column, array in zip(self._columns, arrays, strict=True):
                column.numpy(start, stop, array[count : count + stop - start])
            count += stop - start
        if self._cuda:
            return self._copied(count, buffer, free)
        return [images[:count] for images in target]

    def _copied(self, count: int, buffer: int, free: torch.cuda.Event | None) -> list[Tensor]:
        """Bring the staging buffer to the device, and wait until it is there."""
        assert self._stream is not None
        chunk = [images[:count] for images in self._buffers[buffer]]
        with torch.cuda.stream(self._stream):
            if free is not None:
                self._stream.wait_event(free)
            for images, staged in zip(chunk, self._staging, strict=True):
                images.copy_(staged[:count], non_blocking=True)
            self._stream.synchronize()
        return chunk
