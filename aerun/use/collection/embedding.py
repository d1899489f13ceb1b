"""The codes of a folder of pictures, or of a part of a run's own data."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from aerun.base.progress_bar import progress_bar
from aerun.errors import DataError
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.image_files import find_images, read_folder_inputs, read_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.dataset.data import Split
    from aerun.use.opened_run import OpenedRun, Run

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
IMAGES_PER_CHUNK = 1024


def embed(run: Run, pictures: str | os.PathLike[str] | Tensor, *, views: int = 1) -> Fingerprints:
    """The codes of ``pictures``: a file, a folder with all below it, or images [N,C,H,W], uint8 or in [0,1].

    Pictures that do not decode are named in a warning and left out. Where each is in a subfolder, those on top are the
    labels. ``views`` > 1: codes of so many crops beside that of the whole picture (see ``crops``). DataError for a run
    that takes no pictures, where there are none, and for images of another shape than the run's or not finite.
    """
    from aerun.use.opened_run import as_opened

    run = as_opened(run)
    run.decoder()  # refuses what takes no pictures
    if isinstance(pictures, str | os.PathLike):
        root = Path(pictures).expanduser()
        found = find_images(root)
        inputs = read_folder_inputs(run, root) if root.is_dir() else read_inputs(run, found)
        names, codes = _encode_chunks(run, inputs, len(found), views)
        labels, classes = labels_from_folders(names)
        place = {"root": str((root if root.is_dir() else root.parent).resolve())}
        return _make_fingerprints(run, names, codes, labels, classes, **place)
    run.check_images(pictures)
    numbers = [f"{index:06d}" for index in range(len(pictures))]
    chunks = (
        (numbers[i : i + IMAGES_PER_CHUNK], pictures[i : i + IMAGES_PER_CHUNK])
        for i in range(0, len(pictures), IMAGES_PER_CHUNK)
    )
    return _make_fingerprints(run, *_encode_chunks(run, chunks, len(pictures), views), None, [])


def embed_split(run: Run, part: Part = "test", *, views: int = 1) -> Fingerprints:
    """The codes of a part of the run's own data, with their labels; names are ``part/NUMBER``.

    DataError if the data are not there, or have no such part.
    """
    from aerun.use.opened_run import as_opened

    run = as_opened(run)
    run.decoder()
    split, classes = load_split(run, part)
    total = len(split)
    chunks = (
        (
            [f"{part}/{row:06d}" for row in range(i, min(i + IMAGES_PER_CHUNK, total))],
            split.inputs[i : i + IMAGES_PER_CHUNK],
        )
        for i in range(0, total, IMAGES_PER_CHUNK)
    )
    labels = None if split.labels is None else split.labels.cpu().numpy()
    return _make_fingerprints(run, *_encode_chunks(run, chunks, total, views), labels, classes, split=part)


def load_split(run: OpenedRun, part: Part) -> tuple[Split, list[str]]:
    """A part of the data that the run was trained with, and the names of its classes, if it has any.

    DataError if they are not there, or have changed since.
    """
    from aerun.dataset.binarize import binarize_all
    from aerun.metrics.evaluation import EVALUATION_SEED

    split: Split | None = getattr(run.data, part)
    if split is None:
        raise DataError(f"{run.folder}: its data have no {part} part (dataset.validation=0)")
    if split.binarise:
        split = dataclasses.replace(split, inputs=binarize_all(split.inputs, EVALUATION_SEED))
    return split, run.data.classes or []


def labels_from_folders(names: Sequence[str]) -> tuple[np.ndarray | None, list[str]]:
    """The top-level folders as labels, if every picture is in one; else none."""
    if not all("/" in name for name in names):
        return None, []
    tops = [name.partition("/")[0] for name in names]
    classes = sorted(set(tops))
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[top] for top in tops], np.int64), classes


def _encode_chunks(
    run: OpenedRun, chunks: Iterator[tuple[list[str], Tensor]], total: int, views: int
) -> tuple[list[str], np.ndarray]:
    """Names [N] and codes [N,D], or [N,V,D]."""
    from aerun.use.collection.views import encode_views

    names, codes = list[str](), list[np.ndarray]()
    with progress_bar("codes", total) as bar:
        for part, images in chunks:
            coded = encode_views(run.encode, images, views)
            codes.append(coded[:, 0] if views == 1 else coded)
            names += part
            bar.update(len(part))
    if not codes:
        raise DataError("there is no picture to encode")
    return names, np.concatenate(codes)


def _make_fingerprints(
    run: OpenedRun,
    names: list[str],
    codes: np.ndarray,
    labels: np.ndarray | None,
    classes: list[str],
    *,
    root: str = "",
    split: str = "",
) -> Fingerprints:
    shape = tuple(run.autoencoder.code_shape)
    return Fingerprints(names, codes, run.fingerprint, str(run.folder), root, split, labels, classes, shape)
