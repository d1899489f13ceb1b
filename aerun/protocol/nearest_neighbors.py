"""Classification by the nearest codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aerun.contracts import Count
from aerun.errors import DataError
from aerun.protocol.codes import CodeProtocol
from aerun.protocol.subject import Subject


@dataclass(frozen=True, kw_only=True)
class NearestNeighbours(CodeProtocol):
    """Classify test images by majority vote of the ``k`` training images with the nearest codes, by ``metric``."""

    k: Count = 5
    metric: Literal["euclidean", "cosine"] = "euclidean"

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Return ``knn_error``, the percentage of misclassified test images; the search is exact."""
        from sklearn.neighbors import KNeighborsClassifier

        fitted, tested = self.labeled_parts(subject)
        if self.k > len(fitted.labels):
            raise DataError(f"k={self.k}: is more than the {len(fitted.labels)} labeled images")
        # Dense, because one matrix product is several times faster than sparse matrices here.
        codes, others = (_to_dense(self.encode_all(subject.autoencoder, part)) for part in (fitted, tested))
        classifier = KNeighborsClassifier(self.k, algorithm="brute", metric=self.metric)
        classifier.fit(codes, fitted.labels.numpy())
        return {"knn_error": 100 * float((classifier.predict(others) != tested.labels.numpy()).mean())}


def _to_dense(codes: Any) -> Any:
    from scipy.sparse import issparse

    return codes.toarray() if issparse(codes) else codes
