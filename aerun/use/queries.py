"""What is searched for: pictures of the collection by name, and files from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerun.errors import DataError
from aerun.use.fingerprints import Fingerprints
from aerun.use.pictures import as_inputs, find

if TYPE_CHECKING:
    from aerun.use.opened import Opened


@dataclass(frozen=True)
class Query:
    """``row`` in the collection, or -1 and the ``path`` of a file from outside; ``code`` [D]."""

    name: str
    code: np.ndarray
    row: int = -1
    path: Path | None = None

    @property
    def excluded(self) -> list[int]:
        """Rows that are the query itself."""
        return [self.row] if self.row >= 0 else []


def queries(run: Opened, fingerprints: Fingerprints, words: Sequence[str]) -> list[Query]:
    """A query for each word: the name of a picture in the collection, else a file, or a folder with all below it.

    A file of the collection is its row, however its path is written; other files are decoded as the run decodes them.
    DataError for what is neither.
    """
    rows = {name: row for row, name in enumerate(fingerprints.names)}
    codes, result = fingerprints.main, list[Query]()
    for word in words:
        if word in rows:
            result.append(Query(word, codes[rows[word]], rows[word]))
            continue
        if not Path(word).expanduser().exists():
            raise DataError(f"{word}: is neither the name of a picture in the collection nor a file")
        outside = list[tuple[str, Path]]()
        for _, path in find(Path(word)):
            row = rows.get(_within(path, fingerprints.root), -1)
            if row >= 0:
                result.append(Query(fingerprints.names[row], codes[row], row))
            else:
                outside.append((str(path), path))
        result += _encoded(run, outside)
    return result


def _encoded(run: Opened, files: list[tuple[str, Path]]) -> list[Query]:
    if not files:
        return []
    return [
        Query(name, code, -1, Path(name))
        for names, images in as_inputs(run, files)
        for name, code in zip(names, run.encode(images).flatten(1).numpy(), strict=True)
    ]


def _within(path: Path, root: str) -> str:
    """The path's name relative to the collection's folder; empty if it is not in it."""
    if not root:
        return ""
    for candidate in (path.absolute(), path.resolve()):
        if candidate.is_relative_to(root):
            return candidate.relative_to(root).as_posix()
    return ""
