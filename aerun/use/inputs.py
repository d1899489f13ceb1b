"""Images to show to a run: from its own data set, from folders, and from fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aerun.base.arguments import whole_number
from aerun.base.seeding import Randomness
from aerun.dataset.binarize import sample_binary
from aerun.dataset.data import Split, as_float
from aerun.errors import DataError
from aerun.metrics.evaluation import EVALUATION_SEED
from aerun.use.collection.embedding import labels_from_folders
from aerun.use.collection.fingerprint_files import SUFFIXES, load_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import sample_inputs
from aerun.use.image_files import find_images, read_inputs
from aerun.use.opened_run import OpenedRun

if TYPE_CHECKING:
    from aerun.core.image_inputs import Images

DEFAULT_IMAGES = 2000  # test images, where the caller gives none
ROWS_AT_ONCE = 1000  # of training images that are encoded


@dataclass(frozen=True)
class Sample:
    """``images`` [N,*shape], float in the data's units; ``labels`` [N] and names of the ``classes``, if known."""

    images: Tensor
    labels: Tensor | None = None
    classes: list[str] | None = None


def sample_test_images(run: OpenedRun, count: int) -> Sample:
    """At most ``count`` of the run's test images, evenly spaced. DataError if the data are missing."""
    return sample_evenly(run, run.data.test, count)


def images_or_test_sample(run: OpenedRun, images: Images | None) -> Tensor:
    """``images`` as the run's inputs; if None, 2,000 of its test images."""
    return sample_test_images(run, DEFAULT_IMAGES).images if images is None else run.as_inputs(images)


def sample_training_images(run: OpenedRun, count: int, label: int | None = None) -> Sample:
    """At most ``count`` of the run's training images, or of those with that label, evenly spaced. DataError if the data
    are missing."""
    part, rows = run.data.train, _training_rows(run, count, label)
    return Sample(_read_rows(part, rows), None if part.labels is None else part.labels[rows], run.data.classes)


def training_indices(run: OpenedRun, count: int, label: int | None = None) -> Tensor:
    """The indices [N,S,G,L] of the codes of the same images, for a quantized latent."""
    rows = _training_rows(run, count, label)
    return torch.cat([run.indices(_read_rows(run.data.train, chunk)) for chunk in rows.split(ROWS_AT_ONCE)])


def _training_rows(run: OpenedRun, count: int, label: int | None) -> Tensor:
    part = run.data.train
    if label is None:
        return _even_rows(len(part), count)
    if part.labels is None or not len(labeled := (part.labels == label).nonzero()[:, 0]):
        raise DataError(f"{run.folder}: no training image has the label {label}")
    return labeled[_even_rows(len(labeled), count)]


def sample_evenly(run: OpenedRun, part: Split, count: int) -> Sample:
    """At most ``count`` images of a split, evenly spaced because some data sets are stored class by class."""
    rows = _even_rows(len(part), count)
    return Sample(_read_rows(part, rows), None if part.labels is None else part.labels[rows], run.data.classes)


def class_names(run: OpenedRun) -> list[str]:
    """The names of all classes of a conditional model, or their numbers where the data are missing."""
    try:
        known = run.data.classes or []
    except DataError:
        known = []
    return [known[number] if number < len(known) else str(number) for number in range(run.classes or 0)]


def read_image(run: OpenedRun, name: str) -> Tensor:
    """The test image of that number, or an image file as the run's input: [1,*shape], float in [0,1]."""
    number = whole_number(name)
    if number is None:
        path = Path(name)
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name an image file, or the number of a test image")
        return as_float(next(images for _, images in read_inputs(run, find_images(path))))
    part = run.data.test
    if number >= len(part):
        raise DataError(f"test image {number}: must be less than {len(part)}, the number of test images")
    return _read_rows(part, torch.tensor([number]))


def sample_collection(run: OpenedRun, path: Path, count: int, folder: Path | None = None) -> Sample:
    """At most ``count`` images, evenly spaced, of a file, a folder or a collection's fingerprints.

    Labels come from the fingerprints, or from the top-level folders if every image is in one. ``folder``: where the
    images of fingerprints are now, if they were moved.
    """
    if path.suffix in SUFFIXES:
        return _sample_fingerprints(run, load_fingerprints(path, folder), count)
    found = find_images(path)
    parts = list(read_inputs(run, [found[row] for row in _even_rows(len(found), count).tolist()]))
    labels, classes = labels_from_folders([name for names, _ in parts for name in names])
    images = as_float(torch.cat([images for _, images in parts]))
    return Sample(images, None if labels is None else torch.from_numpy(labels), classes or None)


def _sample_fingerprints(run: OpenedRun, fingerprints: Fingerprints, count: int) -> Sample:
    fingerprints.require_same_run(run)
    rows, images = sample_inputs(run, fingerprints, count)
    if fingerprints.labels is None:
        return Sample(as_float(images))
    labels, classes = torch.from_numpy(fingerprints.labels[rows]).long(), list(fingerprints.classes)
    if bool((labels < 0).any()):
        labels[labels < 0] = len(classes)
        classes.append("no label")
    return Sample(as_float(images), labels, classes or None)


def _even_rows(total: int, count: int) -> Tensor:
    """At most ``count`` of the numbers from 0 to ``total - 1``, evenly spaced."""
    return torch.linspace(0, total - 1, min(count, total)).round().long()


def _read_rows(part: Split, rows: Tensor) -> Tensor:
    images = part.inputs[rows] if isinstance(part.inputs, Tensor) else part.inputs.select(rows).tensor()
    if part.binarise:  # training draws new binary images for every batch; here one draw
        return sample_binary(images, Randomness(EVALUATION_SEED, images.device).at("some", 0))
    return as_float(images)
