"""Encode a folder of images, images in memory, or a split of a run's own data."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from aerun.base.progress_bar import progress_bar
from aerun.dataset.picture_notes import is_blank, warn_if_blank
from aerun.errors import DataError
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.looks import Looks, joined, looks_of
from aerun.use.collection.quantized_codes import is_quantized, quantized_codes
from aerun.use.image_files import describe_file, find_images, read_folder_inputs, read_inputs, to_uint8

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.core.image_inputs import Images
    from aerun.dataset.data import Split
    from aerun.use.opened_run import OpenedRun, Run

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
IMAGES_PER_CHUNK = 1024


def embed(run: Run, pictures: str | os.PathLike[str] | Images, *, views: int = 1) -> Fingerprints:
    """Encode ``pictures``: an image file, a folder with its subfolders, or images [N,C,H,W], uint8 or in [0,1], or PIL
    images.

    Undecodable files are skipped with a warning. If every image is in a subfolder, the top-level folders become
    labels. ``views`` > 1 also encodes that many crops less one (``make_views``). DataError if the run's inputs are not
    images, if there are no images, or if images have another shape or are not finite.
    """
    from aerun.use.opened_run import as_opened

    run = as_opened(run)
    run.require_images()
    if isinstance(pictures, str | os.PathLike):
        root = Path(pictures).expanduser()
        found = find_images(root)
        inputs = read_folder_inputs(run, root) if root.is_dir() else read_inputs(run, found)
        return embed_files(run, root if root.is_dir() else root.parent, found, inputs, views)
    images = run.as_inputs(pictures)
    names = [f"{index:06d}" for index in range(len(images))]
    chunks = ((names[part], images[part]) for part in _chunks(len(images)))
    return _make_fingerprints(run, *_encode_chunks(run, chunks, len(images), views), None, [])


def embed_files(
    run: OpenedRun,
    root: Path,
    found: Sequence[tuple[str, Path]],
    inputs: Iterator[tuple[list[str], Tensor]],
    views: int = 1,
) -> Fingerprints:
    """Encode ``inputs``, those of the image files ``found``: names relative to ``root``, and paths."""
    looks = list[Looks]()
    names, codes, blank = _encode_chunks(run, inputs, len(found), views, run.background, looks)
    labels, classes = labels_from_folders(names)
    made = _make_fingerprints(run, names, codes, blank, labels, classes, root=str(root.resolve()))
    paths = dict(found)
    files = np.array([describe_file(paths[name]) for name in names], np.int64).reshape(-1, 4)
    return dataclasses.replace(made, looks=dataclasses.replace(joined(looks), files=files))


def embed_split(run: Run, part: Part = "test", *, views: int = 1) -> Fingerprints:
    """Encode a split of the run's own data, with its labels; names are ``SPLIT/NUMBER``.

    DataError if the data or the split are missing.
    """
    from aerun.use.opened_run import as_opened

    run = as_opened(run)
    run.require_images()
    split, classes = load_split(run, part)
    names = [f"{part}/{row:06d}" for row in range(len(split))]
    chunks = ((names[rows], split.inputs[rows]) for rows in _chunks(len(split)))
    labels = None if split.labels is None else split.labels.cpu().numpy()
    names, codes, blank = _encode_chunks(run, chunks, len(split), views)
    return _make_fingerprints(run, names, codes, blank, labels, classes, split=part)


def load_split(run: OpenedRun, part: Part) -> tuple[Split, list[str]]:
    """A split of the run's data, and the names of its classes, if any. DataError if it is missing or has changed."""
    from aerun.dataset.binarize import binarize_all
    from aerun.metrics.evaluation import EVALUATION_SEED

    data = run.data
    split: Split | None = {"train": data.train, "validation": data.validation, "test": data.test}[part]
    if split is None:
        raise DataError(f"{run.folder}: its data have no {part} split (dataset.validation=0)")
    if split.binarise:
        split = dataclasses.replace(split, inputs=binarize_all(split.inputs, EVALUATION_SEED))
    return split, data.classes or []


def labels_from_folders(names: Sequence[str]) -> tuple[np.ndarray | None, list[str]]:
    """Top-level folders as labels [N] and class names, if every image is in one; otherwise None and []."""
    if not all("/" in name for name in names):
        return None, []
    folders = [name.partition("/")[0] for name in names]
    classes = sorted(set(folders))
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[folder] for folder in folders], np.int64), classes


def _chunks(total: int) -> Iterator[slice]:
    return (slice(start, start + IMAGES_PER_CHUNK) for start in range(0, total, IMAGES_PER_CHUNK))


def _encode_chunks(
    run: OpenedRun,
    chunks: Iterator[tuple[list[str], Tensor]],
    total: int,
    views: int,
    background: str | None = None,
    looks: list[Looks] | None = None,
) -> tuple[list[str], np.ndarray, list[int]]:
    """Names [N], codes [N,D] or [N,V,D] (of a quantized latent: indices), and the rows of blank images, of which it
    warns. Adds the looks of each chunk to ``looks``."""
    import torch

    from aerun.use.collection.views import encode_views

    encode = run.indices if is_quantized(run) else run.encode

    names, codes, blank = list[str](), list[np.ndarray](), list[np.ndarray]()
    with progress_bar("codes", total) as bar:
        for part, images in chunks:
            coded = encode_views(encode, images, views)
            codes.append(coded[:, 0] if views == 1 else coded)
            blank.append(is_blank(images.cpu().numpy()))
            if looks is not None:
                looks.append(looks_of(images.cpu().numpy() if images.dtype == torch.uint8 else to_uint8(images)))
            names += part
            bar.update(len(part))
    if not codes:
        raise DataError("there are no images to encode")
    rows = np.flatnonzero(np.concatenate(blank)).tolist()
    warn_if_blank([names[row] for row in rows], len(names), background)
    return names, np.concatenate(codes), rows


def _make_fingerprints(
    run: OpenedRun,
    names: list[str],
    codes: np.ndarray,
    blank: list[int],
    labels: np.ndarray | None,
    classes: list[str],
    *,
    root: str = "",
    split: str = "",
) -> Fingerprints:
    shape = tuple(run.autoencoder.code_shape)
    quantized = None
    if is_quantized(run):
        quantized = quantized_codes(run, codes.reshape(-1, codes.shape[-1]))
        codes = quantized.codes().reshape(*codes.shape[:-1], -1)
    about = run.fingerprint, str(run.folder), root, split
    return Fingerprints(names, codes, *about, labels, classes, shape, blank=blank, quantized=quantized)
