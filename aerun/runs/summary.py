"""A run's final numbers and its curves."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerun import figures
from aerun.config.settings import Settings
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import first_batch, spread
from aerun.figures.montage import montage
from aerun.metrics.baselines import baselines, cache_folder
from aerun.metrics.declared import baseline_labels
from aerun.metrics.evaluation import Evaluation, corrupted_batches
from aerun.protocol import Subject
from aerun.protocol.runner import run_protocols
from aerun.runs.folder import CHECKPOINTS
from aerun.runs.folder_metrics import read_metrics
from aerun.runs.pictures import PROBE_IMAGES
from aerun.runs.tracking import FolderLog
from aerun.training.parts import Parts
from aerun.training.precision_error import measure_precision_error
from aerun.training.progress import Progress
from aerun.training.regime import Regime

log = logging.getLogger(__name__)
DECISIVE = ("validation/loss", "validation/mse")
Measure = Callable[[Autoencoder, str, Evaluation], dict[str, float]]


def summarize(
    settings: Settings,
    parts: Parts,
    progress: Progress,
    picture: Callable[[str, np.ndarray], None] | None = None,
    measure: Measure | None = None,
) -> dict[str, Any]:
    """The run's final numbers, from the present weights of the model.

    ``picture`` writes the pictures of protocols; ``measure`` returns the numbers of observers. The numbers of protocols
    are among the test metrics: ``protocols`` lists them by protocol, ``unanswered`` has the reason for each protocol
    without numbers, and ``measured`` lists the numbers of observers.
    """
    autoencoder, data = parts.autoencoder, parts.data
    code_size = math.prod(autoencoder.code_shape)
    evaluation = Evaluation(data.test, parts.noise, parts.loss)
    test = evaluation(autoencoder)
    measured = {} if measure is None else measure(autoencoder, "test", evaluation)
    test |= measured
    answers = run_protocols(settings.protocol if math.isfinite(test["loss"]) else {}, subject_of(settings, parts))
    if picture is not None:
        for tag, pixels in answers.pictures.items():
            picture(tag, pixels)
    precision = settings.trainer.precision
    precision_error = {}
    if precision != "float32":
        precision_error = measure_precision_error(
            parts,
            first_batch(data.train, math.ceil(settings.trainer.batch_size / settings.trainer.processes)),
            precision,
        )
        log.info("%s: relative error of the loss %.2g, of the gradient %.2g", precision, *precision_error.values())
    return {
        "test": test | answers.flat,
        "protocols": {name: list(map(str, numbers)) for name, numbers in answers.numbers.items()},
        "unanswered": answers.unanswered,
        "measured": list(map(str, measured)),
        "baselines": baselines(data, parts.noise, code_size, cache_folder()),
        "best_epoch": progress.best_epoch,
        "best_loss": progress.best_loss,
        "monitored": f"validation/{parts.monitor.name}" if data.validation is not None else "train/loss",
        "epochs": progress.epoch,
        "steps": progress.step,
        "code_size": code_size,
        "parameters": sum(p.numel() for p in autoencoder.parameters()),
        "train_seconds": progress.train_seconds,
        "compile_seconds": progress.compile_seconds,
        "images_per_second": progress.train_images / progress.train_seconds if progress.train_seconds else None,
        "precision_difference": precision_error,
        "dataset_checksum": data.checksum,
    }


def subject_of(settings: Settings, parts: Parts) -> Subject:
    """The run, as protocols take it."""
    return Subject(parts.autoencoder, parts.data, parts.noise, parts.loss, settings.dataset, settings.seed)


def draw_stages(regime: Regime, folder: Path, tracker: FolderLog, step: int) -> None:
    """Draw reconstructions of test images, one row for each finished stage and one for the present weights. Draws
    nothing for a run without stages."""
    parts, data = regime.parts, regime.parts.data
    if not data.is_image:
        return
    clean, noisy, targets = next(corrupted_batches(spread(data.test, PROBE_IMAGES), parts.noise))
    stages = []
    for label, stage in regime.finished_stages(folder / CHECKPOINTS):
        stages.append((f"{label}\n{_code_of(stage)}", stage.reconstruct(noisy)))
    if not stages:
        return
    rows = [("input", clean)] if clean.shape == targets.shape else []
    rows += [("corrupted", noisy)] if rows and noisy is not clean else []
    rows += [("target", targets)] if targets is not clean else []
    rows += [*stages, (f"{regime.outcome}\n{_code_of(parts.autoencoder)}", parts.autoencoder.reconstruct(noisy))]
    pixels = montage([(label, figures.as_bytes(images).numpy()) for label, images in rows])
    tracker.picture("reconstructions/stages", pixels, step)


def _code_of(autoencoder: Autoencoder) -> str:
    return f"code of {'x'.join(map(str, autoencoder.code_shape))}"


def draw_curves(folder: Path, tracker: FolderLog, step: int, summary: Mapping[str, Any]) -> None:
    """Draw loss and reconstruction error from metrics.jsonl with the baselines of the summary, and the learning rate if
    it changes."""
    lines = read_metrics(folder)

    def series(name: str) -> tuple[list[float], list[float]]:
        points = [(line["epoch"], line[name]) for line in lines if name in line]
        return [x for x, _ in points], [y for _, y in points]

    stages = sorted(
        {name.partition("/")[0] + "/" for line in lines for name in line if name.startswith("stage")} - {"stage/"}
    )
    shown = {
        f"{stage}{name}": series(f"{stage}{name}") for stage in (*stages, "") for name in ("train/loss", *DECISIVE)
    }
    shown = {name: points for name, points in shown.items() if points[0]}
    loss, mse = (shown.get(name, ([], []))[1] for name in DECISIVE)
    is_error = bool(loss) and len(loss) == len(mse) and np.allclose(loss, mse, rtol=1e-4)
    if is_error:
        shown.pop("validation/mse")
    ylabel = "MSE per pixel" if is_error and not stages else "loss, MSE per pixel"
    dashed = {label: summary["baselines"][f"{name}/mse"] for name, label in baseline_labels(summary).items()}
    rates = {stage: series(f"{stage}train/learning_rate") for stage in (*stages, "")}
    rates = {name.rstrip("/"): points for name, points in rates.items() if points[0]}
    pixels = figures.curves_with_baselines(shown, {"test/mse": summary["test"]["mse"]}, dashed, ylabel)
    tracker.picture("curves/loss", pixels, step)
    if any(len(set(values)) > 1 for _, values in rates.values()):
        pixels = figures.curves(rates, "learning rate", logarithmic=False)
        tracker.picture("curves/learning_rate", pixels, step)
