"""The file format of the cache: rows of one shape, read in pieces or memory-mapped as a whole.

NAME.rows contains the rows, one after the other, and nothing else. NAME.json describes them; it is written last, and
without it the rows are ignored. It contains a CRC-32 of every block of rows. A process verifies a block when it first
reads it, so damaged data are never used, and opening a large file does not require reading all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.files import atomic_write, write_text
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
BLOCK = 1 << 16  # bytes per checksum, unless a row is longer
BLOCKS_CHECKED_ON_OPEN = 16  # so that most damage is found before work begins
CHUNK = 1 << 24  # bytes read at once when all rows are read


class DamagedError(DataError):
    """A cache file differs from what was written. It has been discarded; the next start rebuilds it."""


class RowFile:
    """An open file of rows: ``shape`` (N, ...), ``dtype``, and ``metadata``, stored by its writer.

    ``read`` does not memory-map the file: a disk error, or a file truncated by somebody, would kill the process.
    """

    def __init__(self, path: Path, key: str) -> None:
        """``path`` has no suffix. FileNotFoundError if there is no file; DamagedError if it was not written for
        ``key``."""
        import numpy as np

        self.path = path
        notes = json_path(path).read_bytes()
        try:
            found = _parse_description(notes)
            if (found["format"], found["key"]) != (FORMAT, key):
                raise ValueError("it belongs to another data set")
            self.shape: tuple[int, ...] = tuple(found["shape"])
            self.dtype = np.dtype(found["dtype"])
            self.sums = np.frombuffer(bytes.fromhex(found["sums"]), "<u4")
            self.metadata: dict[str, Any] = found["about"]
            self.digest: str = found["digest"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.discard(f"its description cannot be read: {' '.join(str(error).split())}") from error
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.block = rows_per_block(self.row_bytes)
        self._verified = bytearray(len(self.sums))
        try:
            self._file = rows_path(path).open("rb")
        except FileNotFoundError as error:
            raise self.discard("its rows are missing") from error
        size = os.fstat(self._file.fileno()).st_size
        if size != len(self) * self.row_bytes or len(self.sums) != math.ceil(len(self) / self.block):
            raise self.discard(f"it has {size} bytes, not {len(self) * self.row_bytes}")
        for block in sorted(
            {round(i * (len(self.sums) - 1) / (BLOCKS_CHECKED_ON_OPEN - 1)) for i in range(BLOCKS_CHECKED_ON_OPEN)}
        ):
            self.read(block * self.block, min((block + 1) * self.block, len(self)))

    def __len__(self) -> int:
        return self.shape[0]

    def discard(self, why: str) -> DamagedError:
        """Remove the description, so that no process opens this file again, and return the error to raise."""
        with contextlib.suppress(OSError):
            json_path(self.path).unlink(missing_ok=True)
        return DamagedError(f"{rows_path(self.path)}: the cached images are damaged ({why})")

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Read rows ``start`` to ``stop``, into ``out`` [stop - start, ...] if given.

        Blocks that this process reads for the first time are read as a whole and verified. DamagedError if that
        fails, DataError if the disk does.
        """
        import numpy as np

        first, last = start // self.block, math.ceil(stop / self.block)
        whole_start, whole_stop = first * self.block, min(last * self.block, len(self))
        verified = all(self._verified[first:last])
        if not verified and (start, stop) != (whole_start, whole_stop):
            rows = self.read(whole_start, whole_stop)[start - whole_start : stop - whole_start]
            if out is None:
                return rows
            out[...] = rows
            return out
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype) if out is None else out
        self._fill(rows.reshape(-1).view(np.uint8).data, start * self.row_bytes)
        if not verified:
            self._verify(rows, first, last)
        return rows

    def _fill(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` with the bytes of the file from ``offset`` on."""
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._file.fileno(), [view[done:]], offset + done)
            except OSError as error:
                raise DataError(f"{rows_path(self.path)}: cannot be read ({error.strerror or error})") from error
            if count == 0:
                raise self.discard(f"it ends at byte {offset + done}")
            done += count

    def _verify(self, rows: np.ndarray, first: int, last: int) -> None:
        for block in range(first, last):
            part = rows[(block - first) * self.block : (block - first + 1) * self.block]
            if zlib.crc32(part.data) != self.sums[block]:
                raise self.discard(f"rows from {block * self.block} on differ from what was written")
            self._verified[block] = 1

    def memory_map(self) -> np.ndarray:
        """Memory-map all rows, so that processes share the pages. Every block is verified first."""
        import numpy as np

        step = self.block * max(1, CHUNK // (self.block * self.row_bytes))
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            if not all(self._verified[start // self.block : math.ceil(stop / self.block)]):
                self.read(start, stop)
        # Copy-on-write, because torch needs a writable array; nothing is written.
        return np.memmap(self._file, self.dtype, "c", shape=self.shape)


def rows_per_block(row_bytes: int) -> int:
    """Return the number of rows that share one checksum."""
    return max(1, BLOCK // max(1, row_bytes))


def write_rows(path: Path, key: str, chunks: Iterable[np.ndarray], metadata: Callable[[], Mapping[str, Any]]) -> None:
    """Write chunks [n,...] of rows, then ``metadata()``. OSError if they cannot be written."""
    json_path(path).unlink(missing_ok=True)
    shape: tuple[int, ...] = ()
    dtype, count, sums, block = "", 0, _BlockChecksums(), 0
    with atomic_write(rows_path(path)) as temporary, temporary.open("wb") as file:
        for chunk in chunks:
            if not shape:
                shape, dtype = chunk.shape[1:], chunk.dtype.name
                block = rows_per_block(math.prod(shape) * chunk.dtype.itemsize)
            if (chunk.shape[1:], chunk.dtype.name) != (shape, dtype):
                raise DataError(f"images have different shapes, {chunk.shape[1:]} and {shape}")
            file.write(chunk.data)
            sums.add(chunk, count, block)
            count += len(chunk)
    description = {
        "format": FORMAT,
        "key": key,
        "shape": [count, *shape],
        "dtype": dtype,
        "sums": b"".join(value.to_bytes(4, "little") for value in sums.values).hex(),
        "about": dict(metadata()),
    }
    write_text(json_path(path), _format_description(description))


class _BlockChecksums:
    """CRC-32 of blocks of rows that arrive in chunks of any size."""

    def __init__(self) -> None:
        self.values: list[int] = []

    def add(self, chunk: np.ndarray, before: int, block: int) -> None:
        """Add a chunk that follows ``before`` rows; a block has ``block`` rows."""
        start = 0
        while start < len(chunk):
            begun = (before + start) % block
            stop = min(start + block - begun, len(chunk))
            if begun:
                self.values[-1] = zlib.crc32(chunk[start:stop].data, self.values[-1])
            else:
                self.values.append(zlib.crc32(chunk[start:stop].data))
            start = stop


def rows_path(path: Path) -> Path:
    """The file of the rows themselves."""
    return path.with_name(f"{path.name}.rows")


def json_path(path: Path) -> Path:
    """The file that describes the rows."""
    return path.with_name(f"{path.name}.json")


def _format_description(description: Mapping[str, Any]) -> str:
    """Format as JSON, with a SHA-256 of its own."""
    text = json.dumps(description, sort_keys=True)
    return json.dumps({**description, "digest": hashlib.sha256(text.encode()).hexdigest()}, sort_keys=True) + "\n"


def _parse_description(content: bytes) -> dict[str, Any]:
    """Parse the JSON. ValueError if it does not match its SHA-256."""
    description = json.loads(content)
    digest = description.pop("digest")
    if hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest() != digest:
        raise ValueError("it differs from what was written")
    return {**description, "digest": digest}
