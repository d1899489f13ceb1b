"""Arrays from a NumPy file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from aerun.base.files import require_regular
from aerun.contracts import Range
from aerun.dataset.base import StoredDataset
from aerun.dataset.data import Arrays
from aerun.dataset.paths import existing_path
from aerun.dataset.picture_notes import is_blank, warn_if_blank
from aerun.dataset.splitting import holdout
from aerun.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


MAX_CLASSES = 100_000
SCALE = "for pixels of 0 to 255, store uint8 (array.astype('uint8')); for other units, dataset.normalize=standardise"
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Array(StoredDataset):
    """A .npy file, or a .npz file with the arrays ``images_key`` and, optionally, ``labels_key``.

    Images are [N,C,H,W], vectors [N,F]. uint8 means 0 to 255; floats are used as stored (images should lie in [0,1]).
    Labels are integers from 0. A .npz file may also contain the test part: ``test_`` + ``images_key`` (and labels), or
    for a key with ``train`` in it the same with ``test``, such as x_train and x_test. Otherwise a share ``test`` of the
    rows, drawn by ``split_seed``, is the test part.
    """

    root: str
    images_key: str
    labels_key: str
    test: Annotated[float, Range(0, 1, low_open=True, high_open=True)]

    def read(self) -> Arrays:
        import numpy as np

        path = existing_path(self.root)
        arrays = load_arrays(path)
        if "" in arrays:
            arrays[self.images_key] = arrays.pop("")
        if self.images_key not in arrays:
            raise DataError(
                f"{path}: does not contain an array '{self.images_key}'; it contains {', '.join(arrays) or 'nothing'}. "
                "Set dataset.images_key"
            )
        images = as_images(path, arrays[self.images_key])
        labels = _as_labels(path, arrays.get(self.labels_key), len(images))
        test_key, test_labels_key = (_test_key(key, arrays) for key in (self.images_key, self.labels_key))
        used = {self.images_key, self.labels_key, test_key, test_labels_key if test_key in arrays else ""}
        if unread := sorted(arrays.keys() - used):
            log.info("%s: arrays that are not read: %s", path, ", ".join(unread))
        if images.ndim == 4:
            rows = np.flatnonzero(is_blank(images)).tolist()
            warn_if_blank([f"{self.images_key}[{row}]" for row in rows], len(images))
        if test_key in arrays:
            test = as_images(path, arrays[test_key])
            test_labels = _as_labels(path, arrays.get(test_labels_key), len(test))
        else:
            train_rows, test_rows = holdout(len(images), self.test, self.split_seed)
            images, test = images[train_rows], images[test_rows]
            labels, test_labels = (None, None) if labels is None else (labels[train_rows], labels[test_rows])
        if labels is None or test_labels is None:
            return Arrays(images, test)
        count = int(max(labels.max(initial=0), test_labels.max(initial=0))) + 1
        return Arrays(images, test, labels, test_labels, [str(index) for index in range(count)])


def _test_key(key: str, arrays: Mapping[str, np.ndarray]) -> str:
    """The name of the test part's array: ``test_x`` for ``x``, or ``x_test`` for ``x_train`` if only that exists."""
    other = key.replace("train", "test")
    return other if f"test_{key}" not in arrays and other != key else f"test_{key}"


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; the name is empty for a .npy file. DataError for pickled objects."""
    import numpy as np

    try:
        require_regular(path)
        loaded = np.load(path, allow_pickle=False)
        named = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        return {name: array for name, array in named.items() if isinstance(array, np.ndarray)}  # or other files
    except Exception as error:  # zipfile, zlib, tokenize and numpy raise different errors for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason:
            reason = "it is another kind of file, or it contains Python objects"
        raise DataError(f"{path}: is not a .npy or .npz file of plain numbers ({reason})") from error


def as_images(path: Path, array: np.ndarray) -> np.ndarray:
    """Return images [N,C,H,W], uint8 or float32, or vectors [N,F], float32; ``path`` names the file in errors.

    DataError for another shape or type; a warning for a range that is unusual.
    """
    import numpy as np

    if array.ndim not in (2, 4) or 0 in array.shape:
        remedy = "; gray images [N,H,W] need a dimension of one channel: array[:, None]" if array.ndim == 3 else ""
        raise DataError(f"{path}: an array of shape {array.shape} is neither [N,features] nor [N,C,H,W]{remedy}")
    if array.ndim == 4 and array.shape[3] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        raise DataError(
            f"{path}: {array.shape} looks like [N,H,W,C]; aerun needs [N,C,H,W], array.transpose(0, 3, 1, 2)"
        )
    if array.ndim == 4 and array.dtype.kind in "iu" and array.dtype != np.uint8:
        raise DataError(f"{path}: integer images must be uint8 (0 to 255), not {array.dtype}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array) if array.ndim == 4 else (array / np.float32(255)).astype(np.float32)
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path}: contains {array.dtype}, not numbers")
    _warn_of_range(path, array)
    return np.ascontiguousarray(array, dtype=np.float32)


def _warn_of_range(path: Path, array: np.ndarray) -> None:
    """Name the range of images outside [0,1], and of vectors that are pixels stored as other numbers than bytes."""
    low, high = float(array.min()), float(array.max())
    if array.ndim == 4 and (low < 0 or high > 1):
        log.warning("%s: images from %.4g to %.4g, not in [0,1]; %s", path, low, high, SCALE)
    elif array.ndim == 2 and low >= 0 and 1 < high <= 255 and not (array % 1).any():
        log.warning("%s: whole numbers from %.4g to %.4g; %s", path, low, high, SCALE)


def _as_labels(path: Path, labels: np.ndarray | None, count: int) -> np.ndarray | None:
    import numpy as np

    if labels is None:
        return None
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
        raise DataError(f"{path}: labels must be {count} integers from 0, not {labels.dtype} {labels.shape}")
    if labels.size and labels.max() >= MAX_CLASSES:
        raise DataError(f"{path}: the largest label is {labels.max()}; labels are class indices below {MAX_CLASSES}")
    return labels.astype(np.int64)
