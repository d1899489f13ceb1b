"""The nearest codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aerun.config.schema import Count
from aerun.errors import DataError
from aerun.protocol.coding import Coding
from aerun.protocol.subject import Subject


@dataclass(frozen=True, kw_only=True)
class NearestNeighbours(Coding):
    """The test image's class is that of most of the ``k`` training images whose codes are nearest, by ``metric``."""

    k: Count = 5
    metric: Literal["euclidean", "cosine"] = "euclidean"

    def __call__(self, subject: Subject) -> dict[str, float]:
        """``knn_error``: test images of a wrong class, in per cent. Every code is compared with every other."""
        from sklearn.neighbors import KNeighborsClassifier

        fitted, tested = self.parts(subject)
        if self.k > len(fitted.labels):
            raise DataError(f"k={self.k}: is more than the {len(fitted.labels)} labelled images")
        # Dense: that is one matrix product, several times as fast as what sparse matrices do here.
        codes, others = (_dense(self.codes(subject.autoencoder, part)) for part in (fitted, tested))
        classifier = KNeighborsClassifier(self.k, algorithm="brute", metric=self.metric)
        classifier.fit(codes, fitted.labels.numpy())
        return {"knn_error": 100 * float((classifier.predict(others) != tested.labels.numpy()).mean())}


def _dense(codes):  # type: ignore[no-untyped-def]
    return codes if hasattr(codes, "reshape") and not hasattr(codes, "toarray") else codes.toarray()
