"""Approximate search for millions of codes: a hierarchical navigable small-world graph, built by FAISS.

Malkov & Yashunin 2018, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
World graphs" (arXiv:1603.09320).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aerun.base.files import write_bytes
from aerun.errors import ConfigError
from aerun.use.search.vector_index import SPARE_CANDIDATES, ExactIndex, Metric

LINKS, BUILD_BREADTH, SEARCH_BREADTH = 32, 100, 128  # the paper's M, efConstruction, ef
INSTALL = "index=hnsw needs FAISS: pip install 'aerun[search]'"
log = logging.getLogger(__name__)


class HNSWIndex(ExactIndex):
    """As Index, but candidates come from a graph: a few true neighbours may be missed, distances are exact.

    It is built by one thread, so that it is the same every time. With ``keep`` it is written there and found again for
    the same codes.
    """

    def __init__(self, codes: np.ndarray, metric: Metric = "cosine", keep: Path | None = None) -> None:
        super().__init__(codes, metric)
        logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells which of its builds it loads
        try:
            import faiss
        except ImportError as error:
            raise ConfigError(INSTALL) from error
        self._faiss: Any = faiss
        digest = hashlib.sha256(self._ready.tobytes()).hexdigest()[:16]
        about = json.dumps({"codes": digest, "links": LINKS, "breadth": BUILD_BREADTH, "metric": metric}).encode()
        self._graph: Any = _read_graph(faiss, keep, about) or self._built(keep, about)
        self._graph.hnsw.efSearch = SEARCH_BREADTH

    def _built(self, keep: Path | None, about: bytes) -> Any:
        faiss = self._faiss
        kind = faiss.METRIC_L2 if self.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        graph = faiss.IndexHNSWFlat(self._ready.shape[1], LINKS, kind)
        graph.hnsw.efConstruction = BUILD_BREADTH
        log.info("a graph over %d codes is built%s", len(self._ready), "" if keep is None else f" and kept in {keep}")
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            graph.add(self._ready)
        finally:
            faiss.omp_set_num_threads(threads)
        if keep is not None:
            write_bytes(keep, about + b"\n" + faiss.serialize_index(graph).tobytes())
        return graph

    def _candidates(self, queries: np.ndarray, k: int, extra: int) -> Iterator[np.ndarray]:
        wanted = min(len(self.codes), (k + extra) * self.views + SPARE_CANDIDATES)
        self._graph.hnsw.efSearch = max(SEARCH_BREADTH, wanted)
        _, found = self._graph.search(np.ascontiguousarray(self._prepared(queries)), wanted)
        for line in found:
            # Parts of a graph may be out of reach; then all are looked at.
            yield line if line[-1] >= 0 else np.arange(len(self.codes))


def _read_graph(faiss: Any, keep: Path | None, about: bytes) -> Any:
    """The graph in the file, if it is there, whole, and over these codes."""
    if keep is None or not keep.exists():
        return None
    first, _, rest = keep.read_bytes().partition(b"\n")
    if first != about:
        return None
    try:
        return faiss.deserialize_index(np.frombuffer(rest, np.uint8))
    except RuntimeError:
        log.warning("%s: is damaged; it is made anew", keep)
        return None
