"""Images that stay in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aerun.dataset.store import CHUNK, RowFile

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


class Rows:
    """Some rows of a file, where a tensor is too large: it has a shape, and its slices are tensors on ``device``.

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
        """Rows ``start`` to ``stop`` of these, into ``out`` if given."""
        import numpy as np

        if self.rows is None or start == stop:
            return self.file.read(start, stop, out)
        chosen = self.rows[start:stop]
        result = np.empty((stop - start, *self.shape[1:]), self.file.dtype) if out is None else out
        for first, last in _stretches(chosen // self.file.block):
            numbers = chosen[first:last]
            low, high = int(numbers[0]), int(numbers[-1]) + 1
            if high - low == last - first:
                self.file.read(low, high, result[first:last])
            else:
                np.take(self.file.read(low, high), numbers - low, 0, result[first:last], "clip")
        return result

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return self.file.row_bytes

    @property
    def digest(self) -> str:
        """Of the content and the choice of rows."""
        digest = hashlib.sha256(self.file.digest.encode())
        if self.rows is not None:
            digest.update(self.rows.tobytes())
        return digest.hexdigest()

    def chunks(self) -> Iterator[np.ndarray]:
        """All rows, a few megabytes at a time."""
        size = max(1, CHUNK // self.row_bytes)
        for start in range(0, len(self), size):
            yield self.numpy(start, min(start + size, len(self)))

    def split(self, size: int) -> Iterator[Tensor]:
        """As a tensor's."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def dim(self) -> int:
        """As a tensor's."""
        return len(self.shape)

    def to(self, device: torch.device) -> Rows:
        """The same, with slices on another device."""
        return Rows(self.file, self.rows, device)

    def cpu(self) -> Rows:
        """As a tensor's."""
        return Rows(self.file, self.rows)

    def select(self, rows: Tensor) -> Rows:
        """Some of these, by ascending position."""
        positions = rows.numpy()
        return Rows(self.file, positions if self.rows is None else self.rows[positions], self.device)

    def tensor(self) -> Tensor:
        """All of them at once, on the host: mapped where they are neighbours in the file, otherwise copied."""
        import numpy as np
        import torch

        rows = self.rows
        if rows is None or int(rows[-1]) + 1 - int(rows[0]) == len(rows):
            images = self.file.mapped()
            return torch.from_numpy(images if rows is None else images[rows[0] : rows[-1] + 1])
        gathered, count = np.empty(self.shape, self.file.dtype), 0
        for chunk in self.chunks():
            gathered[count : count + len(chunk)] = chunk
            count += len(chunk)
        return torch.from_numpy(gathered)


def _stretches(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where stretches of neighbouring (equal or next) ascending numbers begin and end."""
    import numpy as np

    cuts = np.flatnonzero(np.diff(numbers) > 1) + 1
    yield from zip([0, *cuts.tolist()], [*cuts.tolist(), len(numbers)], strict=True)
