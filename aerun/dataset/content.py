"""What is in a data set: whether its numbers are numbers, and the checksum that a run remembers it by."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from aerun.dataset.cache import remembered
from aerun.dataset.rows import Rows
from aerun.errors import DataError

if TYPE_CHECKING:
    from aerun.dataset.data import Arrays


def check_finite(arrays: Arrays) -> None:
    """DataError for floats that are no numbers."""
    import numpy as np

    for name, array in (("training", arrays.train), ("test", arrays.test)):
        if not isinstance(array, Rows) and array.dtype != np.uint8 and not np.isfinite(array).all():
            raise DataError(f"the {name} data hold values that are not finite numbers")


def checksum(arrays: Arrays, transforms: str) -> str:
    """SHA-256 over shapes, types and bytes of both parts, their labels and the transforms; 16 digits.

    Of what lies in the cache it is computed once: the cache vouches for the bytes by checksums of its own.
    """
    if not isinstance(arrays.train, Rows) or not isinstance(arrays.test, Rows):
        return _checksum(arrays, transforms)
    labels = [None if part is None else part.tobytes() for part in (arrays.train_labels, arrays.test_labels)]
    known = hashlib.sha256(repr((arrays.train.digest, arrays.test.digest, labels, transforms)).encode()).hexdigest()
    return remembered(known, lambda: _checksum(arrays, transforms))


def _checksum(arrays: Arrays, transforms: str) -> str:
    digest = hashlib.sha256(transforms.encode())
    for array in (arrays.train, arrays.test, arrays.train_labels, arrays.test_labels):
        if isinstance(array, Rows):
            digest.update(f"{array.shape}{array.file.dtype}".encode())
            for chunk in array.chunks():
                digest.update(chunk.data)
        elif array is not None:
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(array.data if array.flags.c_contiguous else array.tobytes())
    return digest.hexdigest()[:16]
