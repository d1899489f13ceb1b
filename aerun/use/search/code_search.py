"""Nearest codes in a collection, by an exact or an approximate index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aerun.errors import ConfigError
from aerun.use.collection.fingerprint_files import load_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.search.vector_index import ExactIndex, Metric, Neighbors

KINDS = ("exact", "hnsw")


def open_index(
    codes: Fingerprints | np.ndarray, metric: Metric = "cosine", kind: str = "exact", keep: Path | None = None
) -> ExactIndex:
    """An index of a collection. ``hnsw`` needs FAISS, and keeps its graph in the file ``keep`` if given."""
    array = codes.codes if isinstance(codes, Fingerprints) else codes
    if kind == "exact":
        return ExactIndex(array, metric)
    if kind == "hnsw":
        from aerun.use.search.hnsw import HNSWIndex

        return HNSWIndex(array, metric, keep)
    raise ConfigError(f"index={kind}: must be one of {', '.join(KINDS)}")


def search(
    collection: Fingerprints | np.ndarray | str | os.PathLike[str],
    queries: np.ndarray,
    k: int = 12,
    *,
    metric: Metric = "cosine",
    index: str = "exact",
    excluded: Sequence[Sequence[int]] | None = None,
) -> Neighbors:
    """The ``k`` nearest images of a collection (fingerprints, their file, or codes [N,D]) for each of queries[Q,D].

    ``excluded``: for each query, rows to leave out, such as its own. A k above the size of the collection is reduced.
    DataError for codes of another width or with values that are not finite, ConfigError for k below 1. A query of
    zeros is at cosine distance 1 from every code; a warning says so.
    """
    if isinstance(collection, str | os.PathLike):
        collection = load_fingerprints(Path(collection))
    return open_index(collection, metric, index).query(queries, k, excluded)
