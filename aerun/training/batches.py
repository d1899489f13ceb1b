"""The batches of an epoch, on the device, in an order that depends only on the seed and the epoch.

If the images are on the device, a batch is an index into them (``aerun.dataset.data.Resident``). If they are in a file
that is larger than the memory they may take, the file is read in chunks. Its rows are divided into runs of neighboring
rows. Each epoch shuffles the runs, reads as many as fill a chunk, shuffles the rows of the chunk, and cuts it into
batches, while a thread reads the next chunk. Every row is used once. Two rows of a run are always in the same chunk;
otherwise a chunk is a random sample of the runs, and a batch is close to a uniform sample of all rows if a chunk has
some hundred runs of a few dozen images.
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

MIN_RUN_BYTES, MAX_RUN_BYTES = 1 << 16, 1 << 20  # long enough to be read fast, short enough for many runs


def batches(
    data: Data, batch_size: int, seed: int, device: torch.device, with_labels: bool = False
) -> Resident | Streamed:
    """The batches of the training part, from memory or from its file."""
    if data.chunk_bytes is None:
        return Resident(data.train, batch_size, seed, with_labels)
    return Streamed(data.train, batch_size, seed, device, data.chunk_bytes, with_labels)


class Streamed:
    """The batches of the rows of a file, on ``device``. Two chunks of ``chunk_bytes`` are in memory at a time."""

    def __init__(
        self,
        part: Split,
        batch_size: int,
        seed: int,
        device: torch.device,
        chunk_bytes: int,
        with_labels: bool = False,
    ) -> None:
        self._labels = part.labels if with_labels else None
        columns = [part.inputs] if part.targets is part.inputs else [part.inputs, part.targets]
        self._columns = [column for column in columns if isinstance(column, Rows)]
        assert len(self._columns) == len(columns)
        self._batch_size, self._seed, self._device = batch_size, seed, device
        row_bytes = sum(column.row_bytes for column in self._columns)
        run_bytes = min(max(chunk_bytes // 512, MIN_RUN_BYTES), MAX_RUN_BYTES, chunk_bytes // 4)
        self.run_rows = max(1, run_bytes // row_bytes)
        self.run_count = math.ceil(len(part) / self.run_rows)
        self.chunk_runs = max(1, chunk_bytes // (self.run_rows * row_bytes))

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """All batches of epoch ``number``, from batch ``start`` on; the last may be smaller.

        Chunks before that batch are not read. DataError if the file cannot be read.
        """
        random = Randomness(self._seed, torch.device("cpu"))
        order = torch.randperm(self.run_count, generator=random.at("order", number)).split(self.chunk_runs)
        skipped, first = start * self._batch_size, 0
        while first < len(order) and skipped >= self._count_rows(order[first]):
            skipped -= self._count_rows(order[first])
            first += 1
        pieces: list[list[Tensor]] = []
        missing = self._batch_size
        for index, chunk in enumerate(
            _ChunkReader(self._columns, self.run_rows, self._device).chunks(order[first:]), first
        ):
            generator = random.at(f"order within chunks of epoch {number}", index)
            rows = torch.randperm(len(chunk[0]), generator=generator)[skipped:].to(self._device)
            skipped = 0
            if self._labels is not None:
                chunk = [*chunk, self._labels[self._numbers(order[index]).to(self._labels.device)]]
            while len(rows) > 0:
                chosen, rows = rows[:missing], rows[missing:]
                pieces.append([images.index_select(0, chosen) for images in chunk])
                missing -= len(chosen)
                if missing == 0:
                    yield self._join(pieces)
                    pieces, missing = [], self._batch_size
        if pieces:
            yield self._join(pieces)

    def _count_rows(self, runs: Tensor) -> int:
        """The number of rows in these runs; the last run of the file may be shorter."""
        total = len(self._columns[0])
        return len(runs) * self.run_rows - (self.run_count * self.run_rows - total if self.run_count - 1 in runs else 0)

    def _numbers(self, runs: Tensor) -> Tensor:
        """The rows of these runs in the order in which a chunk has them."""
        within = torch.arange(self.run_rows)
        numbers = (runs.sort().values[:, None] * self.run_rows + within).flatten()
        return numbers[numbers < len(self._columns[0])]

    def _join(self, pieces: list[list[Tensor]]) -> Batch:
        """One batch from its pieces, which may come from several chunks."""
        whole = pieces[0] if len(pieces) == 1 else [torch.cat(parts) for parts in zip(*pieces, strict=True)]
        images = whole[: len(self._columns)]
        return Batch(images[0], images[-1], None if self._labels is None else whole[-1])


class _ChunkReader:
    """Reads one chunk ahead in a thread, into two buffers in turn; copies to a GPU use a separate stream."""

    def __init__(self, columns: list[Rows], run_rows: int, device: torch.device) -> None:
        self._columns, self._run_rows, self._device = columns, run_rows, device
        self._cuda = device.type == "cuda"
        self._stop = threading.Event()
        self._stream = torch.cuda.Stream(device) if self._cuda else None
        self._buffers: list[list[Tensor]] = []

    def chunks(self, order: tuple[Tensor, ...]) -> Iterator[list[Tensor]]:
        """One chunk for each list of runs: its rows of every column. A chunk is valid until the next one is
        requested."""
        if not order:
            return
        count = min(len(order[0]) * self._run_rows, len(self._columns[0]))
        self._buffers = [self._empty(count, self._device) for _ in range(min(2, len(order)))]
        # For a GPU the thread reads into pinned memory first.
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
        """Fill a buffer. It may be overwritten after the event ``free``."""
        target = self._staging or self._buffers[buffer]
        arrays = [images.numpy() for images in target]
        count = 0
        # In the order of the file, which is faster on a disk; the rows are shuffled later.
        for run in runs.sort().values.tolist():
            if self._stop.is_set():
                break
            start = run * self._run_rows
            stop = min(start + self._run_rows, len(self._columns[0]))
            for column, array in zip(self._columns, arrays, strict=True):
                column.numpy(start, stop, array[count : count + stop - start])
            count += stop - start
        if self._cuda:
            return self._copy_to_device(count, buffer, free)
        return [images[:count] for images in target]

    def _copy_to_device(self, count: int, buffer: int, free: torch.cuda.Event | None) -> list[Tensor]:
        """Copy the staging buffer to the device, and wait for the copy."""
        assert self._stream is not None
        chunk = [images[:count] for images in self._buffers[buffer]]
        with torch.cuda.stream(self._stream):
            if free is not None:
                self._stream.wait_event(free)
            for images, staged in zip(chunk, self._staging, strict=True):
                images.copy_(staged[:count], non_blocking=True)
            self._stream.synchronize()
        return chunk
