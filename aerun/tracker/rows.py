"""scalars.csv: every logged number as a row. Trackers that send numbers to a server send what it contains."""

from __future__ import annotations

import csv
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aerun.base.bounded import MAX_LOG_BYTES, read_bytes
from aerun.base.files import format_csv, open_to_write, write_text
from aerun.contracts import Tracker

log = logging.getLogger(__name__)
FILE = "scalars.csv"


class Row(NamedTuple):
    """One logged number; ``time`` in seconds since 1970."""

    step: int
    name: str
    value: float
    time: float


class RowReader:
    """Reads the rows of a run folder, those that are new since the last call."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._offset = 0  # in bytes, of complete lines

    def read(self, keep: bool = False) -> list[Row]:
        """The new rows, none if there is no file; with ``keep`` they stay new. Damaged rows are skipped with a warning.

        DataError if the file cannot be read.
        """
        try:
            new = read_bytes(self._path, MAX_LOG_BYTES)[self._offset :]
        except FileNotFoundError:
            return []
        new = new[: new.rfind(b"\n") + 1]
        lines = new.decode(errors="replace").splitlines()[0 if self._offset else 1 :]
        rows = [_parse(cells) for cells in csv.reader(lines)]
        damaged = rows.count(None)
        if damaged and not keep:
            log.warning("%s: %d damaged %s skipped", self._path, damaged, "row was" if damaged == 1 else "rows were")
        if not keep:
            self._offset += len(new)
        return [row for row in rows if row is not None]


def _parse(cells: list[str]) -> Row | None:
    try:
        step, name, value, moment = cells
        return Row(int(step), name, float(value), float(moment))
    except ValueError:
        return None


class RowFile:
    """Writes scalars.csv. Of an existing file the rows before the step ``again_from`` are kept."""

    def __init__(self, folder: Path, again_from: int | None) -> None:
        self._path = folder / FILE
        self._new: list[Row] = []
        kept = [row for row in RowReader(folder).read() if row.step < again_from] if again_from else []
        write_text(self._path, format_csv([Row._fields, *kept]))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add a row for each number; ``write`` writes it."""
        now = round(time.time(), 3)
        self._new += [Row(step, name, float(value), now) for name, value in values.items()]

    def write(self) -> None:
        """Append the new rows to the file, and wait until they are on disk."""
        rows: Iterable[Row]
        rows, self._new = self._new, []
        with open_to_write(self._path, "a") as file:
            file.write(format_csv(rows))
            file.flush()
            os.fsync(file.fileno())


@dataclass(eq=False)
class CSV(Tracker):
    """Keeps every logged number in ``scalars.csv``: step, name, value and the time in seconds since 1970."""

    reads_rows = True
