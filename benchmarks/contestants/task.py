"""What every contestant is given, and what it tells."""

from __future__ import annotations

import functools
import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.images import TRAIN

EVALUATED = 2000  # images of the validation part: the same few for all, since this is not what is compared
SHARE = 0.1  # of the training images that are held out
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Task:
    """A network by name, a batch size, a device by name, and the folder of the images."""

    model: str
    batch: int
    device: str
    folder: Path


@dataclass(frozen=True)
class Round:
    """Images trained on and the seconds that took; images evaluated and seconds; seconds of all else in a run."""

    images: int
    seconds: float
    evaluated: int = 0
    evaluation_seconds: float = 0.0
    rest_seconds: float = 0.0


Train = Callable[[int], Round]  # how many steps


@functools.cache
def read_images(folder: Path) -> tuple[Tensor, Tensor]:
    """uint8 training images [N,1,28,28], and the first of those that are held out for validation."""
    with gzip.open(folder / TRAIN) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).copy()
    images = torch.from_numpy(pixels).reshape(-1, 1, 28, 28)
    held_out = round(SHARE * len(images))
    return images[held_out:].clone(), images[:held_out][:EVALUATED].clone()


def now(device: str) -> float:
    """Seconds, once the device has done all that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()
