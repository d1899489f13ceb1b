"""The usual loop: torchvision's data set, ToTensor for each image, a DataLoader."""

from __future__ import annotations

import functools
import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.contestants.nets import build
from benchmarks.contestants.task import EVALUATED, LEARNING_RATE, SHARE, Round, Task, Train, now
from benchmarks.images import TRAIN


@functools.cache
def torchvision_sets(folder: Path) -> tuple[Dataset[Any], Dataset[Any]]:
    """Training and validation images as torchvision has them."""
    from torchvision.datasets import FashionMNIST
    from torchvision.transforms import ToTensor

    with tempfile.TemporaryDirectory() as place:
        raw = Path(place) / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for name in (TRAIN, "train-labels-idx1-ubyte.gz", *(path.name for path in folder.glob("t10k-*.gz"))):
            (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress((folder / name).read_bytes()))
        images = FashionMNIST(place, transform=ToTensor())  # reads all of it at once
    held_out = round(SHARE * len(images))
    return Subset(images, range(held_out, len(images))), Subset(images, range(min(EVALUATED, held_out)))


def prepare(task: Task) -> Train:
    """The loop as tutorials have it, but with torch's fused Adam, so that loading is all that differs."""
    training, held_out = torchvision_sets(task.folder)
    loader = DataLoader(training, task.batch, shuffle=True)
    evaluation = DataLoader(held_out, 1000)

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    stream = endless()

    def train(steps: int) -> Round:
        net = build(task.model).to(task.device)
        optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE, fused=True)
        begin, seen = now(task.device), 0
        for _, (x, _) in zip(range(steps), stream, strict=False):
            x = x.to(task.device)
            loss = net.loss(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(x)
        middle = now(task.device)
        with torch.no_grad():
            total = sum(net.loss(x.to(task.device)) * len(x) for x, _ in evaluation)
            float(total)
        return Round(seen, middle - begin, len(held_out), now(task.device) - middle)  # type: ignore[arg-type]

    return train
