"""Images to show a run: of the data set that it was trained on, of folders, and of fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aerun.base.seeding import Randomness
from aerun.dataset.binarize import sample_binary
from aerun.dataset.data import Split, as_float
from aerun.errors import DataError
from aerun.metrics.evaluation import EVALUATION_SEED
from aerun.use.collection.embedding import labels_from_folders
from aerun.use.collection.fingerprints import Fingerprints, load_fingerprints
from aerun.use.collection.thumbnails import sample_inputs
from aerun.use.image_files import find_images, read_inputs
from aerun.use.opened_run import OpenedRun

DEFAULT_IMAGES = 2000  # test images that stand for all, where no others are given


@dataclass(frozen=True)
class Sample:
    """``images`` [N,*shape], float; their ``labels`` [N] and the ``classes``' names, where there are."""

    images: Tensor
    labels: Tensor | None = None
    classes: list[str] | None = None


def sample_test_images(run: OpenedRun, count: int) -> Sample:
    """So many of the run's test images (or all), spread evenly over them. DataError if they are not there."""
    return sample_evenly(run, run.data.test, count)


def images_or_test_sample(run: OpenedRun, images: Tensor | None) -> Tensor:
    """``images``, or 2,000 of the run's test images if there are none given."""
    return sample_test_images(run, DEFAULT_IMAGES).images if images is None else images


def sample_training_images(run: OpenedRun, count: int) -> Sample:
    """So many of the images that it was trained on (or all), spread evenly over them."""
    return sample_evenly(run, run.data.train, count)


def sample_evenly(run: OpenedRun, part: Split, count: int) -> Sample:
    """So many images of a part, spread evenly: data sets may be stored class by class."""
    total = len(part)
    rows = torch.linspace(0, total - 1, min(count, total)).round().long()
    return Sample(_rows(part, rows), None if part.labels is None else part.labels[rows], run.data.classes)


def read_image(run: OpenedRun, name: str) -> Tensor:
    """The run's test image of that number, or a picture file as it would have it: [1,*shape], float in [0,1]."""
    if not name.isdigit():
        path = Path(name)
        if path.is_dir():
            raise DataError(f"{path}: is a folder; one picture is needed, or the number of a test image")
        return as_float(next(images for _, images in read_inputs(run, find_images(path))))
    number, part = int(name), run.data.test
    if number >= len(part):
        raise DataError(f"test image {number}: there are {len(part)}, numbered from 0")
    return _rows(part, torch.tensor([number]))


def sample_collection(run: OpenedRun, place: Path, count: int) -> Sample:
    """So many pictures (or all) of a file or folder, or of what fingerprints were made of, spread evenly over them.

    Labels are those of the fingerprints, or the top-level folders where every picture is in one.
    """
    if place.suffix in (".npz", ".parquet"):
        return _sample_fingerprints(run, load_fingerprints(place), count)
    found = find_images(place)
    rows = torch.linspace(0, len(found) - 1, min(count, len(found))).round().long()
    parts = list(read_inputs(run, [found[row] for row in rows.tolist()]))
    labels, classes = labels_from_folders([name for names, _ in parts for name in names])
    images = as_float(torch.cat([images for _, images in parts]))
    return Sample(images, None if labels is None else torch.from_numpy(labels), classes or None)


def _sample_fingerprints(run: OpenedRun, prints: Fingerprints, count: int) -> Sample:
    prints.require_same_run(run)
    rows, images = sample_inputs(run, prints, count)
    if prints.labels is None:
        return Sample(as_float(images))
    labels, classes = torch.from_numpy(prints.labels[rows]).long(), list(prints.classes)
    if bool((labels < 0).any()):
        labels[labels < 0] = len(classes)
        classes.append("no label")
    return Sample(as_float(images), labels, classes or None)


def _rows(part: Split, rows: Tensor) -> Tensor:
    chosen = part.inputs[rows] if isinstance(part.inputs, Tensor) else part.inputs.select(rows).tensor()
    if part.binarise:  # of what is drawn anew in every minibatch one draw
        return sample_binary(chosen, Randomness(EVALUATION_SEED, chosen.device).at("some", 0))
    return as_float(chosen)
