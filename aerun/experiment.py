"""One run from its settings to its folder, and back from the folder to the trained model."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aerun import checkpoint, figures
from aerun.autoencoder import Autoencoder
from aerun.baselines import baselines, cache_folder
from aerun.build import build_autoencoder, build_parts, prepare
from aerun.dataset.base import Data, Split, statistics
from aerun.device import choose_device
from aerun.errors import ConfigError, DataError
from aerun.evaluation import evaluate
from aerun.files import write_text
from aerun.report import Report
from aerun.runfolder import CHECKPOINTS, CONFIG, ENVIRONMENT, SUMMARY, describe, flat, read_config
from aerun.settings import Settings, parse
from aerun.step import Parts
from aerun.tracking import Tracker, read_metrics

log = logging.getLogger(__name__)


def run(
    settings: Settings, config: Mapping[str, Any], folder: Path, *, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Train, evaluate, and leave everything in ``folder``; returns the summary.

    ``config`` is what ``settings`` were parsed from, ``overrides`` what the user typed to get it.
    A new run needs a folder without one; ``settings.resume`` continues the run in the folder that it names.
    """
    started = time.perf_counter()
    if settings.resume is None:
        if (folder / CONFIG).exists():
            raise ConfigError(f"hydra.run.dir={folder}: holds a run already; continue it with resume={folder}")
        if folder.exists() and not os.access(folder, os.W_OK):
            raise ConfigError(f"hydra.run.dir={folder}: cannot be written to")
    device = prepare(settings)
    data = settings.dataset.load(device)
    parts = build_parts(settings, data, device)
    checkpoints = folder / CHECKPOINTS
    checkpoints.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY).unlink(missing_ok=True)
    progress = checkpoint.Progress()
    if settings.resume is not None and (checkpoints / checkpoint.LAST).exists():
        progress = checkpoint.load(checkpoints / checkpoint.LAST, parts.autoencoder, parts.optimizer)
        settings.scheduler.restore(progress.scheduler)
        log.info("continuing %s after epoch %d", folder, progress.epoch)
    describe(folder, config, settings.choices, overrides, data, device)
    with Tracker(folder, after_step=progress.step) as tracker:
        tracker.hyperparameters(flat(config, settings.choices))
        report = Report(parts.autoencoder, data, settings.noise, tracker)
        if progress.step == 0:
            report.start()
        progress = settings.trainer.fit(parts, progress, tracker, report, checkpoints)
        checkpoint.load_model(checkpoints / checkpoint.BEST, parts.autoencoder)
        summary = summarise(settings, parts, progress)
        tracker.scalars({f"test/{name}": value for name, value in summary["test"].items()}, progress.step)
        tracker.scalars({f"baseline/{name}": value for name, value in summary["baselines"].items()}, progress.step)
        report.final(progress.step, settings.trainer.tsne)
        draw_curves(folder, tracker, progress.step)
        tracker.finished()
    summary["wall_seconds"] = time.perf_counter() - started
    write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def summarise(settings: Settings, parts: Parts, progress: checkpoint.Progress) -> dict[str, Any]:
    """The run's final numbers, from the weights that the model holds now."""
    autoencoder, data = parts.autoencoder, parts.data
    code_size = math.prod(autoencoder.code_shape)
    test = evaluate(autoencoder, data.test, parts.noise, parts.loss)
    return {
        "test": test,
        "baselines": baselines(data, parts.noise, code_size, cache_folder()),
        "best_epoch": progress.best_epoch,
        "best_loss": progress.best_loss,
        "monitored": "validation/loss" if data.validation is not None else "train/loss",
        "epochs": progress.epoch,
        "steps": progress.step,
        "code_size": code_size,
        "parameters": sum(p.numel() for p in autoencoder.parameters()),
        "train_seconds": progress.train_seconds,
        "images_per_second": progress.train_images / progress.train_seconds if progress.train_seconds else None,
        "dataset_checksum": data.checksum,
    }


def draw_curves(folder: Path, tracker: Tracker, step: int) -> None:
    """Loss and learning-rate curves from metrics.jsonl."""
    lines = read_metrics(folder)

    def series(name: str) -> tuple[list[float], list[float]]:
        points = [(line["epoch"], line[name]) for line in lines if name in line]
        return [x for x, _ in points], [y for _, y in points]

    losses = {name: series(f"{name}/loss") for name in ("train", "validation")}
    losses = {name: points for name, points in losses.items() if points[0]}
    tracker.picture("curves/loss", figures.curves(losses, "loss"), step)
    tracker.picture("curves/learning_rate", figures.curves({"": series("train/learning_rate")}, "learning rate"), step)


def load(folder: str | os.PathLike[str], device: str = "cpu") -> Autoencoder:
    """The trained model of a run folder, with its best weights, in evaluation mode.

    The data are not needed: their shapes stand in the folder. DataError if the folder is not that of a run.
    """
    folder = Path(folder)
    settings = parse(read_config(folder))
    try:
        shapes = json.loads((folder / ENVIRONMENT).read_text())["dataset"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: has no readable {ENVIRONMENT}, which says the data's shape ({error})") from error
    autoencoder = build_autoencoder(settings, _shape_only(settings, shapes))
    checkpoint.load_model(folder / CHECKPOINTS / checkpoint.BEST, autoencoder)
    return autoencoder.to(choose_device(device)).eval()


def _shape_only(settings: Settings, shapes: Mapping[str, Any]) -> Data:
    """Data of the right shape without images; statistics, where the run has them, come with the weights."""
    inputs, targets = (torch.zeros(1, *shapes[name]) for name in ("input_shape", "output_shape"))
    if shapes["input_shape"] == shapes["output_shape"]:
        targets = inputs
    split = Split(inputs, targets, None)
    standardised = getattr(settings.dataset, "normalize", "none") == "standardise"
    both = (statistics(inputs), statistics(targets)) if standardised else (None, None)
    return Data(split, None, split, None, "", *both)


def reevaluate(folder: Path) -> dict[str, Any]:
    """Compute the test metrics, baselines and figures of a finished run again, from its weights and its data.

    Raises DataError if the run has not finished, or its data have changed.
    """
    settings = parse(read_config(folder))
    try:
        before = json.loads((folder / SUMMARY).read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}: has not finished (no readable {SUMMARY}); continue it with resume={folder}"
        ) from error
    device = prepare(settings)
    data = settings.dataset.load(device)
    if data.checksum != before["dataset_checksum"]:
        raise DataError(f"{folder}: its data have changed, {before['dataset_checksum']} then, {data.checksum} now")
    parts = build_parts(settings, data, device)
    progress = checkpoint.load_model(folder / CHECKPOINTS / checkpoint.BEST, parts.autoencoder)
    after = summarise(settings, parts, progress)
    with Tracker(folder, events=False) as tracker:
        Report(parts.autoencoder, data, settings.noise, tracker).final(before["steps"], settings.trainer.tsne)
        draw_curves(folder, tracker, before["steps"])
    differing = [
        f"{kind}/{name}"
        for kind in ("test", "baselines")
        for name in before[kind]
        if before[kind][name] != after[kind].get(name)
    ]
    result = {"test": after["test"], "baselines": after["baselines"], "differs_from_summary": differing}
    write_text(folder / "evaluation.json", json.dumps(result, indent=2) + "\n")
    return {**after, **result}
