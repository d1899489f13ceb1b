"""A run's final numbers and its curves."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aerun import figures
from aerun.baselines import baselines, cache_folder
from aerun.batches import first
from aerun.checkpoint import Progress
from aerun.evaluation import evaluate
from aerun.precision import difference
from aerun.protocol import Subject
from aerun.protocol.ask import ask
from aerun.runfolder import read_metrics
from aerun.settings import Settings
from aerun.step import Parts
from aerun.tracking import Tracker

log = logging.getLogger(__name__)


def summarise(
    settings: Settings, parts: Parts, progress: Progress, picture: Callable[[str, np.ndarray], None]
) -> dict[str, Any]:
    """The run's final numbers, from the weights that the model holds now; ``picture`` files what protocols draw.

    Protocols' numbers stand among the test metrics; ``protocols`` says whose they are, ``unanswered`` why one has none.
    """
    autoencoder, data = parts.autoencoder, parts.data
    code_size = math.prod(autoencoder.code_shape)
    test = evaluate(autoencoder, data.test, parts.noise, parts.loss)
    answers = ask(settings.protocol if math.isfinite(test["loss"]) else {}, subject_of(settings, parts))
    for tag, pixels in answers.pictures.items():
        picture(tag, pixels)
    precision = settings.trainer.precision
    changed = {}
    if precision != "float32":
        changed = difference(
            parts, first(data.train, math.ceil(settings.trainer.batch_size / settings.trainer.processes)), precision
        )
        log.info("%s changes the loss by %.2g of itself, its gradient by %.2g", precision, *changed.values())
    return {
        "test": test | answers.flat,
        "protocols": {name: list(numbers) for name, numbers in answers.numbers.items()},
        "unanswered": answers.unanswered,
        "baselines": baselines(data, parts.noise, code_size, cache_folder()),
        "best_epoch": progress.best_epoch,
        "best_loss": progress.best_loss,
        "monitored": "validation/loss" if data.validation is not None else "train/loss",
        "epochs": progress.epoch,
        "steps": progress.step,
        "code_size": code_size,
        "parameters": sum(p.numel() for p in autoencoder.parameters()),
        "train_seconds": progress.train_seconds,
        "compile_seconds": progress.compile_seconds,
        "images_per_second": progress.train_images / progress.train_seconds if progress.train_seconds else None,
        "precision_difference": changed,
        "dataset_checksum": data.checksum,
    }


def subject_of(settings: Settings, parts: Parts) -> Subject:
    """What protocols are asked of."""
    return Subject(parts.autoencoder, parts.data, parts.noise, parts.loss, settings.dataset, settings.seed)


def draw_curves(folder: Path, tracker: Tracker, step: int) -> None:
    """The curve of the loss from metrics.jsonl, and that of the learning rate where it changes."""
    lines = read_metrics(folder)

    def series(name: str) -> tuple[list[float], list[float]]:
        points = [(line["epoch"], line[name]) for line in lines if name in line]
        return [x for x, _ in points], [y for _, y in points]

    losses = {name: series(f"{name}/loss") for name in ("train", "validation")}
    losses = {name: points for name, points in losses.items() if points[0]}
    tracker.picture("curves/loss", figures.curves(losses, "loss"), step)
    rates = series("train/learning_rate")
    if len(set(rates[1])) > 1:
        pixels = figures.curves({"": rates}, "learning rate", logarithmic=False)
        tracker.picture("curves/learning_rate", pixels, step)
