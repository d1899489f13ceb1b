"""Approximate nearest neighbors among millions of codes: a hierarchical navigable small-world graph, built by FAISS.

Malkov & Yashunin 2018, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
World graphs" (arXiv:1603.09320).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerun.base.files import write_bytes
from aerun.errors import ConfigError, StorageError
from aerun.use.search.vector_index import SPARE_CANDIDATES, ExactIndex, Metric

if TYPE_CHECKING:
    from aerun.use.search.vector_index import Codes

LINKS, BUILD_BREADTH, SEARCH_BREADTH = 32, 100, 128  # the paper's M, efConstruction, ef
MISSING_FAISS = "index=hnsw needs FAISS: pip install 'aerun[search]'"
log = logging.getLogger(__name__)


class HNSWIndex(ExactIndex):
    """An index whose candidates come from a graph: it may miss a few neighbors; distances are exact.

    One thread builds the graph, so that the result is reproducible. With ``keep`` the graph is written to that file,
    and read from it if it belongs to the same codes.
    """

    def __init__(self, codes: Codes, metric: Metric = "cosine", keep: Path | None = None) -> None:
        super().__init__(codes, metric)
        logging.getLogger("faiss").setLevel(logging.WARNING)  # silence the name of the build it loads
        try:
            import faiss
        except ImportError as error:
            raise ConfigError(MISSING_FAISS) from error
        self._faiss: Any = faiss
        digest = hashlib.sha256(self.prepared.tobytes()).hexdigest()[:16]
        about = json.dumps({"codes": digest, "links": LINKS, "breadth": BUILD_BREADTH, "metric": metric}).encode()
        self._graph: Any = _read_graph(faiss, keep, about) or self._build_graph(keep, about)
        self._graph.hnsw.efSearch = SEARCH_BREADTH

    def _build_graph(self, keep: Path | None, about: bytes) -> Any:
        faiss = self._faiss
        kind = faiss.METRIC_L2 if self.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        graph = faiss.IndexHNSWFlat(self.prepared.shape[1], LINKS, kind)
        graph.hnsw.efConstruction = BUILD_BREADTH
        log.info("building a graph of %d codes%s", len(self.prepared), "" if keep is None else f", kept in {keep}")
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            graph.add(self.prepared)
        finally:
            faiss.omp_set_num_threads(threads)
        if keep is not None:
            try:
                write_bytes(keep, about + b"\n" + faiss.serialize_index(graph).tobytes())
            except StorageError as error:  # a collection may be searched where nothing can be written
                log.warning("%s; the graph is not kept", error)
        return graph

    def _candidates(self, queries: np.ndarray, k: int, extra: int) -> Iterator[np.ndarray]:
        wanted = min(len(self.codes), (k + extra) * self.views + SPARE_CANDIDATES)
        self._graph.hnsw.efSearch = max(SEARCH_BREADTH, wanted)
        _, found = self._graph.search(np.ascontiguousarray(self.prepare(queries)), wanted)
        for line in found:
            # FAISS fills with -1 if it reaches too few codes; then all codes are candidates.
            yield line if line[-1] >= 0 else np.arange(len(self.codes))


def _read_graph(faiss: Any, path: Path | None, about: bytes) -> Any:
    """The graph in the file; None if the file is missing, damaged, or belongs to other codes."""
    if path is None or not path.is_file():
        return None
    first, _, rest = path.read_bytes().partition(b"\n")
    if first != about:
        return None
    try:
        return faiss.deserialize_index(np.frombuffer(rest, np.uint8))
    except RuntimeError:
        log.warning("%s: is damaged; building a new graph", path)
        return None
