"""Images that stay in a file and are read on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aerun.dataset.row_file import CHUNK, RowFile

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


class Rows:
    """Rows of a file in place of a tensor too large for memory: it has a shape, and slices are tensors on ``device``.

    ``rows`` are ascending row numbers; None means all.
    """

    def __init__(self, file: RowFile, rows: np.ndarray | None = None, device: torch.device | None = None) -> None:
        import numpy as np
        import torch

        self.file, self.rows = file, rows
        self.dtype = torch.from_numpy(np.empty(0, file.dtype)).dtype
        self.device = device or torch.device("cpu")
        self.shape = (len(file) if rows is None else len(rows), *file.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> Tensor:
        import torch

        start, stop, step = part.indices(len(self))
        assert step == 1
        return torch.from_numpy(self.numpy(start, max(start, stop))).to(self.device)

    def numpy(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Read rows ``start`` to ``stop`` of this selection, into ``out`` if given."""
        import numpy as np

        if self.rows is None or start == stop:
            return self.file.read(start, stop, out)
        chosen = self.rows[start:stop]
        result = np.empty((stop - start, *self.shape[1:]), self.file.dtype) if out is None else out
        for first, last in _consecutive_spans(chosen // self.file.block):
            numbers = chosen[first:last]
            low, high = int(numbers[0]), int(numbers[-1]) + 1
            if high - low == last - first:
                self.file.read(low, high, result[first:last])
            else:
                np.take(self.file.read(low, high), numbers - low, 0, result[first:last], "clip")
        return result

    @property
    def row_bytes(self) -> int:
        """Size of one row in bytes."""
        return self.file.row_bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the file's content and the selected rows."""
        digest = hashlib.sha256(self.file.digest.encode())
        if self.rows is not None:
            digest.update(self.rows.tobytes())
        return digest.hexdigest()

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield all rows, a few megabytes at a time."""
        size = max(1, CHUNK // self.row_bytes)
        for start in range(0, len(self), size):
            yield self.numpy(start, min(start + size, len(self)))

    def split(self, size: int) -> Iterator[Tensor]:
        """Like Tensor.split."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def dim(self) -> int:
        """Like Tensor.dim."""
        return len(self.shape)

    def to(self, device: torch.device) -> Rows:
        """Return the same rows, with slices on another device."""
        return Rows(self.file, self.rows, device)

    def cpu(self) -> Rows:
        """Like Tensor.cpu."""
        return Rows(self.file, self.rows)

    def select(self, rows: Tensor) -> Rows:
        """Select some of these rows, by ascending position."""
        positions = rows.numpy()
        return Rows(self.file, positions if self.rows is None else self.rows[positions], self.device)

    def tensor(self) -> Tensor:
        """Return all rows as one tensor on the host: memory-mapped if they are consecutive in the file, else copied."""
        import numpy as np
        import torch

        rows = self.rows
        if rows is None or int(rows[-1]) + 1 - int(rows[0]) == len(rows):
            images = self.file.memory_map()
            return torch.from_numpy(images if rows is None else images[rows[0] : rows[-1] + 1])
        gathered, count = np.empty(self.shape, self.file.dtype), 0
        for chunk in self.chunks():
            gathered[count : count + len(chunk)] = chunk
            count += len(chunk)
        return torch.from_numpy(gathered)


def _consecutive_spans(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each span in which ascending numbers differ by at most 1 from one to the next."""
    import numpy as np

    cuts = np.flatnonzero(np.diff(numbers) > 1) + 1
    yield from zip([0, *cuts.tolist()], [*cuts.tolist(), len(numbers)], strict=True)
