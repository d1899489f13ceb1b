"""Rows of one shape in a file: what a cache holds, read in pieces or mapped as a whole.

NAME.rows holds the rows one after the other and nothing else. NAME.json is written last and says what they are; without
it the rows do not count. It carries a CRC-32 of every block of rows. A block is compared with it when a process first
reads the block, so nothing damaged is used, and no start has to read a large file from end to end.
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

from aerun.base.files import replacing, write_text
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
BLOCK = 1 << 16  # bytes with one checksum, if a row is not longer
LOOKED_AT = 16  # blocks that are read as a file is opened, so that most damage is found before work begins
CHUNK = 1 << 24  # bytes that are read at once where all rows are


class DamagedError(DataError):
    """A cache file that is not what was written. It is discarded as this is raised: the next start builds it anew."""


class RowFile:
    """An open file of rows: ``shape`` (N, ...), ``dtype``, and ``about``, what its builder noted.

    Reading does not map the file, since a disk error or a file cut off by somebody would then kill the process.
    """

    def __init__(self, path: Path, key: str) -> None:
        """``path`` without ending. FileNotFoundError if there is none; DamagedError if it is not the one of ``key``."""
        import numpy as np

        self.path = path
        notes = json_path(path).read_bytes()
        try:
            about = _unsealed(notes)
            if (about["format"], about["key"]) != (FORMAT, key):
                raise ValueError("it is another data set's")
            self.shape: tuple[int, ...] = tuple(about["shape"])
            self.dtype = np.dtype(about["dtype"])
            self.sums = np.frombuffer(bytes.fromhex(about["sums"]), "<u4")
            self.about: dict[str, Any] = about["about"]
            self.digest: str = about["digest"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.damaged(f"its description cannot be read: {' '.join(str(error).split())}") from error
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.block = block_rows(self.row_bytes)
        self._known = bytearray(len(self.sums))
        try:
            self._file = rows_path(path).open("rb")
        except FileNotFoundError as error:
            raise self.damaged("its rows are gone") from error
        size = os.fstat(self._file.fileno()).st_size
        if size != len(self) * self.row_bytes or len(self.sums) != math.ceil(len(self) / self.block):
            raise self.damaged(f"it has {size} bytes, not {len(self) * self.row_bytes}")
        for block in sorted({round(i * (len(self.sums) - 1) / (LOOKED_AT - 1)) for i in range(LOOKED_AT)}):
            self.read(block * self.block, min((block + 1) * self.block, len(self)))

    def __len__(self) -> int:
        return self.shape[0]

    def damaged(self, why: str) -> DamagedError:
        """The error, to be raised, after which nobody opens this file any more."""
        with contextlib.suppress(OSError):
            json_path(self.path).unlink(missing_ok=True)
        return DamagedError(f"{rows_path(self.path)}: the cached images are damaged ({why})")

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop``, into ``out`` [stop - start, ...] if given. DamagedError, or DataError of a disk.

        Whole blocks that nobody has read before are compared with their checksums.
        """
        import numpy as np

        first, last = start // self.block, math.ceil(stop / self.block)
        whole_start, whole_stop = first * self.block, min(last * self.block, len(self))
        checked = not any(self._known[block] == 0 for block in range(first, last))
        if not checked and (start, stop) != (whole_start, whole_stop):
            rows = self.read(whole_start, whole_stop)[start - whole_start : stop - whole_start]
            if out is None:
                return rows
            out[...] = rows
            return out
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype) if out is None else out
        self._fill(rows.reshape(-1).view(np.uint8).data, start * self.row_bytes)
        if not checked:
            self._compare(rows, first, last)
        return rows

    def _fill(self, view: memoryview, offset: int) -> None:
        """Bytes of the file from ``offset`` on."""
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._file.fileno(), [view[done:]], offset + done)
            except OSError as error:
                raise DataError(f"{rows_path(self.path)}: cannot be read ({error.strerror or error})") from error
            if count == 0:
                raise self.damaged(f"it ends at byte {offset + done}")
            done += count

    def _compare(self, rows: np.ndarray, first: int, last: int) -> None:
        for block in range(first, last):
            part = rows[(block - first) * self.block : (block - first + 1) * self.block]
            if zlib.crc32(part.data) != self.sums[block]:
                raise self.damaged(f"rows {block * self.block} and following are not what was written")
            self._known[block] = 1

    def mapped(self) -> np.ndarray:
        """All rows, mapped: processes share the pages. Every block is compared first."""
        import numpy as np

        step = self.block * max(1, CHUNK // (self.block * self.row_bytes))
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            if not all(self._known[start // self.block : math.ceil(stop / self.block)]):
                self.read(start, stop)
        # Copy-on-write, so that torch takes it; nothing is written.
        return np.memmap(self._file, self.dtype, "c", shape=self.shape)


def block_rows(row_bytes: int) -> int:
    """How many rows have one checksum."""
    return max(1, BLOCK // max(1, row_bytes))


def write_rows(path: Path, key: str, chunks: Iterable[np.ndarray], about: Callable[[], Mapping[str, Any]]) -> None:
    """Write chunks [n,...] of rows; ``about`` is asked at the end. OSError where they cannot be written."""
    json_path(path).unlink(missing_ok=True)
    shape: tuple[int, ...] = ()
    dtype, count, sums, room = "", 0, _Sums(), 0
    with replacing(rows_path(path)) as temporary, temporary.open("wb") as file:
        for chunk in chunks:
            if not shape:
                shape, dtype = chunk.shape[1:], chunk.dtype.name
                room = block_rows(math.prod(shape) * chunk.dtype.itemsize)
            if (chunk.shape[1:], chunk.dtype.name) != (shape, dtype):
                raise DataError(f"images of different shapes, {chunk.shape[1:]} and {shape}")
            file.write(chunk.data)
            sums.add(chunk, count, room)
            count += len(chunk)
    notes = {
        "format": FORMAT,
        "key": key,
        "shape": [count, *shape],
        "dtype": dtype,
        "sums": b"".join(value.to_bytes(4, "little") for value in sums.values).hex(),
        "about": dict(about()),
    }
    write_text(json_path(path), _sealed(notes))


class _Sums:
    """CRC-32 of blocks of rows that come in chunks of any size."""

    def __init__(self) -> None:
        self.values: list[int] = []

    def add(self, chunk: np.ndarray, before: int, block: int) -> None:
        """A chunk, so many rows after the first."""
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
    return path.with_name(f"{path.name}.rows")


def json_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _sealed(notes: Mapping[str, Any]) -> str:
    """As JSON, with a checksum of its own."""
    text = json.dumps(notes, sort_keys=True)
    return json.dumps({**notes, "digest": hashlib.sha256(text.encode()).hexdigest()}, sort_keys=True) + "\n"


def _unsealed(content: bytes) -> dict[str, Any]:
    """ValueError if it is not what was sealed."""
    notes = json.loads(content)
    digest = notes.pop("digest")
    if hashlib.sha256(json.dumps(notes, sort_keys=True).encode()).hexdigest() != digest:
        raise ValueError("it is not what was written")
    return {**notes, "digest": digest}
