"""Images to show a run: of the data set that it was trained on, of folders, and of fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aerun.base.seeding import Randomness
from aerun.dataset.binary import drawn
from aerun.dataset.data import Split, as_float
from aerun.errors import DataError
from aerun.metrics.evaluation import EVALUATION_SEED
from aerun.use.collection.embed import top_folders
from aerun.use.collection.fingerprints import Fingerprints, load
from aerun.use.collection.thumbnails import collection_inputs
from aerun.use.opened import Opened
from aerun.use.pictures import as_inputs, find

SHOWN = 2000  # test images that stand for all, where no others are given


@dataclass(frozen=True)
class Some:
    """``images`` [N,*shape], float; their ``labels`` [N] and the ``classes``' names, where there are."""

    images: Tensor
    labels: Tensor | None = None
    classes: list[str] | None = None


def test_images(run: Opened, count: int) -> Some:
    """So many of the run's test images (or all), spread evenly over them. DataError if they are not there."""
    return some(run, run.data.test, count)


def images_or_own(run: Opened, images: Tensor | None) -> Tensor:
    """``images``, or 2,000 of the run's test images if there are none given."""
    return test_images(run, SHOWN).images if images is None else images


def training_images(run: Opened, count: int) -> Some:
    """So many of the images that it was trained on (or all), spread evenly over them."""
    return some(run, run.data.train, count)


def some(run: Opened, part: Split, count: int) -> Some:
    """So many images of a part, spread evenly: data sets may be stored class by class."""
    total = len(part)
    rows = torch.linspace(0, total - 1, min(count, total)).round().long()
    return Some(_at(part, rows), None if part.labels is None else part.labels[rows], run.data.classes)


def picture(run: Opened, name: str) -> Tensor:
    """The run's test image of that number, or a picture file as it would have it: [1,*shape], float in [0,1]."""
    if not name.isdigit():
        path = Path(name)
        if path.is_dir():
            raise DataError(f"{path}: is a folder; one picture is needed, or the number of a test image")
        return as_float(next(images for _, images in as_inputs(run, find(path))))
    number, part = int(name), run.data.test
    if number >= len(part):
        raise DataError(f"test image {number}: there are {len(part)}, numbered from 0")
    return _at(part, torch.tensor([number]))


def pictures(run: Opened, place: Path, count: int) -> Some:
    """So many pictures (or all) of a file or folder, or of what fingerprints were made of, spread evenly over them.

    Labels are those of the fingerprints, or the top-level folders where every picture is in one.
    """
    if place.suffix in (".npz", ".parquet"):
        return _of_fingerprints(run, load(place), count)
    found = find(place)
    rows = torch.linspace(0, len(found) - 1, min(count, len(found))).round().long()
    parts = list(as_inputs(run, [found[row] for row in rows.tolist()]))
    labels, classes = top_folders([name for names, _ in parts for name in names])
    images = as_float(torch.cat([images for _, images in parts]))
    return Some(images, None if labels is None else torch.from_numpy(labels), classes or None)


def _of_fingerprints(run: Opened, prints: Fingerprints, count: int) -> Some:
    prints.refuse_other(run)
    rows, images = collection_inputs(run, prints, count)
    if prints.labels is None:
        return Some(as_float(images))
    labels, classes = torch.from_numpy(prints.labels[rows]).long(), list(prints.classes)
    if bool((labels < 0).any()):
        labels[labels < 0] = len(classes)
        classes.append("no label")
    return Some(as_float(images), labels, classes or None)


def _at(part: Split, rows: Tensor) -> Tensor:
    chosen = part.inputs[rows] if isinstance(part.inputs, Tensor) else part.inputs.select(rows).tensor()
    if part.binarise:  # of what is drawn anew in every minibatch one draw
        return drawn(chosen, Randomness(EVALUATION_SEED, chosen.device).at("some", 0))
    return as_float(chosen)
