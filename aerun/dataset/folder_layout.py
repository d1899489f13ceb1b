"""Which pictures of a folder are for training, which for testing, and which show what is not normal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.dataset.data import Arrays
from aerun.dataset.decoder import Decoder
from aerun.dataset.picture_files import open_picture, pillow_settings
from aerun.dataset.picture_notes import PictureNotes
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from aerun.dataset.rows import Rows

    Take = Callable[[np.ndarray], np.ndarray | Rows]  # the pictures of ascending row numbers

TRAIN, TEST, MASKS = "train", "test", "ground_truth"  # folders of MVTec AD
MASK_END = "_mask.png"
log = logging.getLogger(__name__)


def folder_labels(parts: Sequence[Sequence[Path]], roots: Sequence[Path]) -> tuple[list[str], list[np.ndarray]] | None:
    """Classes, and labels of the pictures of each part: the top-level folders below its root. None unless every picture
    is in one."""
    import numpy as np

    tops = [[path.relative_to(root).parts for path in part] for part, root in zip(parts, roots, strict=True)]
    if not all(len(names) > 1 for part in tops for names in part):
        return None
    classes = sorted({names[0] for part in tops for names in part})
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, [np.array([numbers[names[0]] for names in part], np.int64) for part in tops]


def arrange_mvtec(root: Path, paths: Sequence[Path], take: Take, decoder: Decoder) -> Arrays:
    """The layout of MVTec AD (Bergmann et al. 2019): ``train/good``, ``test/good``, ``test/DEFECT`` and
    ``ground_truth/DEFECT/NAME_mask.png``.

    Test pictures of a folder that ``train`` lacks are the anomalies. Their masks are read if ``ground_truth`` exists.
    DataError for pictures in no such folder, for a part without pictures, and for a missing mask.
    """
    import numpy as np

    parts = {name: [i for i, path in enumerate(paths) if path.is_relative_to(root / name)] for name in (TRAIN, TEST)}
    split = [[paths[i] for i in rows] for rows in parts.values()]
    found = folder_labels(split, [root / TRAIN, root / TEST])
    if found is None:
        raise DataError(f"dataset.root={root}: layout=mvtec needs every picture in train/CLASS/ or test/CLASS/")
    classes, (train_labels, test_labels) = found
    is_normal = np.isin(test_labels, train_labels)
    rows = np.array(parts[TEST], np.int64)
    for name, count in ((TRAIN, len(parts[TRAIN])), ("normal test", is_normal.sum()), ("other test", sum(~is_normal))):
        if not count:
            raise DataError(
                f"dataset.root={root}: layout=mvtec found no {name} pictures; it needs train/good, test/good and "
                "test/DEFECT"
            )
    arrays = Arrays(take(np.array(parts[TRAIN], np.int64)), take(rows[is_normal]), train_labels)
    arrays.test_labels, arrays.classes = test_labels[is_normal], classes
    arrays.test_files = [paths[i] for i in rows[is_normal]]
    arrays.anomalies, arrays.anomaly_labels = take(rows[~is_normal]), test_labels[~is_normal]
    if (root / MASKS).is_dir():
        arrays.masks = read_masks(root, [paths[i] for i in rows[~is_normal]], decoder)
    return arrays


def read_masks(root: Path, paths: Sequence[Path], decoder: Decoder) -> np.ndarray:
    """The masks of test pictures [N,H,W], uint8, 1 where a picture is not normal. DataError for one that is missing,
    cannot be decoded, or has another size than its picture."""
    import numpy as np

    files = [root / MASKS / path.relative_to(root / TEST).with_name(f"{path.stem}{MASK_END}") for path in paths]
    missing = [file for file in files if not file.is_file()]
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}: there is no such mask{others}; without the folder {MASKS} none are read")
    for path, file in zip(paths, files, strict=True):
        sizes = [_size(picture) for picture in (path, file)]
        if sizes[0] != sizes[1]:
            raise DataError(f"{file}: is of {sizes[1]} pixels, its picture of {sizes[0]}")
    notes = PictureNotes()
    reader = Decoder((1, *decoder.shape[1:]), decoder.fit, "black")
    masks = np.concatenate([chunk[:, 0] > 127 for chunk in reader.chunks(files, notes, root)]).astype(np.uint8)
    if notes.bad:
        index, reason = min(notes.bad.items())
        raise DataError(f"{files[index]}: cannot be decoded ({reason})")
    if empty := int((masks.max((1, 2)) == 0).sum()):
        log.warning(
            "%d of %d masks are empty at this size: a larger dataset.size keeps small defects", empty, len(masks)
        )
    return masks


def _size(path: Path) -> str:
    """Width and height. DataError for what cannot be opened."""
    try:
        with pillow_settings(), open_picture(path, load=False) as picture:
            return f"{picture.size[0]} x {picture.size[1]}"
    except Exception as error:  # Pillow raises nearly anything for damaged files
        raise DataError(f"{path}: cannot be decoded ({error})") from error
