"""Checks of a data set's content: finite values, and the checksum that a run records."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from aerun.dataset.cache import cached_checksum
from aerun.dataset.rows import Rows
from aerun.errors import DataError

if TYPE_CHECKING:
    from aerun.dataset.data import Arrays


def check_finite(arrays: Arrays) -> None:
    """Raise DataError if the floats contain NaN or infinity."""
    import numpy as np

    for name, array in (("training", arrays.train), ("test", arrays.test), ("excluded", arrays.anomalies)):
        if (
            array is not None
            and not isinstance(array, Rows)
            and array.dtype != np.uint8
            and not np.isfinite(array).all()
        ):
            raise DataError(f"the {name} data contain values that are not finite (NaN or infinity)")


def checksum(arrays: Arrays, transforms: str) -> str:
    """SHA-256 over shapes, types and bytes of all parts, their labels and the transforms; 16 hexadecimal digits.

    For data in the cache it is computed once: the cache protects the bytes by its own checksums.
    """
    if not isinstance(arrays.train, Rows) or not isinstance(arrays.test, Rows):
        return _checksum(arrays, transforms)
    labels = [None if part is None else part.tobytes() for part in (arrays.train_labels, arrays.test_labels)]
    content = arrays.train.digest, arrays.test.digest, labels, transforms
    if isinstance(arrays.anomalies, Rows):
        masks = None if arrays.masks is None else hashlib.sha256(arrays.masks.tobytes()).hexdigest()
        content = *content, arrays.anomalies.digest, masks  # type: ignore[assignment]
    known = hashlib.sha256(repr(content).encode()).hexdigest()
    return cached_checksum(known, lambda: _checksum(arrays, transforms))


def _checksum(arrays: Arrays, transforms: str) -> str:
    digest = hashlib.sha256(transforms.encode())
    excluded = (arrays.anomalies, arrays.anomaly_labels, arrays.masks)
    for array in (arrays.train, arrays.test, arrays.train_labels, arrays.test_labels, *excluded):
        if isinstance(array, Rows):
            digest.update(f"{array.shape}{array.file.dtype}".encode())
            for chunk in array.chunks():
                digest.update(chunk.data)
        elif array is not None:
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(array.data if array.flags.c_contiguous else array.tobytes())
    return digest.hexdigest()[:16]
