"""One run from its settings to its folder, and back from the folder to the trained model."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from aerun import checkpoint
from aerun.autoencoder import Autoencoder, Standardise
from aerun.baselines import baselines, cache_folder
from aerun.dataset.base import Data, as_float
from aerun.device import choose_device, default_threads
from aerun.errors import ConfigError, DataError
from aerun.evaluation import evaluate, in_unit_range
from aerun.files import write_text
from aerun.report import Report
from aerun.seeding import seed_everything
from aerun.settings import Settings, parse
from aerun.step import Parts
from aerun.tracking import Tracker, read_metrics

log = logging.getLogger(__name__)
CONFIG, SUMMARY, CHECKPOINTS = "config.yaml", "summary.json", "checkpoints"


def run(
    settings: Settings,
    config: Mapping[str, Any],
    folder: Path,
    *,
    overrides: Sequence[str] = (),
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
    check_data(settings, data)
    autoencoder = build_autoencoder(settings, data).to(device)
    optimizer = build_optimizer(settings, autoencoder)
    parts = Parts(autoencoder, data, settings.noise, settings.loss, optimizer, settings.scheduler, settings.seed)
    checkpoints = folder / CHECKPOINTS
    checkpoints.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY).unlink(missing_ok=True)
    progress = checkpoint.Progress()
    if settings.resume is not None and (checkpoints / checkpoint.LAST).exists():
        progress = checkpoint.load(checkpoints / checkpoint.LAST, autoencoder, optimizer)
        settings.scheduler.restore(progress.scheduler)
        log.info("continuing %s after epoch %d", folder, progress.epoch)
    describe(folder, config, settings.choices, overrides, data, device)
    with Tracker(folder, after_step=progress.step) as tracker:
        tracker.hyperparameters(flat(config, settings.choices))
        report = Report(autoencoder, data, settings.noise, tracker)
        if progress.step == 0:
            report.start()
        progress = settings.trainer.fit(parts, progress, tracker, report, checkpoints)
        checkpoint.load_model(checkpoints / checkpoint.BEST, autoencoder)
        summary = summarise(settings, parts, progress)
        tracker.scalars({f"test/{name}": value for name, value in summary["test"].items()}, progress.step)
        tracker.scalars({f"baseline/{name}": value for name, value in summary["baselines"].items()}, progress.step)
        report.final(progress.step, settings.trainer.tsne)
        draw_curves(folder, tracker, progress.step)
        tracker.finished()
    summary["wall_seconds"] = time.perf_counter() - started
    write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def prepare(settings: Settings) -> torch.device:
    """Choose the device, and put torch's process-wide state where this run wants it, whatever ran before."""
    device = choose_device(settings.trainer.device)
    torch.set_num_threads(settings.trainer.threads or default_threads())
    deterministic = settings.trainer.deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if deterministic != torch.are_deterministic_algorithms_enabled():
        # Not called for nothing: it imports torch's compiler, which takes as long as torch itself.
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    seed_everything(settings.seed)
    return device


def check_data(settings: Settings, data: Data) -> None:
    """Refuse what only the data can tell. ConfigError names the key."""
    if settings.loss.takes_logits:
        for split in (data.train, data.test):
            if split.targets.dtype != torch.uint8 and not in_unit_range(split.targets):
                low, high = float(split.targets.min()), float(split.targets.max())
                raise ConfigError(f"loss=bce: needs targets in [0,1], the data reach from {low:g} to {high:g}")


def build_autoencoder(settings: Settings, data: Data) -> Autoencoder:
    """The model of ``settings`` for the shape of ``data``, with fresh weights from torch's global generator."""
    model, latent, sparsity = settings.model, settings.latent, settings.sparsity
    try:
        codec = model.build(data.input_shape, data.output_shape, latent.parameters_per_code)
    except ValueError as error:
        raise ConfigError(f"{settings.name('model')} and {settings.name('dataset')}: {error}") from error
    k = getattr(sparsity, "k", None)
    if k is not None and k > (available := math.prod(codec.code_shape[1:] or codec.code_shape)):
        where = "positions of each channel" if codec.code_shape[1:] else "units"
        raise ConfigError(
            f"{settings.name('model')} and {settings.name('sparsity')}: sparsity.k={k}, but the code, "
            f"{list(codec.code_shape)}, has only {available} {where}"
        )
    if latent.parameters_per_code > 1:
        # Means and log-variances are read off the linear features; the code has no nonlinearity of its own.
        sparsity = dataclasses.replace(sparsity, activation="identity")
    return Autoencoder(
        codec.encoder,
        codec.decoder,
        input_shape=data.input_shape,
        output_shape=data.output_shape,
        code_shape=codec.code_shape,
        sparsity=sparsity,
        latent=latent,
        output_activation="sigmoid" if settings.loss.takes_logits else getattr(model, "output_activation", "identity"),
        standardise_input=Standardise(*(data.input_statistics or ())),
        standardise_target=Standardise(*(data.target_statistics or ())),
    )


def build_optimizer(settings: Settings, autoencoder: Autoencoder) -> torch.optim.Optimizer:
    """The optimizer, its groups' base rates noted as ``initial_lr``."""
    factory = settings.optimizer
    try:
        optimizer: torch.optim.Optimizer = (
            factory(autoencoder.parameters())
            if isinstance(factory, functools.partial)
            else factory.build(autoencoder.parameters())
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"optimizer: {error}") from error
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


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


def describe(
    folder: Path,
    config: Mapping[str, Any],
    choices: Mapping[str, str],
    overrides: Sequence[str],
    data: Data,
    device: torch.device,
) -> None:
    """Write what was asked for, and where and with what it runs."""
    from aerun.environment import environment

    write_text(folder / CONFIG, yaml.safe_dump({**config, "resume": None}, sort_keys=False))
    if not (folder / "overrides.yaml").exists():
        asked = {"overrides": list(overrides), "choices": dict(choices)}
        write_text(folder / "overrides.yaml", yaml.safe_dump(asked, sort_keys=False))
    shapes = {"input_shape": list(data.input_shape), "output_shape": list(data.output_shape)}
    counts = {"train": len(data.train), "validation": len(data.validation or ()), "test": len(data.test)}
    dataset = {"checksum": data.checksum, "images": counts, **shapes}
    write_text(folder / "environment.json", json.dumps({**environment(device), "dataset": dataset}, indent=2) + "\n")


def draw_curves(folder: Path, tracker: Tracker, step: int) -> None:
    """Loss and learning-rate curves from metrics.jsonl."""
    from aerun import figures

    lines = read_metrics(folder)

    def series(name: str) -> tuple[list[float], list[float]]:
        points = [(line["epoch"], line[name]) for line in lines if name in line]
        return [x for x, _ in points], [y for _, y in points]

    losses = {name: series(f"{name}/loss") for name in ("train", "validation")}
    losses = {name: points for name, points in losses.items() if points[0]}
    tracker.picture("curves/loss", figures.curves(losses, "loss"), step)
    tracker.picture("curves/learning_rate", figures.curves({"": series("train/learning_rate")}, "learning rate"), step)


def flat(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, bool | float | str]:
    """Settings by dotted key, for a table: numbers are floats, lists are text, nulls are left out.

    A group's own name stands for its option, as chosen on the command line or else as its class is called.
    """
    result: dict[str, bool | float | str] = {}

    def add(node: Mapping[str, Any], path: str) -> None:
        for key, value in node.items():
            dotted = f"{path}.{key}" if path else str(key)
            if isinstance(value, Mapping):
                add(value, dotted)
            elif key == "_target_":
                result[path] = choices.get(path) or str(value).rpartition(".")[2]
            elif value is not None:
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                result[dotted] = float(value) if is_number else value if isinstance(value, bool) else str(value)

    add(config, "")
    return result


def read_config(folder: Path) -> dict[str, Any]:
    """A run folder's resolved configuration; DataError if it is not one."""
    path = folder / CONFIG
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder}: is not a run folder (it has no {CONFIG})") from None
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise DataError(f"{path}: is not the configuration of a run")
    return config


def load(folder: str | os.PathLike[str], device: str = "cpu") -> Autoencoder:
    """The trained model of a run folder, with its best weights, in evaluation mode.

    The data are not needed: their shapes stand in the folder. DataError if the folder is not that of a run.
    """
    folder = Path(folder)
    settings = parse(read_config(folder))
    try:
        shapes = json.loads((folder / "environment.json").read_text())["dataset"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: has no readable environment.json, which says the data's shape ({error})") from error
    autoencoder = build_autoencoder(settings, _shape_only(settings, shapes))
    checkpoint.load_model(folder / CHECKPOINTS / checkpoint.BEST, autoencoder)
    return autoencoder.to(choose_device(device)).eval()


def _shape_only(settings: Settings, shapes: Mapping[str, Any]) -> Data:
    """Data of the right shape without images; statistics, where the run has them, come with the weights."""
    from aerun.dataset.base import Split, statistics

    inputs, targets = (torch.zeros(1, *shapes[name]) for name in ("input_shape", "output_shape"))
    if shapes["input_shape"] == shapes["output_shape"]:
        targets = inputs
    split = Split(inputs, targets, None)
    standardised = getattr(settings.dataset, "normalize", "none") == "standardise"
    both = (statistics(as_float(inputs)), statistics(as_float(targets))) if standardised else (None, None)
    return Data(split, None, split, None, "", *both)


def continued(folder: Path, epochs: int | None) -> tuple[dict[str, Any], bool]:
    """The configuration to continue the run in ``folder`` with, ``epochs`` long if given, and whether anything is
    left to do."""
    config = read_config(folder)
    if epochs is not None:
        config["trainer"]["epochs"] = epochs
    path = folder / SUMMARY
    if not path.exists():
        return config, True
    return config, bool(config["trainer"]["epochs"] > json.loads(path.read_text())["epochs"])


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
    autoencoder = build_autoencoder(settings, data).to(device)
    optimizer = build_optimizer(settings, autoencoder)
    parts = Parts(autoencoder, data, settings.noise, settings.loss, optimizer, settings.scheduler, settings.seed)
    progress = checkpoint.load_model(folder / CHECKPOINTS / checkpoint.BEST, autoencoder)
    after = summarise(settings, parts, progress)
    with Tracker(folder, events=False) as tracker:
        Report(autoencoder, data, settings.noise, tracker).final(before["steps"], settings.trainer.tsne)
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
