"""Nearest codes in a collection, by an exact or an approximate index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.errors import ConfigError
from aerun.use.collection.fingerprint_files import as_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.search.vector_index import ExactIndex, Metric, Neighbors

if TYPE_CHECKING:
    from aerun.use.collection.fingerprint_files import Collection
    from aerun.use.search.vector_index import Codes

KINDS = ("exact", "hnsw")


def open_index(
    codes: Collection | Codes, metric: Metric = "cosine", kind: str = "exact", keep: Path | None = None
) -> ExactIndex:
    """An index of fingerprints, of their file, or of codes [N,D].

    ``hnsw`` needs FAISS, and keeps its graph in the file ``keep`` if given.
    """
    array = as_fingerprints(codes).codes if isinstance(codes, Fingerprints | str | os.PathLike) else codes
    if kind == "exact":
        return ExactIndex(array, metric)
    if kind == "hnsw":
        if metric == "hamming":
            raise ConfigError("index=hnsw and metric=hamming: the graph is for cosine or euclidean; use index=exact")
        from aerun.use.search.hnsw import HNSWIndex

        return HNSWIndex(array, metric, keep)
    raise ConfigError(f"index={kind}: must be one of {', '.join(KINDS)}")


def search(
    collection: Collection | Codes,
    queries: Codes,
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
    return open_index(collection, metric, index).query(queries, k, excluded)
