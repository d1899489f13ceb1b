"""The lines of a run's metrics.jsonl: one for each epoch, each with an epoch, a step and numbers."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from aerun.base.bounded import MAX_LOG_BYTES, read_bytes
from aerun.runs.folder import METRICS
from aerun.runs.folder_schema import is_metrics_line

log = logging.getLogger(__name__)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines; none if the file does not exist.

    Damaged lines are skipped with a warning; the last line may be incomplete without one. DataError if the file cannot
    be read.
    """
    texts = _read_lines(folder)
    lines = [_parse_line(text) for text in texts]
    damaged = [number for number, line in enumerate(lines, 1) if line is None and number < len(lines)]
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        log.warning("%s: line %d is damaged and was skipped%s", folder / METRICS, damaged[0], more)
    return [line for line in lines if line is not None]


def read_metrics_line(folder: Path, epoch: int | None = None) -> dict[str, Any] | None:
    """The last complete line; with ``epoch``, the last one of that epoch. None if there is none.

    DataError if the file cannot be read.
    """
    wanted = re.compile(b"" if epoch is None else rb'"epoch":\s*%d\b' % epoch)
    found = (_parse_line(text) for text in filter(wanted.search, reversed(_read_lines(folder))))
    return next((line for line in found if line is not None and epoch in (None, line["epoch"])), None)


def _read_lines(folder: Path) -> list[bytes]:
    try:
        return read_bytes(folder / METRICS, MAX_LOG_BYTES).splitlines()
    except FileNotFoundError:
        return []


def _parse_line(text: bytes) -> dict[str, Any] | None:
    """The numbers of a line; None if it is damaged."""
    try:
        line: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if is_metrics_line(line) else None
